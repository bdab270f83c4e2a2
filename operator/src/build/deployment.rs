//! The recommender's pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
    KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use recommendation_api::RecommenderConfig;
use recommendation_api::names::{
    CONFIG_DIR, CONFIG_FILE, CONFIG_HASH, Children, INTERNAL_PORT, PUBLIC_PORT, SECRETS_DIR, SECRETS_HASH,
};
use serde_json::Value;

use super::{RUN_AS, labels, metadata, selector, short_hash};
use crate::validate::{SecretMount, ValidatedPipeline};

/// A replica that reads a long log for the first time has this long, Kafka's outages included.
const STARTUP_SECONDS: i32 = 3_600;
/// Not ready at once, some seconds for load balancers to notice, then the last requests.
const TERMINATION_SECONDS: i64 = 45;

pub(super) fn build(pipeline: &ValidatedPipeline) -> Deployment {
    let id = &pipeline.id;
    Deployment {
        metadata: metadata(id, Children(&id.name).workload()),
        spec: Some(DeploymentSpec {
            replicas: pipeline.workload.replicas,
            selector: selector(&id.name),
            progress_deadline_seconds: Some(STARTUP_SECONDS),
            revision_history_limit: Some(3),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: template(pipeline),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

pub(super) fn template(pipeline: &ValidatedPipeline) -> PodTemplateSpec {
    let id = &pipeline.id;
    let user = &pipeline.workload.template;
    let metadata = user.metadata.clone().unwrap_or_default();
    let mut pod_labels = metadata.labels.unwrap_or_default();
    // The user's labels first: those that select the pods always win.
    pod_labels.extend(labels(id));
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(CONFIG_HASH.to_owned(), config_hash(pipeline));
    if !pipeline.restart_secrets.is_empty() {
        let hash = short_hash(format!("{:?}", pipeline.restart_secrets).as_bytes());
        annotations.insert(SECRETS_HASH.to_owned(), hash);
    }
    let (volumes, _) = volumes(pipeline);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container(pipeline)],
            volumes: Some(volumes),
            service_account_name: Some(
                user.service_account_name
                    .clone()
                    .unwrap_or_else(|| Children(&id.name).workload()),
            ),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(TERMINATION_SECONDS),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(RUN_AS),
                run_as_group: Some(RUN_AS),
                fs_group: Some(RUN_AS),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            node_selector: user.node_selector.clone(),
            tolerations: user.tolerations.clone(),
            affinity: user.affinity.clone(),
            topology_spread_constraints: Some(
                user.topology_spread_constraints
                    .clone()
                    .unwrap_or_else(|| vec![spread(&id.name)]),
            ),
            ..PodSpec::default()
        }),
    }
}

/// Over nodes, as far as possible: one node's loss should not take every replica.
fn spread(name: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector(name)),
        ..TopologySpreadConstraint::default()
    }
}

/// Changes only with what a running recommender cannot take up; everything else reaches it through the mounted
/// ConfigMap without a rollout.
fn config_hash(pipeline: &ValidatedPipeline) -> String {
    let part = serde_json::to_value(pipeline.config.restart_part()).unwrap_or_default();
    let defaults = serde_json::to_value(RecommenderConfig::default()).unwrap_or_default();
    short_hash(differing(part, &defaults).to_string().as_bytes())
}

/// What is not as it is by default. An operator that knows a field more renders its default into every configuration,
/// and no pod has to be started again for that.
fn differing(value: Value, default: &Value) -> Value {
    match (value, default) {
        (Value::Object(map), Value::Object(defaults)) => map
            .into_iter()
            .filter(|(key, value)| defaults.get(key) != Some(value))
            .map(|(key, value)| {
                let default = defaults.get(&key).unwrap_or(&Value::Null);
                (key, differing(value, default))
            })
            .collect(),
        (value, _) => value,
    }
}

fn container(pipeline: &ValidatedPipeline) -> Container {
    let (_, mounts) = volumes(pipeline);
    Container {
        name: "recommender".to_owned(),
        image: Some(pipeline.workload.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec![
            "serve".to_owned(),
            "--config".to_owned(),
            format!("{CONFIG_DIR}/{CONFIG_FILE}"),
            "--secrets-dir".to_owned(),
            SECRETS_DIR.to_owned(),
            "--listen".to_owned(),
            format!("0.0.0.0:{PUBLIC_PORT}"),
            "--internal-listen".to_owned(),
            format!("0.0.0.0:{INTERNAL_PORT}"),
        ]),
        ports: Some(vec![port("http", PUBLIC_PORT), port("internal", INTERNAL_PORT)]),
        resources: Some(pipeline.workload.resources.clone().unwrap_or_else(resources)),
        startup_probe: Some(Probe {
            failure_threshold: Some(STARTUP_SECONDS / 2),
            ..probe("/startupz", 2)
        }),
        readiness_probe: Some(probe("/readyz", 2)),
        liveness_probe: Some(probe("/healthz", 10)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("internal".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// Enough for a catalogue of some ten thousand products; no CPU limit, because throttling is what makes tail latency.
fn resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "100m"), ("memory", "256Mi")])),
        limits: Some(quantities(&[("memory", "2Gi")])),
        ..ResourceRequirements::default()
    }
}

fn volumes(pipeline: &ValidatedPipeline) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: Children(&pipeline.id.name).config(),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ];
    let mut mounts = vec![mount("config", CONFIG_DIR, true), mount("tmp", "/tmp", false)];
    for secret in &pipeline.mounts {
        let name = format!("secret-{}", secret.folder);
        mounts.push(mount(&name, &format!("{SECRETS_DIR}/{}", secret.folder), true));
        volumes.push(Volume {
            name,
            secret: Some(secret_source(secret)),
            ..Volume::default()
        });
    }
    (volumes, mounts)
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn secret_source(secret: &SecretMount) -> SecretVolumeSource {
    SecretVolumeSource {
        secret_name: Some(secret.secret.clone()),
        default_mode: Some(0o440),
        items: secret.item.as_ref().map(|(key, file)| {
            vec![KeyToPath {
                key: key.clone(),
                path: file.clone(),
                ..KeyToPath::default()
            }]
        }),
        ..SecretVolumeSource::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operator_that_knows_a_field_more_rolls_no_pods() {
        let defaults = json!({"a": 1, "part": {"b": [1], "c": 2.5}});
        let set = json!({"a": 1, "part": {"b": [2], "c": 2.5}, "own": {"x": 0}});
        let before = differing(set.clone(), &defaults);
        assert_eq!(before, json!({"part": {"b": [2]}, "own": {"x": 0}}));
        let (mut known, mut rendered) = (defaults.clone(), set);
        for value in [&mut known, &mut rendered] {
            value["new"] = json!({"deep": true});
            value["part"]["new"] = json!("default");
        }
        assert_eq!(differing(rendered.clone(), &known), before);
        rendered["part"]["new"] = json!("other");
        assert_ne!(differing(rendered, &known), before, "but one that is set counts");
    }
}
