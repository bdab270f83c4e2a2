//! `spec.recommender.model` as the recommender's configuration.

use std::collections::BTreeSet;

use recommendation_api::HumanDuration;
use recommendation_api::config::{ModelConfig, OnnxConfig, RetrainConfig};
use recommendation_api::model::{Algorithm, ModelSource, Provision};
use recommendation_api::pipeline::{RecommendationPipelineSpec, RecommenderSpec};

use super::InvalidSpec;

/// Whether a job fits models: something is fitted, or a schedule is named, and there is a place for the result.
pub(super) fn trains(recommender: &RecommenderSpec) -> bool {
    let model = recommender.model.as_ref();
    let chosen = model.and_then(|m| m.algorithm);
    let arms = recommender.experiments.iter().flatten().flat_map(|e| &e.arms);
    let mut answering = chosen.into_iter().chain(arms.map(|arm| arm.algorithm));
    let fitted = answering.any(|a| matches!(a, Algorithm::Ease | Algorithm::ImplicitAls));
    recommender.snapshots.is_some() && (fitted || model.is_some_and(|m| m.retrain.is_some()))
}

/// Whether the rest of the spec has what an algorithm lives on.
fn possible(algorithm: Algorithm, path: &str, recommender: &RecommenderSpec) -> Result<(), InvalidSpec> {
    let model = recommender.model.as_ref();
    let knowledge = model.and_then(|model| model.knowledge.as_ref());
    let has = Provision {
        store: recommender.snapshots.is_some(),
        onnx: model.is_some_and(|model| model.onnx.is_some()),
        rules: knowledge.is_some_and(|knowledge| !knowledge.rules.is_empty()),
        pairs: recommender.limits.as_ref().and_then(|limits| limits.neighbors) != Some(0),
    };
    match algorithm.lacks(has, "spec.recommender.") {
        None => Ok(()),
        Some(lack) => Err(InvalidSpec::new(path, format!("{} {lack}", algorithm.name()))),
    }
}

/// The model's part of the configuration. `onnx_credentials`: the folder with the credentials of its store.
pub(super) fn config(
    spec: &RecommendationPipelineSpec,
    recommender: &RecommenderSpec,
    onnx_credentials: Option<String>,
) -> Result<ModelConfig, InvalidSpec> {
    let defaults = ModelConfig::default();
    let model = recommender.model.clone().unwrap_or_default();
    let source = model.source.unwrap_or_default();
    if source == ModelSource::Purchases && spec.ksqldb.is_none() {
        return Err(InvalidSpec::new(
            "spec.recommender.model.source",
            "Purchases is what ksqlDB derives: set spec.ksqldb, or use Events",
        ));
    }
    let half_life = model.half_life.unwrap_or(defaults.half_life);
    if half_life == HumanDuration::default() {
        return Err(InvalidSpec::new(
            "spec.recommender.model.halfLife",
            "must be longer than 0s",
        ));
    }
    let mut event_weights = defaults.event_weights;
    let weights = model.event_weights.unwrap_or_default();
    if let Some(name) = weights.keys().find(|name| !event_weights.contains_key(*name)) {
        let known: Vec<&str> = event_weights.keys().map(String::as_str).collect();
        return Err(InvalidSpec::new(
            format!("spec.recommender.model.eventWeights.{name}"),
            format!("only these events have a weight: {}", known.join(", ")),
        ));
    }
    event_weights.extend(weights);
    let retrain = model.retrain.clone().unwrap_or_default();
    let schedule = retrain.schedule.unwrap_or(defaults.retrain.schedule);
    if schedule.split_whitespace().count() != 5 {
        return Err(InvalidSpec::new(
            "spec.recommender.model.retrain.schedule",
            format!("{schedule:?} is no cron schedule: minute, hour, day of month, month, day of week"),
        ));
    }
    let algorithm = model.algorithm.unwrap_or_default();
    possible(algorithm, "spec.recommender.model.algorithm", recommender)?;
    let mut names = BTreeSet::new();
    for (e, experiment) in recommender.experiments.iter().flatten().enumerate() {
        // Customers' arms follow from the name.
        if !names.insert(&experiment.name) {
            return Err(InvalidSpec::new(
                format!("spec.recommender.experiments[{e}].name"),
                format!(
                    "{:?} stands twice: every experiment needs a name of its own",
                    experiment.name
                ),
            ));
        }
        for (a, arm) in experiment.arms.iter().enumerate() {
            let path = format!("spec.recommender.experiments[{e}].arms[{a}].algorithm");
            possible(arm.algorithm, &path, recommender)?;
        }
    }
    Ok(ModelConfig {
        algorithm,
        source,
        neighbors: model.neighbors.unwrap_or(defaults.neighbors),
        event_weights,
        history_length: model.history_length.unwrap_or(defaults.history_length),
        half_life,
        diversity: model.diversity.unwrap_or(defaults.diversity),
        exploration: model.exploration.unwrap_or(defaults.exploration),
        retrain: RetrainConfig {
            schedule,
            on_drift: retrain.on_drift.unwrap_or_default(),
        },
        onnx: model.onnx.map(|onnx| OnnxConfig {
            url: onnx.url,
            credentials_dir: onnx_credentials,
        }),
        knowledge: model.knowledge.map(|k| k.rules).unwrap_or_default(),
    })
}
