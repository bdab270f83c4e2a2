//! metrics-server as a process of this machine: the API server reaches it where an APIService says, as it would a pod.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::cluster::Cluster;
use crate::kubectl::Poll;
use crate::stack::process::Daemon;
use crate::stack::run::accepts;

/// Where it listens.
const PORT: u16 = 9492;

/// Starts it, and waits until the API server answers with what it measured.
pub(super) fn start(cluster: &Cluster, program: &Path) -> Result<()> {
    let stack = cluster.stack()?;
    let (run, kubeconfig) = (&stack.run, stack.kubeconfig.display().to_string());
    let daemon = Daemon::new("metrics-server", program).args([
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={PORT}"),
        format!("--cert-dir={}", run.path("metrics-server")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // As in its own manifests.
        "--metric-resolution=15s".to_owned(),
        format!("--kubelet-certificate-authority={}", run.path("pki/ca.crt")),
    ]);
    run.processes().start(&daemon)?;
    let name = json!({"name": "metrics-server", "namespace": "kube-system"});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": {"type": "ExternalName", "externalName": "localhost"}},
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            // It signs its certificate itself, and its own manifests say the same.
            "insecureSkipTLSVerify": true,
            "service": {"name": "metrics-server", "namespace": "kube-system", "port": PORT},
        }},
    ]});
    let kubectl = &cluster.place.kubectl;
    run.processes()
        .wait_ready("metrics-server", Duration::from_secs(60), || {
            accepts(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)
        })?;
    kubectl.apply_text(&objects.to_string(), &run.dir().join("metrics-server.json"))?;
    kubectl.until("a measured node", Duration::from_secs(90), || {
        let nodes = kubectl.run("get --raw /apis/metrics.k8s.io/v1beta1/nodes")?;
        let nodes: Value = serde_json::from_str(&nodes)?;
        Ok(match nodes["items"].as_array().and_then(|items| items.first()) {
            Some(node) => {
                println!("ok: the node uses {}", node["usage"]);
                Poll::Done(())
            }
            None => Poll::Waiting("it has measured no node yet".to_owned()),
        })
    })
}
