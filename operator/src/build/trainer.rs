//! What fits models, on schedule a CronJob and on drift a Job of the same template: it reads the log into a model of its own, fits, and leaves what it fitted in the snapshot
//! store, where the replicas find it.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec};
use recommendation_api::names::{CONFIG_DIR, CONFIG_FILE, Children, SECRETS_DIR};

use super::{deployment, metadata};
use crate::validate::ValidatedPipeline;

/// The label of its pods: no Service, budget or policy of the recommender's may take them for replicas.
const NAME: &str = "recommender-trainer";
/// Fitting takes minutes; a log that is read for hours is not read in time for the next fit.
const LONGEST_SECONDS: i64 = 6 * 3_600;

/// A Job that was run because of drift stays for this long, which is longer than what it was run for: the drift of a day
/// against the week before it is over by then. While it is there no other is made for the same drift.
const KEPT_SECONDS: i32 = 8 * 24 * 3_600;

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<CronJob> {
    if !pipeline.trains {
        return None;
    }
    let id = &pipeline.id;
    Some(CronJob {
        metadata: metadata(id, Children(&id.name).workload()),
        spec: Some(CronJobSpec {
            schedule: pipeline.config.model.retrain.schedule.clone(),
            time_zone: Some("Etc/UTC".to_owned()),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(3_600),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(2),
            job_template: JobTemplateSpec {
                spec: Some(job(pipeline)),
                ..JobTemplateSpec::default()
            },
            ..CronJobSpec::default()
        }),
        status: None,
    })
}

/// The Job that fits once, because of a drift that began on `day` (`YYMMDD`).
pub fn once(pipeline: &ValidatedPipeline, day: &str) -> Job {
    let id = &pipeline.id;
    Job {
        metadata: metadata(id, Children(&id.name).fit(day)),
        spec: Some(JobSpec {
            ttl_seconds_after_finished: Some(KEPT_SECONDS),
            ..job(pipeline)
        }),
        status: None,
    }
}

fn job(pipeline: &ValidatedPipeline) -> JobSpec {
    let mut template = deployment::template(pipeline);
    if let Some(metadata) = &mut template.metadata {
        metadata.annotations = None;
        let labels = metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/name".to_owned(), NAME.to_owned());
        // The operator's cache of replicas goes by this one.
        labels.remove(super::MANAGED_BY.0);
    }
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("OnFailure".to_owned());
        spec.topology_spread_constraints = None;
        for container in &mut spec.containers {
            container.name = "trainer".to_owned();
            container.args = Some(vec![
                "model".to_owned(),
                "train".to_owned(),
                "--config".to_owned(),
                format!("{CONFIG_DIR}/{CONFIG_FILE}"),
                "--secrets-dir".to_owned(),
                SECRETS_DIR.to_owned(),
            ]);
            container.ports = None;
            container.startup_probe = None;
            container.readiness_probe = None;
            container.liveness_probe = None;
        }
    }
    JobSpec {
        backoff_limit: Some(2),
        active_deadline_seconds: Some(LONGEST_SECONDS),
        template,
        ..JobSpec::default()
    }
}
