//! Bodies that are read by hand (because shops write them in several ways), as the document describes them. Tests hold
//! them against the readers.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// Something that a customer did.
#[derive(ToSchema)]
#[schema(as = Event)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct EventBody {
    /// For deduplication within a day; made where it is absent.
    #[schema(max_length = 256)]
    event_id: Option<String>,
    /// Who. Absent with a publishable key: its events belong to their session.
    #[schema(max_length = 256)]
    customer_id: Option<String>,
    /// Which product; not for `email`.
    #[schema(max_length = 256)]
    product_id: Option<String>,
    /// view, click, cart, purchase, return or email, or one of their synonyms; others are kept and count nothing.
    #[schema(min_length = 1, max_length = 256, example = "click")]
    event_type: String,
    /// RFC 3339 or milliseconds since 1970; the time of arrival where it is absent.
    #[schema(value_type = Option<Object>, example = "2026-01-31T12:00:00Z")]
    timestamp: Option<Value>,
    /// How many.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    quantity: Option<f64>,
    /// Price of one.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    price: Option<f64>,
    /// The visit; required with a publishable key.
    #[schema(max_length = 248)]
    session_id: Option<String>,
    /// The recommendation that led to it.
    #[schema(max_length = 256)]
    recommendation_id: Option<String>,
    /// Whatever else; kept, never interpreted.
    properties: Option<BTreeMap<String, Value>>,
}

/// Events: a list, or an object with one.
#[derive(ToSchema)]
#[schema(as = Events)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct EventsBody {
    /// At most a thousand.
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<EventBody>,
}

/// A product of the catalogue.
#[derive(ToSchema)]
#[schema(as = Product)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct ProductBody {
    /// Its id; may be absent where the path has it.
    #[schema(min_length = 1, max_length = 256)]
    product_id: Option<String>,
    /// What a customer reads.
    #[schema(max_length = 1024)]
    title: Option<String>,
    /// One category; paths are written with `/`.
    #[schema(max_length = 256)]
    category: Option<String>,
    /// Free labels.
    #[schema(max_items = 100)]
    tags: Option<Vec<String>>,
    /// Price of one in the shop's currency.
    #[schema(minimum = 0)]
    price: Option<f64>,
    /// `false`: never recommended.
    available: Option<bool>,
    /// Attributes for rules.
    attributes: Option<BTreeMap<String, Value>>,
    /// The shop's own embedding; all products of one length.
    #[schema(max_items = 4096)]
    embedding: Option<Vec<f32>>,
}

/// Products: a list, or an object with one.
#[derive(ToSchema)]
#[schema(as = Products)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct ProductsBody {
    /// At most a thousand.
    #[schema(min_items = 1, max_items = 1000)]
    products: Vec<ProductBody>,
}

/// What a customer tells about themselves. What is absent is forgotten.
#[derive(ToSchema)]
#[schema(as = Profile)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct ProfileBody {
    /// Attributes for rules (`skin_type: dry`): texts, numbers, booleans or lists of them.
    attributes: Option<BTreeMap<String, Value>>,
    /// The address that `/gmail-webhook` knows the customer by.
    #[schema(max_length = 254, example = "ann@example.com")]
    email: Option<String>,
    /// Consent to personalisation.
    consent: Option<bool>,
}

/// An event as other systems send it.
#[derive(ToSchema)]
#[schema(as = Webhook)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct WebhookBody {
    /// What happened: a name as `event_type` of an event has it.
    #[schema(min_length = 1, max_length = 256, example = "product_view")]
    event: String,
    /// Who.
    #[schema(min_length = 1, max_length = 256)]
    customer_id: String,
    /// Which product; not for `email`.
    #[schema(max_length = 256)]
    product_id: Option<String>,
    /// For deduplication.
    #[schema(max_length = 256)]
    event_id: Option<String>,
}

/// An e-mail, or Gmail's Pub/Sub push envelope (`message` is then an object).
#[derive(ToSchema)]
#[schema(as = Email)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub struct EmailBody {
    /// Who wrote.
    #[schema(max_length = 254, example = "ann@example.com")]
    email: Option<String>,
    /// Never stored; product ids and titles found in it are.
    subject: Option<String>,
    /// The same; of a push, `{data, messageId}`.
    #[schema(value_type = Option<Object>)]
    message: Option<Value>,
    /// Of a push: its subscription.
    subscription: Option<String>,
}

#[cfg(test)]
mod tests {
    use recommendation_api::Event;
    use serde_json::{Map, json};

    use super::*;

    /// Names of the fields that a schema describes.
    fn described<T: ToSchema>() -> Vec<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    fn with(field: &str, value: Value) -> Map<String, Value> {
        let base = json!({"customer_id": "c", "product_id": "p", "event_type": "click"});
        let mut map = base.as_object().unwrap().clone();
        map.insert(field.to_owned(), value);
        map
    }

    #[test]
    fn the_described_fields_of_an_event_are_those_that_are_read() {
        // A list is good for none of them.
        for field in described::<EventBody>() {
            let error = Event::from_map(with(&field, json!([1])), None).unwrap_err();
            assert_eq!(error.field(), Some(field.as_str()));
        }
        assert_eq!(described::<EventBody>().len(), 10);
    }

    #[test]
    fn the_described_fields_of_products_and_profiles_are_those_that_are_read() {
        for field in described::<ProductBody>() {
            let map = Map::from_iter([(field.clone(), json!({"a": {}}))]);
            let unknown = format!("{field} is not a field");
            if let Err(error) = crate::product::parse_product(map, Some("p")) {
                assert!(!error.to_string().contains(&unknown), "{error}");
            }
        }
        for field in described::<ProfileBody>() {
            let map = Map::from_iter([(field.clone(), json!([1]))]);
            assert_eq!(
                crate::profile::parse_profile(map).unwrap_err().field(),
                Some(field.as_str())
            );
        }
    }
}
