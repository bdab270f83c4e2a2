//! Traces of what the operator does: one of each look at a pipeline, with its steps and every call that it makes. Sent by
//! OTLP over HTTP with protobuf bodies.
//!
//! A span travels as OpenTelemetry's current context, and the tracer with it: whoever makes a call has to know of
//! neither. Without a collector none of this does anything. Sampling is chosen by the standard variables
//! `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// Where collectors listen below their address.
const PATH: &str = "/v1/traces";
/// Longest that one export, or the last one at the end, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The exporter refuses its settings.
    #[error("--otlp-endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// What goes along in the context of a traced look.
struct Travelling(SdkTracer);

/// Traces of this process; off unless a collector is configured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<SdkTracerProvider>>);

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

impl Traces {
    /// Sends to the collector at `endpoint` (`http://collector:4318`); an empty one sends nothing. The collector need
    /// not be there: spans are dropped then, never waited for.
    ///
    /// # Errors
    /// [`TraceError`] when the address is none.
    pub fn new(endpoint: &str, instance: Option<&str>) -> Result<Self, TraceError> {
        if endpoint.is_empty() {
            return Ok(Self::default());
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address(endpoint))
            .with_timeout(TIMEOUT)
            .build()?;
        let resource = Resource::builder()
            .with_service_name("recommendation-operator")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attributes(instance.map(|pod| KeyValue::new("service.instance.id", pod.to_owned())));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Self(Some(Arc::new(provider))))
    }

    /// Runs a look at `pipeline` (`namespace/name`) as a trace of its own; `failure` tells what of its outcome is one.
    pub async fn look<F: Future>(
        &self,
        pipeline: &str,
        look: F,
        failure: impl FnOnce(&F::Output) -> Option<&'static str>,
    ) -> F::Output {
        let Some(provider) = &self.0 else {
            return look.await;
        };
        let tracer = provider.tracer("recommendation-operator");
        let span = tracer
            .span_builder("reconcile")
            .with_kind(SpanKind::Internal)
            .with_attributes([KeyValue::new("pipeline", pipeline.to_owned())])
            .start_with_context(&tracer, &Context::new());
        let context = Context::new().with_span(span).with_value(Travelling(tracer));
        let outcome = look.with_context(context.clone()).await;
        if let Some(reason) = failure(&outcome) {
            context.span().set_status(Status::error(reason));
        }
        context.span().end();
        outcome
    }

    /// Sends what is left, at the end of the program. Blocks for some seconds at most.
    pub fn close(&self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(TIMEOUT)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Runs a step, or a call of something else, as a span below the current one; outside of a traced look it is only run.
pub async fn span<F: Future>(name: impl Into<Cow<'static, str>>, kind: SpanKind, work: F) -> F::Output {
    let parent = Context::current();
    let Some(Travelling(tracer)) = parent.get::<Travelling>() else {
        return work.await;
    };
    let span = tracer
        .span_builder(name)
        .with_kind(kind)
        .start_with_context(tracer, &parent);
    let context = parent.with_span(span);
    let outcome = work.with_context(context.clone()).await;
    context.span().end();
    outcome
}

/// A step of a look.
pub async fn step<F: Future>(name: &'static str, work: F) -> F::Output {
    span(name, SpanKind::Internal, work).await
}

/// A collector's address as configured, with the path of traces where it has none.
fn address(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((_, rest)) if !rest.contains('/') => format!("{endpoint}{PATH}"),
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_with_or_without_its_path() {
        for (given, expected) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
        ] {
            assert_eq!(address(given), expected);
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_its_flag() {
        let error = Traces::new("http://[", None).err().unwrap().to_string();
        assert!(error.contains("--otlp-endpoint"), "{error}");
    }

    #[tokio::test]
    async fn without_a_collector_a_look_is_only_run() {
        let traces = Traces::new("", None).unwrap();
        let look = step("dereference", async { Context::current().has_active_span() });
        assert!(!traces.look("default/shop", look, |_| None).await);
        traces.close();
    }
}
