//! Stands in for Prometheus' discovery of Kubernetes, which Debian leaves out of its package: the same targets with the
//! same labels (*Configuration*, section `<kubernetes_sd_config>`, role `endpoints`), in a file. What becomes of them is
//! decided by the relabelling that the Prometheus operator wrote.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::paths::write;

/// Puts a file of targets in the place of every `kubernetes_sd_configs`. Returns the configuration (JSON, which is YAML).
pub(super) fn from_files(config: &str, kubectl: &Kubectl, dir: &Path) -> Result<String> {
    let mut config: Value = serde_saphyr::from_str(config).context("a configuration that is not YAML")?;
    for job in config["scrape_configs"].as_array_mut().into_iter().flatten() {
        let Some(job) = job.as_object_mut() else { continue };
        let Some(discovery) = job.remove("kubernetes_sd_configs") else {
            continue;
        };
        let mut files = Vec::new();
        for namespace in items(&discovery).flat_map(|one| items(&one["namespaces"]["names"])) {
            let namespace = namespace.as_str().context("a namespace without a name")?;
            let file = dir.join(format!("targets-{namespace}.json"));
            let get = |kind: &str| kubectl.json(&format!("get {kind} -n {namespace}"));
            let found = targets(&get("services")?, &get("endpoints")?, &get("pods")?);
            write(&file, &json!(found).to_string())?;
            files.push(file.display().to_string());
        }
        job.insert("file_sd_configs".to_owned(), json!([{"files": files}]));
    }
    Ok(config.to_string())
}

/// A target for each port of each address of each Service.
fn targets(services: &Value, endpoints: &Value, pods: &Value) -> Vec<Value> {
    let named = |list: &Value, name: &Value| {
        items(&list["items"])
            .find(|one| one["metadata"]["name"] == *name)
            .cloned()
    };
    let mut all = Vec::new();
    for endpoint in items(&endpoints["items"]) {
        let Some(service) = named(services, &endpoint["metadata"]["name"]) else {
            continue;
        };
        let mut labels: BTreeMap<String, Value> = BTreeMap::new();
        let mut meta = |name: &str, value: &Value| {
            if value.is_string() {
                labels.insert(format!("__meta_kubernetes_{name}"), value.clone());
            }
        };
        meta("namespace", &service["metadata"]["namespace"]);
        meta("service_name", &service["metadata"]["name"]);
        for (key, value) in service["metadata"]["labels"].as_object().into_iter().flatten() {
            let key = sanitized(key);
            meta(&format!("service_label_{key}"), value);
            meta(&format!("service_labelpresent_{key}"), &json!("true"));
        }
        for subset in items(&endpoint["subsets"]) {
            for (address, port) in
                items(&subset["addresses"]).flat_map(|a| items(&subset["ports"]).map(move |p| (a, p)))
            {
                let mut labels = labels.clone();
                let mut meta = |name: &str, value: &Value| {
                    if value.is_string() {
                        labels.insert(format!("__meta_kubernetes_{name}"), value.clone());
                    }
                };
                meta("endpoint_port_name", &port["name"]);
                meta("endpoint_address_target_kind", &address["targetRef"]["kind"]);
                meta("endpoint_address_target_name", &address["targetRef"]["name"]);
                if address["targetRef"]["kind"] == "Pod"
                    && let Some(pod) = named(pods, &address["targetRef"]["name"])
                {
                    meta("pod_name", &pod["metadata"]["name"]);
                    meta("pod_phase", &pod["status"]["phase"]);
                    meta("pod_container_name", &pod["spec"]["containers"][0]["name"]);
                }
                let ip = address["ip"].as_str().unwrap_or_default();
                all.push(json!({"targets": [format!("{ip}:{}", port["port"])], "labels": labels}));
            }
        }
    }
    all
}

/// A label's name as Prometheus spells it.
fn sanitized(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_carries_what_kubernetes_says_of_its_service_and_pod() {
        let services = json!({"items": [{"metadata": {"name": "shop-internal", "namespace": "default",
            "labels": {"app.kubernetes.io/name": "recommender"}}}]});
        let endpoints = json!({"items": [{"metadata": {"name": "shop-internal"}, "subsets": [{
            "addresses": [{"ip": "10.1.2.3", "targetRef": {"kind": "Pod", "name": "shop-1"}}],
            "ports": [{"name": "internal", "port": 9090}]}]}]});
        let pods = json!({"items": [{"metadata": {"name": "shop-1"}, "status": {"phase": "Running"},
            "spec": {"containers": [{"name": "recommender"}]}}]});
        let found = targets(&services, &endpoints, &pods);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["targets"], json!(["10.1.2.3:9090"]));
        for (label, value) in [
            ("service_label_app_kubernetes_io_name", "recommender"),
            ("service_labelpresent_app_kubernetes_io_name", "true"),
            ("endpoint_port_name", "internal"),
            ("pod_phase", "Running"),
            ("pod_container_name", "recommender"),
        ] {
            assert_eq!(
                found[0]["labels"][format!("__meta_kubernetes_{label}")],
                value,
                "{label}"
            );
        }
    }
}
