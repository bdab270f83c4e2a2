//! The NetworkPolicy: the public port is open, the internal one to the operator and to monitoring. What leaves the pods
//! is not restricted: Kafka, Redis and snapshot stores are anywhere.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use recommendation_api::names::{Children, INTERNAL_PORT, PUBLIC_PORT};

use super::{metadata, selector};
use crate::validate::ValidatedPipeline;

/// Label of the operator's own pods, as its manifest sets it.
pub const OPERATOR_POD: (&str, &str) = ("app.kubernetes.io/name", "recommendation-operator");
/// Set by the API server on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<NetworkPolicy> {
    let id = &pipeline.id;
    let settings = pipeline.network_policy.as_ref()?;
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(labelled(NAMESPACE_NAME, &settings.operator_namespace)),
        pod_selector: Some(labelled(OPERATOR_POD.0, OPERATOR_POD.1)),
        ip_block: None,
    };
    let monitoring = NetworkPolicyPeer {
        namespace_selector: Some(labelled(NAMESPACE_NAME, &settings.monitoring_namespace)),
        ..NetworkPolicyPeer::default()
    };
    Some(NetworkPolicy {
        metadata: metadata(id, Children(&id.name).workload()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(&id.name)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: None,
                    ports: Some(vec![port(PUBLIC_PORT)]),
                },
                NetworkPolicyIngressRule {
                    from: Some(vec![operator, monitoring]),
                    ports: Some(vec![port(INTERNAL_PORT)]),
                },
            ]),
            egress: None,
        }),
    })
}

fn labelled(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    }
}

fn port(number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
