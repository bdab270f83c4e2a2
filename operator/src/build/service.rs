//! The public Service, and a headless one that carries the internal port alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use recommendation_api::names::{Children, INTERNAL_PORT, PUBLIC_PORT};
use recommendation_api::pipeline::exposure::ServiceType;

use super::{metadata, selector_labels};
use crate::validate::ValidatedPipeline;

/// Tells the two Services apart; the ServiceMonitor selects `internal`.
pub(super) const COMPONENT: &str = "app.kubernetes.io/component";

pub(super) fn build(pipeline: &ValidatedPipeline) -> [Service; 2] {
    [public(pipeline), internal(pipeline)]
}

fn public(pipeline: &ValidatedPipeline) -> Service {
    let id = &pipeline.id;
    let settings = &pipeline.service;
    let kind = match settings.kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let mut service = service(pipeline, Children(&id.name).workload(), "api");
    service.metadata.annotations =
        Some(settings.annotations.clone()).filter(|annotations: &BTreeMap<_, _>| !annotations.is_empty());
    service.spec = Some(ServiceSpec {
        type_: Some(kind.to_owned()),
        ports: Some(vec![ServicePort {
            // What stands in front has to know that TLS is spoken behind it.
            app_protocol: settings.tls.then(|| "https".to_owned()),
            ..port(public_port_name(pipeline), settings.port, PUBLIC_PORT)
        }]),
        ..service.spec.unwrap_or_default()
    });
    service
}

/// Name of the public Service's port.
pub(super) fn public_port_name(pipeline: &ValidatedPipeline) -> &'static str {
    if pipeline.service.tls { "https" } else { "http" }
}

fn internal(pipeline: &ValidatedPipeline) -> Service {
    let mut service = service(
        pipeline,
        Children(&pipeline.id.name).internal_service(),
        "internal",
    );
    service.spec = Some(ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: Some("None".to_owned()),
        // A replica that is still loading has metrics, too.
        publish_not_ready_addresses: Some(true),
        ports: Some(vec![port("internal", i32::from(INTERNAL_PORT), INTERNAL_PORT)]),
        ..service.spec.unwrap_or_default()
    });
    service
}

fn service(pipeline: &ValidatedPipeline, name: String, component: &str) -> Service {
    let mut metadata = metadata(&pipeline.id, name);
    metadata
        .labels
        .get_or_insert_default()
        .insert(COMPONENT.to_owned(), component.to_owned());
    let spec = ServiceSpec {
        selector: Some(selector_labels(&pipeline.id.name)),
        ..ServiceSpec::default()
    };
    Service {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn port(name: &str, port: i32, target: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(
            if target == PUBLIC_PORT { "http" } else { "internal" }.to_owned(),
        )),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
