//! An e-mail as Gmail's API tells it.
//! <https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages>

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// Levels of an e-mail's parts that are looked at.
const DEEPEST: usize = 8;
/// Gmail writes base64url, with padding or without.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An e-mail, as far as it is looked at.
#[derive(Debug, PartialEq)]
pub struct Mail {
    /// Gmail's id of it.
    pub id: String,
    /// The sender's address.
    pub from: String,
    /// Its subject.
    pub subject: String,
    /// Its plain text; Gmail's excerpt where it has none.
    pub text: String,
    /// When Gmail received it, milliseconds since 1970.
    pub time_ms: Option<i64>,
}

/// What is read of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    id: String,
    #[serde(default)]
    internal_date: String,
    #[serde(default)]
    snippet: String,
    #[serde(default)]
    payload: Part,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part {
    mime_type: String,
    headers: Vec<Field>,
    body: Content,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    data: String,
}

impl Message {
    /// `None` for one without a sender.
    pub fn mail(self) -> Option<Mail> {
        let header = |name: &str| {
            let found = self
                .payload
                .headers
                .iter()
                .find(|it| it.name.eq_ignore_ascii_case(name));
            found.map(|it| it.value.clone()).unwrap_or_default()
        };
        let from = address(&header("From"))?.to_owned();
        let mut text = String::new();
        self.payload.plain(&mut text, DEEPEST);
        Some(Mail {
            subject: header("Subject"),
            text: if text.is_empty() { self.snippet } else { text },
            time_ms: self.internal_date.parse().ok(),
            id: self.id,
            from,
        })
    }
}

impl Part {
    fn plain(&self, text: &mut String, depth: usize) {
        if self.mime_type == "text/plain"
            && let Ok(bytes) = BASE64URL.decode(&self.body.data)
        {
            text.push_str(&String::from_utf8_lossy(&bytes));
            text.push('\n');
        }
        if depth > 0 {
            self.parts.iter().for_each(|part| part.plain(text, depth - 1));
        }
    }
}

/// The address of a mailbox as RFC 5322 writes it, with a name before it or without.
fn address(from: &str) -> Option<&str> {
    let inner = match (from.rfind('<'), from.rfind('>')) {
        (Some(begin), Some(end)) if begin < end => &from[begin + 1..end],
        _ => from,
    };
    Some(inner.trim()).filter(|address| crate::profile::is_address(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> Option<Mail> {
        serde_json::from_str::<Message>(text).unwrap().mail()
    }

    #[test]
    fn the_text_of_an_email_is_found_among_its_parts() {
        let encoded = |text: &str| BASE64URL.encode(text);
        let text = serde_json::json!({
            "id": "18f", "internalDate": "1700000000000", "snippet": "short",
            "payload": {
                "mimeType": "multipart/mixed",
                "headers": [{"name": "from", "value": "\"Ann, of <Shop>\" <ann@example.com>"}, {"name": "Subject", "value": "Hello"}],
                "parts": [
                    {"mimeType": "multipart/alternative", "parts": [
                        {"mimeType": "text/plain", "body": {"size": 3, "data": encoded("red mug?").trim_end_matches('=')}},
                        {"mimeType": "text/html", "body": {"data": encoded("<b>blue</b>")}},
                    ]},
                    {"mimeType": "image/png", "body": {"attachmentId": "x"}},
                ],
            },
        });
        let mail = message(&text.to_string()).unwrap();
        assert_eq!(
            (mail.from.as_str(), mail.subject.as_str()),
            ("ann@example.com", "Hello")
        );
        assert_eq!(
            (mail.text.trim(), mail.time_ms),
            ("red mug?", Some(1_700_000_000_000))
        );
        let bare = r#"{"id":"1","snippet":"short","payload":{"headers":[{"name":"From","value":" ann@example.com "}]}}"#;
        assert_eq!(message(bare).unwrap().text, "short");
        assert_eq!(message(r#"{"id":"1"}"#), None);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(from in "\\PC{0,40}", data in "\\PC{0,40}", date in "\\PC{0,20}") {
            let text = serde_json::json!({
                "id": "1", "internalDate": date,
                "payload": {"mimeType": "text/plain", "headers": [{"name": "From", "value": from}], "body": {"data": data}},
            });
            let _ = message(&text.to_string());
        }
    }
}
