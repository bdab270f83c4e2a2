//! Traces: from the request that brings an event, over Kafka, to the model that has learned it; and from the request
//! for recommendations to the model that answers. Sent by OTLP over HTTP with protobuf bodies.
//!
//! The context travels as W3C `traceparent`: in from HTTP, on in the headers of Kafka records, and out of them
//! again at ingest. Without a collector none of this does anything. Sampling follows the caller's decision, and
//! for requests without one the standard variables `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// The header that carries the context, over HTTP and in Kafka.
pub const TRACEPARENT: &str = "traceparent";
/// Where collectors listen below their address.
const PATH: &str = "/v1/traces";
/// Longest that one export, or the last one at the end, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The exporter refuses its settings.
    #[error("telemetry.otlpEndpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
}

struct On {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    propagator: TraceContextPropagator,
}

/// Traces of one service; off unless a collector is configured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<std::sync::Arc<On>>);

impl Traces {
    /// Sends to the collector at `endpoint` (`http://collector:4318`); an empty one sends nothing. The collector
    /// need not be there: spans are dropped then, never waited for.
    pub fn new(endpoint: &str, pipeline: &str) -> Result<Self, TraceError> {
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
            .with_service_name("recommender")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", pipeline.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let on = On {
            tracer: provider.tracer("recommender"),
            provider,
            propagator: TraceContextPropagator::new(),
        };
        Ok(Self(Some(std::sync::Arc::new(on))))
    }

    /// Whether spans are made at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A span of one request, below the caller's if its headers name one. Its path is never in it: customers'
    /// ids stay out of traces as they stay out of logs.
    pub fn request(&self, method: &'static str, route: &str, headers: &HeaderMap) -> Option<Context> {
        let on = self.0.as_ref()?;
        let parent = on
            .propagator
            .extract_with_context(&Context::new(), &Headers(headers));
        let span = on
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
            ])
            .start_with_context(&on.tracer, &parent);
        Some(parent.with_span(span))
    }

    /// The request was answered.
    pub fn answered(context: &Context, status: u16) {
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            span.set_status(Status::error(""));
        }
        span.end();
    }

    /// A span below the current one, for as long as the context is kept; `None` outside of traced requests.
    pub fn step(&self, name: &'static str, kind: SpanKind) -> Option<Step> {
        let on = self.0.as_ref()?;
        let parent = Context::current();
        parent.has_active_span().then(|| {
            let span = on.tracer.span_builder(name).with_kind(kind);
            Step(parent.with_span(span.start_with_context(&on.tracer, &parent)))
        })
    }

    /// The context of a step as a `traceparent`, for whoever goes on with it elsewhere.
    pub fn traceparent(&self, step: &Step) -> Option<String> {
        let mut carrier = Carrier(None);
        self.0.as_ref()?.propagator.inject_context(&step.0, &mut carrier);
        carrier.0
    }

    /// An event that came with this `traceparent` was learned between these times.
    pub fn learned(&self, traceparent: String, begun: SystemTime, ended: SystemTime) {
        let Some(on) = &self.0 else { return };
        let parent = on
            .propagator
            .extract_with_context(&Context::new(), &Carrier(Some(traceparent)));
        if !parent.has_active_span() {
            return; // nobody's: a span of its own would say nothing
        }
        let span = on.tracer.span_builder("learn").with_kind(SpanKind::Consumer);
        let span = span
            .with_start_time(begun)
            .start_with_context(&on.tracer, &parent);
        parent.with_span(span).span().end_with_timestamp(ended);
    }

    /// Sends what is left, at the end of the program. Blocks for some seconds at most.
    pub fn close(&self) {
        if let Some(on) = &self.0
            && let Err(error) = on.provider.shutdown_with_timeout(TIMEOUT)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// A span that ends when this is dropped.
pub struct Step(Context);

impl Drop for Step {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// A collector's address as configured, with the path of traces where it has none.
fn address(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((_, rest)) if !rest.contains('/') => format!("{endpoint}{PATH}"),
        _ => endpoint.to_owned(),
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A `traceparent` alone; vendors' `tracestate` is not carried on.
struct Carrier(Option<String>);

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
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
    fn without_a_collector_nothing_is_made() {
        let traces = Traces::new("", "shop").unwrap();
        assert!(!traces.is_on());
        assert!(traces.request("GET", "/", &HeaderMap::new()).is_none());
        assert!(traces.step("recommend", SpanKind::Internal).is_none());
        traces.learned("nonsense".into(), SystemTime::now(), SystemTime::now());
        traces.close();
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_field() {
        let error = Traces::new("http://[", "shop").err().unwrap().to_string();
        assert!(error.contains("telemetry.otlpEndpoint"), "{error}");
    }
}
