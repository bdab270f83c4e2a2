//! Reading parameters and bodies, with the field at fault in every refusal. A parameter or field that no
//! route knows is refused too: a misspelt `limt=5` must not look as if it worked.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::StatusCode;
use http::request::Parts;
use recommendation_api::event::MAX_ID_BYTES;
use recommender_engine::Algorithm;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::App;
use super::layers::MAX_BODY;
use super::problem::Problem;

/// Most products in one answer.
pub const MAX_LIMIT: usize = 100;
/// Most ids in one list parameter.
pub const MAX_LIST: usize = 500;

/// Query parameters; one that is given twice is a list.
pub struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        // Any text can be read as pairs; whether they mean something is for the route to say.
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Ok(Self(pairs.collect()))
    }
}

impl Params {
    /// The values of a parameter, in their order.
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let given = self.0.iter().filter(move |(given, _)| given == name);
        given.map(|(_, value)| value.as_str())
    }

    /// Refuses parameters other than these; a publishable key may stand beside any.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let known_here = |name: &str| known.contains(&name) || name == super::caller::KEY_PARAMETER;
        let mut names = self.0.iter().map(|(name, _)| name);
        match names.find(|name| !known_here(name)) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                Err(Problem::field(
                    &name,
                    format!("{name} is not a parameter of this route ({})", known.join(", ")),
                ))
            }
        }
    }

    /// A parameter that may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(Some(value).filter(|value| !value.is_empty())),
            (Some(_), Some(_)) => Err(Problem::field(name, format!("{name} is given more than once"))),
        }
    }

    /// A list: separated by commas, or given several times.
    pub fn list(&self, name: &str) -> Result<Vec<String>, Problem> {
        let values = self.values(name).flat_map(|v| v.split(','));
        let ids: Vec<String> = values
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
            .collect();
        check_list(name, &ids)?;
        Ok(ids)
    }

    /// `limit`, 10 unless given.
    pub fn limit(&self) -> Result<usize, Problem> {
        match self.one("limit")? {
            None => Ok(10),
            Some(text) => check_limit(text.parse().ok()),
        }
    }

    /// A category.
    pub fn category(&self) -> Result<Option<&str>, Problem> {
        let category = self.one("category")?;
        category.map_or(Ok(()), |c| check_id("category", c))?;
        Ok(category)
    }

    /// `true` or `false`; false unless given.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Problem::field(name, format!("{name} must be true or false"))),
        }
    }

    /// A number between 0 and 1.
    pub fn share(&self, name: &str) -> Result<Option<f32>, Problem> {
        let share = |text: &str| text.parse::<f32>().ok().filter(|n| (0.0..=1.0).contains(n));
        match self.one(name)? {
            None => Ok(None),
            Some(text) => share(text)
                .map(Some)
                .ok_or_else(|| Problem::field(name, format!("{name} must be a number between 0 and 1"))),
        }
    }
}

/// A limit within bounds.
pub fn check_limit(limit: Option<usize>) -> Result<usize, Problem> {
    limit.filter(|n| (1..=MAX_LIMIT).contains(n)).ok_or_else(|| {
        Problem::field(
            "limit",
            format!("limit must be a whole number from 1 to {MAX_LIMIT}"),
        )
    })
}

/// An algorithm that this version answers with.
pub fn check_algorithm(name: &str) -> Result<Algorithm, Problem> {
    let served = || {
        Algorithm::ALL
            .into_iter()
            .filter(|a| a.is_served())
            .map(Algorithm::name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Algorithm::from_name(name)
        .filter(|algorithm| algorithm.is_served())
        .ok_or_else(|| Problem::field("algorithm", format!("algorithm must be one of {}", served())))
}

/// An id as events carry it.
pub fn check_id(field: &str, id: &str) -> Result<(), Problem> {
    let problem = match id {
        "" => "must not be empty",
        id if id.len() > MAX_ID_BYTES => "is too long",
        id if id.chars().any(char::is_control) => "contains control characters",
        id if id.trim() != id => "begins or ends with white space",
        _ => return Ok(()),
    };
    Err(Problem::field(field, format!("{field} {problem}")))
}

/// A list of ids.
pub fn check_list(field: &str, ids: &[String]) -> Result<(), Problem> {
    if ids.len() > MAX_LIST {
        return Err(Problem::field(
            field,
            format!("{field} has more than {MAX_LIST} entries"),
        ));
    }
    ids.iter().try_for_each(|id| check_id(field, id))
}

/// The id in a path, with its refusals in our form.
pub struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        id.map(|id| Self(id.0))
            .map_err(|_| Problem::bad_request("the path is not UTF-8 text"))
    }
}

/// The field that a refusal of a whole object is about: "missing field `email` at …".
fn named(refusal: &str) -> Option<&str> {
    let (what, rest) = refusal.split_once(" field `")?;
    let is_about_one = ["missing", "unknown", "duplicate"].contains(&what);
    rest.split('`').next().filter(|_| is_about_one)
}

const NO_OBJECT: &str = "the body must be a JSON object";

/// The raw body, bounded.
pub struct Body(pub Bytes);

impl FromRequest<Arc<App>> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<App>) -> Result<Self, Problem> {
        Bytes::from_request(request, state)
            .await
            .map(Self)
            .map_err(|e| match e.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(MAX_BODY),
                _ => Problem::bad_request("the body could not be read"),
            })
    }
}

impl Body {
    /// The body, an object, as a type; a refusal names the path to what is wrong.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // An array would be taken for its fields in the order in which they were declared.
        match self.0.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => Err(Problem::bad_request(NO_OBJECT)),
            _ => self.parsed(),
        }
    }

    fn parsed<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // Whoever wants to know where something is wrong looks at every field twice: only where something is.
        if let Ok(value) = serde_json::from_slice(&self.0) {
            return Ok(value);
        }
        let mut json = serde_json::Deserializer::from_slice(&self.0);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let path = e.path().to_string();
            let text = e.into_inner().to_string();
            // "?" is where nothing was begun yet.
            if matches!(path.as_str(), "." | "?") {
                match named(&text).map(str::to_owned) {
                    Some(field) => Problem::field(field, text),
                    None => Problem::bad_request(text),
                }
            } else {
                Problem::field(path, text)
            }
        })?;
        json.end().map_err(|e| Problem::bad_request(e.to_string()))?;
        Ok(value)
    }

    /// The body as a JSON object.
    pub fn object(&self) -> Result<Map<String, Value>, Problem> {
        match self.parsed()? {
            Value::Object(map) => Ok(map),
            _ => Err(Problem::bad_request(NO_OBJECT)),
        }
    }

    /// The items of a batch: an array, or an object whose field `name` is one.
    pub fn items(&self, name: &'static str, max: usize) -> Result<Vec<Value>, Problem> {
        let items = match self.parsed()? {
            Value::Array(items) => items,
            Value::Object(mut map) => match map.remove(name) {
                Some(Value::Array(items)) => items,
                _ => return Err(Problem::field(name, format!("{name} must be an array"))),
            },
            _ => {
                return Err(Problem::bad_request(format!(
                    "the body must be an array, or an object with {name}"
                )));
            }
        };
        if items.is_empty() || items.len() > max {
            return Err(Problem::field(
                name,
                format!("{name} must have 1 to {max} entries"),
            ));
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Params(pairs.iter().map(owned).collect())
    }

    #[test]
    fn limits_outside_their_range_are_refused() {
        assert_eq!(params(&[]).limit().unwrap(), 10);
        assert_eq!(params(&[("limit", "100")]).limit().unwrap(), 100);
        for bad in ["0", "101", "-1", "ten", "1e2", "99999999999999999999"] {
            assert!(params(&[("limit", bad)]).limit().is_err(), "{bad}");
        }
        assert!(params(&[("limit", "5"), ("limit", "6")]).limit().is_err());
    }

    #[tokio::test]
    async fn any_query_is_read_as_pairs_and_says_which_of_them_nobody_knows() {
        for (query, pairs) in [
            ("/", &[][..]),
            ("/?", &[]),
            (
                "/?limit=5&category=a+b%26c",
                &[("limit", "5"), ("category", "a b&c")],
            ),
            ("/?limit", &[("limit", "")]),
            ("/?=&&limit=%", &[("", ""), ("limit", "%")]),
            ("/?limit=%ff", &[("limit", "\u{fffd}")]),
        ] {
            let (mut parts, ()) = http::Request::get(query).body(()).unwrap().into_parts();
            let read = Params::from_request_parts(&mut parts, &()).await.unwrap();
            assert_eq!(read.0, params(pairs).0, "{query}");
        }
        assert!(params(&[("limt", "5")]).only(&["limit"]).is_err());
    }

    #[test]
    fn an_array_is_not_taken_for_the_fields_of_an_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Asked {
            name: String,
        }
        let asked = |text: &'static str| Body(Bytes::from_static(text.as_bytes())).json::<Asked>();
        assert_eq!(asked(r#" {"name": "ann"}"#).unwrap().name, "ann");
        for bad in [r#"["ann"]"#, r#" [["ann"]]"#, "[]", r#""ann""#, ""] {
            assert!(asked(bad).is_err(), "{bad}");
        }
        for (bad, field) in [
            ("{}", Some("name")),
            (r#"{"name": "a", "name": "b"}"#, Some("name")),
            (r#"{"name": 1}"#, Some("name")),
            ("{", None),
        ] {
            assert_eq!(asked(bad).unwrap_err().item().field.as_deref(), field, "{bad}");
        }
    }

    #[test]
    fn lists_may_be_written_both_ways() {
        assert_eq!(
            params(&[("exclude", "a, b"), ("exclude", "c")])
                .list("exclude")
                .unwrap(),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn algorithms_that_are_not_served_are_refused() {
        assert!(check_algorithm("itemknn").is_ok());
        assert!(check_algorithm("Magic").is_err());
    }

    #[test]
    fn a_misspelt_parameter_is_refused_by_name() {
        assert!(params(&[("limt", "5")]).only(&["limit"]).is_err());
        assert!(params(&[("limit", "5")]).only(&["limit"]).is_ok());
    }

    proptest! {
        #[test]
        fn hostile_bodies_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = Body(Bytes::from(bytes));
            let _ = body.object();
            let _ = body.items("events", 10);
        }
    }
}
