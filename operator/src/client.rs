//! The operator's Kubernetes client: every write asks the fence right before it is sent, and every request is timed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use opentelemetry::trace::SpanKind;
use tower::{BoxError, Layer, Service};

use crate::deadline::Elapsed;
use crate::leader::Fence;
use crate::metrics::Metrics;
use crate::traces;

/// A client behind `fence`.
///
/// # Errors
/// When the configuration cannot be used (certificates, addresses).
pub fn connect(config: Config, fence: Fence, metrics: Arc<Metrics>) -> kube::Result<Client> {
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&Fenced { fence, metrics })
        .build())
}

/// Adds the fence and the clock to a client.
#[derive(Clone, Debug)]
pub struct Fenced {
    /// Asked before each write.
    pub fence: Fence,
    /// Where times and counts go.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for Fenced {
    type Service = FencedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FencedService {
            inner,
            fenced: self.clone(),
        }
    }
}

/// See [`Fenced`].
#[derive(Clone, Debug)]
pub struct FencedService<S> {
    inner: S,
    fenced: Fenced,
}

impl<S> Service<Request<Body>> for FencedService<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Reads harm nobody, and those who wait for the lease may look.
        if request.method() != Method::GET && !self.fenced.fence.holds() {
            return Box::pin(std::future::ready(Err(Elapsed::Deposed.into())));
        }
        let metrics = Arc::clone(&self.fenced.metrics);
        metrics
            .requests
            .with_label_values(&[request.method().as_str()])
            .inc();
        // A watch lasts minutes and says nothing about the server.
        let timed = !request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let begun = Instant::now();
        // No name of an object: a span's name is a kind of work.
        let name = format!("kubernetes {}", request.method());
        let call = self.inner.call(request);
        // Only here is it known for whom: the client calls from a task of its own.
        Box::pin(async move {
            let answer = traces::span(name, SpanKind::Client, call)
                .await
                .map_err(Into::into);
            if timed {
                metrics.dependency("kubernetes", begun);
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn one_that_does_not_lead_reads_and_writes_nothing() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(
                Body::from(body.to_string().into_bytes()),
            )))
        });
        let metrics = Arc::new(Metrics::new().unwrap());
        let fenced = Fenced {
            fence: Fence::closed(),
            metrics: Arc::clone(&metrics),
        };
        let api: Api<ConfigMap> = Api::namespaced(Client::new(fenced.layer(service), "default"), "default");
        api.get("a").await.unwrap();
        let refused = api.delete("a", &Default::default()).await.unwrap_err();
        assert!(format!("{refused:?}").contains("Deposed"), "{refused:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(metrics.requests.with_label_values(&["GET"]).get(), 1);
    }
}
