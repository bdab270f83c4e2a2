//! Between the configuration and records that the programs share and the engine, which knows neither.

use std::collections::BTreeMap;

use recommendation_api::config::RecommenderConfig;
use recommendation_api::model::PurchasedPolicy;
use recommendation_api::pipeline::recommender::{Histories, RuleEffect};
use recommendation_api::records::Product;
use recommendation_api::{EventError, EventType};
use recommender_engine as engine;
use recommender_engine::{EngineConfig, EventKind, ProductMeta, Tuning};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Why a model configuration is refused; the message names the field.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The engine refuses it.
    #[error("model.{0}")]
    Refused(#[from] engine::ConfigError),
    /// An event type that has no weight here.
    #[error("model.eventWeights: {0:?} is not one of view, click, cart, purchase, email")]
    UnknownWeight(String),
    /// A row that cannot hold the neighbours that are kept.
    #[error(
        "limits.neighbors: {counted} is below model.neighbors ({kept}): count at least as many as are kept, or 0 for none"
    )]
    FewNeighbors {
        /// `limits.neighbors`.
        counted: u32,
        /// `model.neighbors`.
        kept: u32,
    },
    /// A rule's weight that is none.
    #[error("model.knowledge[{0}].weight: must be between 0 and 100")]
    RuleWeight(usize),
    /// An algorithm that this version does not know.
    #[error("model.algorithm: {0} is not known")]
    UnknownAlgorithm(&'static str),
}

/// The part that a running engine takes up.
#[allow(
    clippy::needless_update,
    reason = "the engine may come to have parts that are not configured here"
)]
pub fn tuning(config: &RecommenderConfig) -> Result<Tuning, ModelError> {
    let model = &config.model;
    let name = model.algorithm.name();
    // A type that is not named has weight 0.
    let mut weights = engine::EventWeights {
        view: 0.0,
        click: 0.0,
        cart: 0.0,
        purchase: 0.0,
        email: 0.0,
    };
    for (name, weight) in &model.event_weights {
        let slot = match EventType::from_name(name) {
            EventType::View => &mut weights.view,
            EventType::Click => &mut weights.click,
            EventType::Cart => &mut weights.cart,
            EventType::Purchase => &mut weights.purchase,
            EventType::Email => &mut weights.email,
            EventType::Return | EventType::Other(_) => return Err(ModelError::UnknownWeight(name.clone())),
        };
        *slot = *weight as f32;
    }
    let tuning = Tuning {
        algorithm: engine::Algorithm::from_name(name).ok_or(ModelError::UnknownAlgorithm(name))?,
        event_weights: weights,
        history_length: model.history_length as usize,
        rules: engine::Rules {
            purchased: match config.rules.purchased {
                PurchasedPolicy::Exclude => engine::PurchasedPolicy::Exclude,
                PurchasedPolicy::Include => engine::PurchasedPolicy::Include,
            },
            exclude_products: config.rules.exclude_products.clone(),
            pin: config.rules.pin.clone(),
            max_per_category: config.rules.max_per_category as usize,
        },
        diversity: model.diversity as f32,
        exploration: model.exploration as f32,
        // What the engine tunes by itself.
        ..Tuning::default()
    };
    tuning.validate()?;
    Ok(tuning)
}

/// The rules between attributes, as the engine takes them; a running one takes them up too.
pub fn knowledge(config: &RecommenderConfig) -> Result<Vec<engine::KnowledgeRule>, ModelError> {
    let rules = config.model.knowledge.iter().enumerate().map(|(n, rule)| {
        let weight = rule.weight.unwrap_or(1.0);
        if !(0.0..=100.0).contains(&weight) {
            return Err(ModelError::RuleWeight(n));
        }
        Ok(engine::KnowledgeRule {
            customer_attribute: rule.customer_attribute.clone(),
            product_attribute: rule.product_attribute.clone(),
            effect: match rule.effect {
                RuleEffect::Must => engine::Effect::Must,
                RuleEffect::Should => engine::Effect::Should,
                RuleEffect::Never => engine::Effect::Never,
            },
            weight: weight as f32,
        })
    });
    rules.collect()
}

/// Everything that the engine is told at its start.
pub fn engine_config(config: &RecommenderConfig) -> Result<EngineConfig, ModelError> {
    let neighbors = config.model.neighbors as usize;
    if config.limits.neighbors != 0 && config.limits.neighbors < config.model.neighbors {
        return Err(ModelError::FewNeighbors {
            counted: config.limits.neighbors,
            kept: config.model.neighbors,
        });
    }
    let config = EngineConfig {
        tuning: tuning(config)?,
        neighbors,
        half_life_ms: config.model.half_life.as_millis(),
        max_events_per_minute: config.quality.max_events_per_minute,
        recalls: config.histories == Histories::Redis,
        limits: engine::Limits {
            max_products: usize::try_from(config.limits.max_products).unwrap_or(usize::MAX),
            max_customers: usize::try_from(config.limits.max_customers).unwrap_or(usize::MAX),
            row_capacity: config.limits.neighbors as usize,
            postings: config.limits.postings as usize,
            // Ids are remembered per partition by the service, in record time.
            dedup_ids: 0,
            ..engine::Limits::default()
        },
        knowledge: knowledge(config)?,
        ..EngineConfig::default()
    };
    config.validate()?;
    Ok(config)
}

/// Names what an answer was computed with: equal on every replica that runs the same program with the same
/// configuration, different after a change of either.
pub fn version(config: &EngineConfig) -> String {
    let text = serde_json::to_vec(config).unwrap_or_default();
    let digest = Sha256::digest(&text);
    format!("{}-{}", env!("CARGO_PKG_VERSION"), &hex::encode(digest)[..8])
}

/// The engine's kind of an event.
pub fn kind(event_type: &EventType) -> EventKind {
    match event_type {
        EventType::View => EventKind::View,
        EventType::Click => EventKind::Click,
        EventType::Cart => EventKind::Cart,
        EventType::Purchase => EventKind::Purchase,
        EventType::Return => EventKind::Return,
        EventType::Email => EventKind::Email,
        EventType::Other(_) => EventKind::Other,
    }
}

/// A catalogue record as the engine takes it.
pub fn meta(product: Product) -> ProductMeta {
    let filled = |s: String| (!s.is_empty()).then_some(s);
    ProductMeta {
        title: filled(product.title),
        category: product.category.and_then(filled),
        tags: product.tags,
        price: product.price,
        available: product.available.unwrap_or(true),
        attributes: attributes(product.attributes),
        embedding: (!product.embedding.is_empty()).then_some(product.embedding),
    }
}

/// And back, for whoever asks what is known of a product. Attributes come back as lists of texts.
pub fn product(id: &str, meta: ProductMeta) -> Product {
    let attributes: BTreeMap<String, Value> = meta
        .attributes
        .into_iter()
        .map(|(name, texts)| (name, Value::from(texts)))
        .collect();
    Product {
        product_id: id.to_owned(),
        title: meta.title.unwrap_or_default(),
        category: meta.category,
        tags: meta.tags,
        price: meta.price,
        available: Some(meta.available),
        attributes,
        embedding: meta.embedding.unwrap_or_default(),
    }
}

/// A record of the catalogue topic. `Ok(None)` is a withdrawal: a tombstone. A field that is null is absent, as
/// connectors and ksqlDB write it.
pub fn parse_product(value: Option<&[u8]>) -> Result<Option<ProductMeta>, EventError> {
    let Some(value) = value else { return Ok(None) };
    let mut map: Map<String, Value> =
        serde_json::from_slice(value).map_err(|e| EventError::NotJson(e.to_string()))?;
    map.retain(|_, value| !value.is_null());
    let product: Product = serde_path_to_error::deserialize(Value::Object(map))
        .map_err(|e| EventError::NotJson(e.to_string()))?;
    Ok(Some(meta(product)))
}

/// Attributes as the engine matches them: every value is a list of texts.
pub fn attributes(attributes: BTreeMap<String, Value>) -> recommender_engine::Attributes {
    attributes
        .into_iter()
        .map(|(name, value)| (name, texts(value)))
        .collect()
}

fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(s) => vec![s],
        Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use recommendation_api::pipeline::recommender::KnowledgeRule;

    use super::*;

    #[test]
    fn the_default_configuration_is_accepted() {
        assert!(engine_config(&RecommenderConfig::default()).is_ok());
    }

    #[test]
    fn a_weight_for_an_unknown_event_type_is_refused_by_name() {
        let mut config = RecommenderConfig::default();
        config.model.event_weights.insert("wishlist".into(), 1.0);
        assert!(
            engine_config(&config)
                .unwrap_err()
                .to_string()
                .contains("wishlist")
        );
    }

    #[test]
    fn limits_and_rules_reach_the_engine() {
        let mut config = RecommenderConfig::default();
        let defaults = engine_config(&config).unwrap();
        assert_eq!(
            defaults.limits.row_capacity,
            engine::Limits::default().row_capacity
        );
        assert_eq!(defaults.limits.postings, engine::Limits::default().postings);
        (config.limits.neighbors, config.limits.postings) = (300, 7);
        config.model.knowledge = vec![KnowledgeRule {
            customer_attribute: "skin".into(),
            product_attribute: "for_skin".into(),
            effect: RuleEffect::Must,
            weight: None,
        }];
        let told = engine_config(&config).unwrap();
        assert_eq!((told.limits.row_capacity, told.limits.postings), (300, 7));
        let rule = &told.knowledge[0];
        assert_eq!(
            (&*rule.customer_attribute, &*rule.product_attribute),
            ("skin", "for_skin")
        );
        assert_eq!((rule.effect, rule.weight), (engine::Effect::Must, 1.0));
        config.model.knowledge[0].weight = Some(-1.0);
        let error = engine_config(&config).unwrap_err().to_string();
        assert!(error.contains("model.knowledge[0].weight"), "{error}");
        config.model.knowledge.clear();
        config.limits.neighbors = 0;
        assert_eq!(engine_config(&config).unwrap().limits.row_capacity, 0);
        config.limits.neighbors = 50;
        let error = engine_config(&config).unwrap_err().to_string();
        assert!(error.contains("limits.neighbors"), "{error}");
    }

    #[test]
    fn versions_differ_with_the_configuration_only() {
        let a = engine_config(&RecommenderConfig::default()).unwrap();
        let mut changed = RecommenderConfig::default();
        changed.model.neighbors = 5;
        assert_eq!(version(&a), version(&a.clone()));
        assert_ne!(version(&a), version(&engine_config(&changed).unwrap()));
    }

    #[test]
    fn a_product_survives_the_way_through_the_engine() {
        let text =
            r#"{"title":"Mug","category":"kitchen","tags":["red"],"price":2.5,"attributes":{"skin":"dry"}}"#;
        let meta = parse_product(Some(text.as_bytes())).unwrap().unwrap();
        assert_eq!(meta.attributes["skin"], ["dry"]);
        let product = product("m", meta);
        assert_eq!(
            (product.title.as_str(), product.price, product.available),
            ("Mug", Some(2.5), Some(true))
        );
        assert!(parse_product(None).unwrap().is_none());
        assert!(parse_product(Some(b"[1")).is_err());
        assert!(parse_product(Some(br#"{"tags":"red"}"#)).is_err());
    }

    #[test]
    fn a_catalogue_record_with_nulls_is_understood() {
        let text =
            br#"{"title":null,"tags":null,"price":null,"attributes":null,"embedding":null,"category":"x"}"#;
        let meta = parse_product(Some(text)).unwrap().unwrap();
        assert_eq!((meta.title, meta.category.as_deref()), (None, Some("x")));
    }
}
