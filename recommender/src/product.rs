//! Checks a product before it is written to the catalogue: by HTTP, and by `recommender import`.

use recommendation_api::EventError;
use recommendation_api::event::MAX_ID_BYTES;
use recommendation_api::records::Product;
use serde_json::{Map, Value};

/// Longest title, in bytes.
const MAX_TITLE: usize = 1_024;
/// Most tags and most attributes.
const MAX_ENTRIES: usize = 100;
/// Longest embedding.
const MAX_EMBEDDING: usize = 4_096;
const FIELDS: [&str; 8] = [
    "product_id",
    "title",
    "category",
    "tags",
    "price",
    "available",
    "attributes",
    "embedding",
];

fn invalid(field: &'static str, problem: impl Into<String>) -> EventError {
    EventError::InvalidField {
        field,
        problem: problem.into(),
    }
}

/// A product from a JSON object. `id`, where given, wins over the object's own and must not contradict it.
pub fn parse_product(map: Map<String, Value>, id: Option<&str>) -> Result<Product, EventError> {
    if let Some(unknown) = map.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(EventError::NotJson(format!(
            "{unknown} is not a field of a product ({})",
            FIELDS.join(", ")
        )));
    }
    let mut map = map;
    // Ids are often numbers in other systems: the event's reader takes them too.
    if let Some(Value::Number(n)) = map.get("product_id") {
        let text = n.to_string();
        map.insert("product_id".into(), text.into());
    }
    map.retain(|_, value| !value.is_null());
    let mut product: Product = serde_path_to_error::deserialize(Value::Object(map))
        .map_err(|e| wrong_type(&e.path().to_string(), e.inner()))?;
    if let Some(id) = id {
        if !product.product_id.is_empty() && product.product_id != id {
            return Err(invalid("product_id", "differs from the one in the path"));
        }
        product.product_id = id.to_owned();
    }
    check(&product)?;
    Ok(product)
}

fn wrong_type(path: &str, error: &serde_json::Error) -> EventError {
    let top = path.split(['.', '[']).next().unwrap_or_default();
    match FIELDS.into_iter().find(|field| *field == top) {
        Some(field) => invalid(field, format!("has the wrong type: {error}")),
        None => EventError::NotJson(error.to_string()),
    }
}

fn check(product: &Product) -> Result<(), EventError> {
    let id = product.product_id.as_str();
    if id.is_empty() {
        return Err(EventError::MissingField("product_id"));
    }
    if id.len() > MAX_ID_BYTES || id.trim() != id || id.chars().any(char::is_control) {
        return Err(invalid(
            "product_id",
            format!("must be at most {MAX_ID_BYTES} bytes without control characters"),
        ));
    }
    if product.title.len() > MAX_TITLE {
        return Err(invalid("title", format!("is longer than {MAX_TITLE} bytes")));
    }
    if product.category.as_ref().is_some_and(|c| c.len() > MAX_ID_BYTES) {
        return Err(invalid(
            "category",
            format!("is longer than {MAX_ID_BYTES} bytes"),
        ));
    }
    if product.tags.len() > MAX_ENTRIES || product.tags.iter().any(|t| t.len() > MAX_ID_BYTES) {
        return Err(invalid(
            "tags",
            format!("must be at most {MAX_ENTRIES}, each at most {MAX_ID_BYTES} bytes"),
        ));
    }
    if product.price.is_some_and(|p| !p.is_finite() || p < 0.0) {
        return Err(invalid("price", "must be a number that is at least 0"));
    }
    if product.attributes.len() > MAX_ENTRIES {
        return Err(invalid("attributes", format!("must be at most {MAX_ENTRIES}")));
    }
    if product.embedding.len() > MAX_EMBEDDING || product.embedding.iter().any(|x| !x.is_finite()) {
        return Err(invalid(
            "embedding",
            format!("must be at most {MAX_EMBEDDING} finite numbers"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Product, EventError> {
        match serde_json::from_str(text).unwrap() {
            Value::Object(map) => parse_product(map, None),
            _ => panic!("not an object"),
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        for (text, field) in [
            (r#"{"title":"x"}"#, "product_id"),
            (r#"{"product_id":"p","price":-1}"#, "price"),
            (r#"{"product_id":"p","price":"cheap"}"#, "price"),
            (r#"{"product_id":"p","tags":"red"}"#, "tags"),
            (r#"{"product_id":"p","tags":["red",1]}"#, "tags"),
            (r#"{"product_id":" p","title":"x"}"#, "product_id"),
        ] {
            assert_eq!(parse(text).unwrap_err().field(), Some(field), "{text}");
        }
        assert!(
            parse(r#"{"product_id":"p","titel":"x"}"#)
                .unwrap_err()
                .to_string()
                .contains("titel")
        );
    }

    #[test]
    fn nulls_are_absent_and_number_ids_are_texts() {
        let p = parse(r#"{"product_id":22720,"title":"x","price":null,"category":null}"#).unwrap();
        assert_eq!((p.product_id.as_str(), p.price), ("22720", None));
    }

    proptest! {
        #[test]
        fn no_object_makes_it_panic(title in "\\PC{0,40}", price in any::<f64>(), key in "\\PC{0,20}") {
            let mut map = Map::new();
            map.insert("product_id".into(), "p".into());
            map.insert("title".into(), title.into());
            map.insert("price".into(), serde_json::json!(price));
            map.insert(key, Value::Bool(true));
            let _ = parse_product(map, None);
        }
    }
}
