//! The Ingress in front of the public Service.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use recommendation_api::names::Children;

use super::metadata;
use super::service::public_port_name;
use crate::validate::ValidatedPipeline;

pub(super) fn build(pipeline: &ValidatedPipeline) -> Option<Ingress> {
    let id = &pipeline.id;
    let settings = pipeline.ingress.as_ref()?;
    let service = IngressServiceBackend {
        name: Children(&id.name).workload(),
        port: Some(ServiceBackendPort {
            name: Some(public_port_name(pipeline).to_owned()),
            number: None,
        }),
    };
    let path = HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(service),
            resource: None,
        },
    };
    let host = Some(settings.host.clone());
    Some(Ingress {
        metadata: metadata(id, Children(&id.name).workload()),
        spec: Some(IngressSpec {
            ingress_class_name: settings.class_name.clone().filter(|name| !name.is_empty()),
            rules: Some(vec![IngressRule {
                host: host.clone(),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: settings
                .tls_secret_name
                .clone()
                .filter(|name| !name.is_empty())
                .map(|secret| {
                    vec![IngressTLS {
                        hosts: host.map(|host| vec![host]),
                        secret_name: Some(secret),
                    }]
                }),
            ..IngressSpec::default()
        }),
        status: None,
    })
}
