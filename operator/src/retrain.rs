//! Drift asks for one fit: a Job of the trainer's, beside its schedule.
//!
//! Its name carries the day on which the drift began, so that whatever becomes of this operator in between, a drift is
//! fitted for once, and at most one fit a day is asked for.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use recommendation_api::conditions::types;
use recommendation_api::names::Children;
use recommendation_api::pipeline::recommender::Switch;

use crate::apply::ApplyError;
use crate::build::trainer;
use crate::context::Context;
use crate::deadline;
use crate::dereference::Replicas;
use crate::recorder::Note;
use crate::validate::ValidatedPipeline;

/// The day on which a drift began that asks for a fit, `YYMMDD` in UTC; `None`: nothing does.
fn wanted(pipeline: &ValidatedPipeline, conditions: &[Condition], replicas: &Replicas) -> Option<String> {
    let retrain = &pipeline.config.model.retrain;
    if !pipeline.trains || retrain.on_drift != Switch::Enabled {
        return None;
    }
    let drifted = conditions
        .iter()
        .find(|condition| condition.type_ == types::MODEL_DRIFTED && condition.status == "True")?;
    let began = drifted.last_transition_time.0;
    // The schedule may have come first.
    let mut reports = replicas.pods.iter().filter_map(|pod| pod.report.as_ref());
    let fitted = reports.any(|report| {
        let trained = report.model.trained_at.as_deref();
        let trained = trained.and_then(|at| at.parse::<Timestamp>().ok());
        trained.is_some_and(|at| at >= began)
    });
    (!fitted).then(|| began.to_zoned(TimeZone::UTC).strftime("%y%m%d").to_string())
}

/// Makes the Job that a drift asks for, unless it is there: what is to be told of it, then.
///
/// # Errors
/// Any [`ApplyError`]; the next look tries again.
pub async fn on_drift(
    ctx: &Context,
    pipeline: &ValidatedPipeline,
    conditions: &[Condition],
    replicas: &Replicas,
) -> Result<Option<Note>, ApplyError> {
    let Some(day) = wanted(pipeline, conditions, replicas) else {
        return Ok(None);
    };
    let name = Children(&pipeline.id.name).fit(&day);
    let api: Api<Job> = Api::namespaced(ctx.client.clone(), &pipeline.id.namespace);
    let failed = |source| ApplyError::Apply {
        kind: "Job".to_owned(),
        name: name.clone(),
        source: Box::new(source),
    };
    let late = |source| ApplyError::Timeout {
        kind: "Job".to_owned(),
        name: name.clone(),
        source,
    };
    // A look is no write: a pipeline whose drift lasts is quiet.
    let there = deadline::within(deadline::KUBERNETES, api.get_opt(&name)).await;
    if there.map_err(late)?.map_err(failed)?.is_some() {
        return Ok(None);
    }
    let job = trainer::once(pipeline, &day);
    match deadline::within(deadline::KUBERNETES, api.create(&PostParams::default(), &job)).await {
        // Another operator was faster.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(None),
        Ok(Ok(job)) => {
            let name = job.name_any();
            tracing::info!(%name, "drift asks for a fit");
            Ok(Some(Note {
                warning: false,
                reason: "ModelDrifted".to_owned(),
                message: format!(
                    "Job {name} fits models again, because customers behave otherwise than before"
                ),
            }))
        }
        Ok(Err(source)) => Err(failed(source)),
        Err(source) => Err(late(source)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use recommendation_api::report::StatusReport;
    use serde_json::json;

    use super::*;
    use crate::dereference::ReplicaStatus;
    use crate::fixtures::validated;

    const SNAPSHOTS: &str = "snapshots: {url: 's3://models'}";

    fn pipeline(recommender: &str) -> ValidatedPipeline {
        validated(&format!(
            "{{kafka: {{bootstrapServers: ['k:1']}}, recommender: {{{recommender}}}}}"
        ))
    }

    fn drifted(status: &str) -> Vec<Condition> {
        vec![Condition {
            type_: types::MODEL_DRIFTED.to_owned(),
            status: status.to_owned(),
            reason: "Drifted".to_owned(),
            message: String::new(),
            last_transition_time: Time("2026-03-01T23:30:00Z".parse().unwrap()),
            observed_generation: None,
        }]
    }

    fn trained(at: &str) -> Replicas {
        let report: StatusReport = serde_json::from_value(json!({
            "version": "0.1.0", "phase": "Serving", "events": 1, "lagRecords": 0, "lagSeconds": 0.0, "deadLetters": 0,
            "model": {"algorithm": "Hybrid", "version": "v1", "products": 1, "customers": 1, "trainedAt": at},
            "log": "Up", "redis": "Disabled", "notes": [],
        }))
        .unwrap();
        Replicas {
            pods: vec![ReplicaStatus {
                pod: "shop-0".to_owned(),
                ready: true,
                report: Some(report),
            }],
        }
    }

    #[test]
    fn a_drift_asks_for_one_fit_named_by_the_day_on_which_it_began() {
        let shop = pipeline(&format!("{SNAPSHOTS}, model: {{retrain: {{}}}}"));
        let nobody = Replicas::default();
        let day = Some("260301".to_owned());
        assert_eq!(wanted(&shop, &drifted("True"), &nobody), day);
        assert_eq!(wanted(&shop, &drifted("False"), &nobody), None);
        assert_eq!(wanted(&shop, &[], &nobody), None);
        // What was fitted before it does not count, what was fitted since does.
        assert_eq!(
            wanted(&shop, &drifted("True"), &trained("2026-03-01T03:00:00Z")),
            day
        );
        assert_eq!(
            wanted(&shop, &drifted("True"), &trained("2026-03-02T03:00:00Z")),
            None
        );
    }

    #[test]
    fn it_asks_for_none_where_nothing_is_fitted_or_it_shall_not() {
        let (drift, nobody) = (drifted("True"), Replicas::default());
        for recommender in [
            format!("{SNAPSHOTS}, model: {{retrain: {{onDrift: Disabled}}}}"),
            SNAPSHOTS.to_owned(),
            "model: {algorithm: ItemKnn}".to_owned(),
        ] {
            assert_eq!(
                wanted(&pipeline(&recommender), &drift, &nobody),
                None,
                "{recommender}"
            );
        }
    }

    #[test]
    fn the_job_does_what_the_cron_job_does_and_fits_its_name() {
        let mut shop = pipeline(&format!("{SNAPSHOTS}, model: {{retrain: {{}}}}"));
        shop.id.name = "s".repeat(52);
        let job = trainer::once(&shop, "260301");
        let cron = crate::build::children(&shop).trainer.unwrap();
        let scheduled = cron.spec.unwrap().job_template.spec.unwrap();
        assert_eq!(job.spec.as_ref().unwrap().template, scheduled.template);
        // The label of its pods takes no longer one.
        assert_eq!(job.name_any().len(), 63);
        assert_eq!(job.owner_references().len(), 1);
    }
}
