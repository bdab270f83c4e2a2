//! Checks a customer's profile: before it is written, and when its record is read.

use recommendation_api::EventError;
use recommendation_api::records::CustomerProfile;
use serde_json::{Map, Value};

/// Most attributes.
const MAX_ATTRIBUTES: usize = 100;
/// Longest name of an attribute and longest text in one, in bytes.
const MAX_TEXT: usize = 256;
/// Longest list in an attribute.
const MAX_VALUES: usize = 50;
/// Longest e-mail address (RFC 5321).
const MAX_ADDRESS: usize = 254;
const ALIAS: &str = "alias_of";
const FIELDS: [&str; 3] = ["attributes", "email", "consent"];

fn invalid(field: &'static str, problem: impl Into<String>) -> EventError {
    EventError::InvalidField {
        field,
        problem: problem.into(),
    }
}

/// A profile from a JSON object, as `PUT /v1/customers/{id}/profile` takes it. The address comes back trimmed.
pub fn parse_profile(mut map: Map<String, Value>) -> Result<CustomerProfile, EventError> {
    if let Some(unknown) = map.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(EventError::NotJson(format!(
            "{unknown} is not a field of a profile ({})",
            FIELDS.join(", ")
        )));
    }
    map.retain(|_, value| !value.is_null());
    let mut profile = CustomerProfile::default();
    for (name, value) in map {
        match (name.as_str(), value) {
            ("attributes", Value::Object(attributes)) => {
                check_attributes(&attributes)?;
                profile.attributes = attributes.into_iter().collect();
            }
            ("attributes", _) => return Err(invalid("attributes", "must be an object")),
            ("email", Value::String(address)) => {
                let address = address.trim();
                if !is_address(address) {
                    return Err(invalid("email", "must be an e-mail address"));
                }
                profile.email = Some(address.to_owned());
            }
            ("email", _) => return Err(invalid("email", "must be an e-mail address")),
            ("consent", Value::Bool(consent)) => profile.consent = Some(consent),
            _ => return Err(invalid("consent", "must be true or false")),
        }
    }
    Ok(profile)
}

fn check_attributes(attributes: &Map<String, Value>) -> Result<(), EventError> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(invalid("attributes", format!("must be at most {MAX_ATTRIBUTES}")));
    }
    let scalar = |value: &Value| match value {
        Value::String(text) => text.len() <= MAX_TEXT,
        Value::Bool(_) | Value::Number(_) => true,
        _ => false,
    };
    let fits = |value: &Value| match value {
        Value::Array(values) => values.len() <= MAX_VALUES && values.iter().all(scalar),
        other => scalar(other),
    };
    let named = |name: &String| !name.is_empty() && name.len() <= MAX_TEXT;
    if attributes.iter().all(|(name, value)| named(name) && fits(value)) {
        return Ok(());
    }
    Err(invalid(
        "attributes",
        format!(
            "must map names to texts, numbers, booleans or lists of them, each at most {MAX_TEXT} bytes and a list at most {MAX_VALUES} long"
        ),
    ))
}

/// Whether a text may be an e-mail address; whether somebody reads it, only sending tells.
pub fn is_address(text: &str) -> bool {
    text.len() <= MAX_ADDRESS
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && text
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}

/// A record of the profiles topic. `Ok(None)` is a withdrawal: a tombstone. Records of other writers may have
/// more fields than ours.
pub fn parse_record(value: Option<&[u8]>) -> Result<Option<CustomerProfile>, EventError> {
    let Some(value) = value else { return Ok(None) };
    let mut map: Map<String, Value> =
        serde_json::from_slice(value).map_err(|_| EventError::NotJson("a profile".into()))?;
    // Not one of the fields that a customer may write: it says whose the profile is.
    let alias_of = match map.remove(ALIAS) {
        None | Some(Value::Null) => None,
        Some(Value::String(whose)) if !whose.is_empty() => Some(whose),
        Some(_) => return Err(invalid(ALIAS, "must be a customer's id")),
    };
    map.retain(|name, _| FIELDS.contains(&name.as_str()));
    let profile = parse_profile(map)?;
    Ok(Some(CustomerProfile { alias_of, ..profile }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<CustomerProfile, EventError> {
        parse_profile(value.as_object().unwrap().clone())
    }

    #[test]
    fn mistakes_name_their_field() {
        for (value, field) in [
            (json!({"email": "nobody"}), Some("email")),
            (json!({"email": 7}), Some("email")),
            (json!({"consent": "yes"}), Some("consent")),
            (json!({"attributes": ["dry"]}), Some("attributes")),
            (
                json!({"attributes": {"skin": {"type": "dry"}}}),
                Some("attributes"),
            ),
            (json!({"mail": "a@b"}), None),
        ] {
            assert_eq!(parse(value.clone()).unwrap_err().field(), field, "{value}");
        }
    }

    #[test]
    fn a_profile_with_nulls_and_fields_of_others_is_read() {
        let record = br#"{"attributes":{"skin":["dry"]},"email":null,"consent":true,"loyalty":3}"#;
        let profile = parse_record(Some(record)).unwrap().unwrap();
        assert_eq!((profile.email, profile.consent), (None, Some(true)));
        let alias = parse_record(Some(br#"{"alias_of":"ann"}"#)).unwrap().unwrap();
        assert_eq!(alias.alias_of.as_deref(), Some("ann"));
        assert!(parse_record(Some(br#"{"alias_of":7}"#)).is_err());
        assert!(
            parse(json!({"alias_of": "ann"})).is_err(),
            "not a customer's to write"
        );
        assert!(parse_record(None).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_record(Some(&bytes));
        }

        #[test]
        fn no_address_makes_it_panic(email in "\\PC{0,60}") {
            if let Ok(profile) = parse(json!({"email": email})) {
                prop_assert!(is_address(profile.email.as_deref().unwrap_or("a@b")));
            }
        }
    }
}
