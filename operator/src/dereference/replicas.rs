//! What each replica says of itself: `GET /status` on its internal port, by pod address, with a short deadline.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use recommendation_api::names::INTERNAL_PORT;
use recommendation_api::report::StatusReport;

use crate::context::Context;
use crate::deadline;

/// What the replicas say.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    /// One a running pod.
    pub pods: Vec<ReplicaStatus>,
}

/// What one replica says.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// The pod.
    pub pod: String,
    /// The pod takes requests.
    pub ready: bool,
    /// Its answer; `None`: it gave none.
    pub report: Option<StatusReport>,
}

/// Asks every running pod of the pipeline that the cache knows.
pub(super) async fn ask(ctx: &Context, namespace: &str, name: &str) -> Replicas {
    let pods = ctx.caches.pods.of(namespace, name);
    let running = pods
        .iter()
        .filter_map(|pod| pod.read().ok())
        .filter(|pod: &Pod| pod.metadata.deletion_timestamp.is_none());
    Replicas {
        pods: join_all(running.filter_map(|pod| Some(one(ctx, address(&pod)?, pod)))).await,
    }
}

fn address(pod: &Pod) -> Option<String> {
    let ip = pod.status.as_ref()?.pod_ip.clone()?;
    // IPv6 addresses stand in brackets in a URL.
    Some(if ip.contains(':') { format!("[{ip}]") } else { ip })
}

async fn one(ctx: &Context, address: String, pod: Pod) -> ReplicaStatus {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let url = format!("http://{address}:{INTERNAL_PORT}/status");
    let answer = async {
        ctx.http
            .get(&url)
            .timeout(deadline::STATUS)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await
    };
    let report = answer
        .await
        .inspect_err(|error: &reqwest::Error| tracing::debug!(%url, %error, "a replica gave no status"))
        .ok();
    ReplicaStatus {
        pod: pod.name_any(),
        ready,
        report,
    }
}
