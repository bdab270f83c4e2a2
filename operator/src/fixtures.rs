//! Pipelines for tests, from the YAML of their spec.

use recommendation_api::pipeline::RecommendationPipeline;

use crate::validate::{InvalidSpec, References, Settings, ValidatedPipeline, validate};

/// The quickstart's spec.
pub const QUICKSTART: &str = "kafka: {bootstrapServers: ['kafka:9092']}";

/// A pipeline `shop` in namespace `default` as an API server would return it.
pub fn pipeline(spec: &str) -> RecommendationPipeline {
    let spec = serde_saphyr::from_str(spec).unwrap();
    let mut pipeline = RecommendationPipeline::new("shop", spec);
    pipeline.metadata.namespace = Some("default".into());
    pipeline.metadata.uid = Some("0b1c7d4e-0000-4000-8000-000000000001".into());
    pipeline.metadata.generation = Some(3);
    pipeline
}

/// The same, validated with nothing to refer to.
pub fn validated(spec: &str) -> ValidatedPipeline {
    try_validated(spec).unwrap()
}

/// The same, which may be refused.
pub fn try_validated(spec: &str) -> Result<ValidatedPipeline, InvalidSpec> {
    validate(&pipeline(spec), &References::default(), &Settings::default())
}
