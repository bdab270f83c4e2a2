//! `/webhook` and `/gmail-webhook`. Their success bodies are exactly as written: shops compare them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Extension, State};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use recommendation_api::{Event, EventType};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::events::{append, with_id};
use crate::clock::now_ms;
use crate::http::App;
use crate::http::gmail::Envelope;
use crate::http::gmail::fetch::Mailboxes;
use crate::http::input::Body;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::remote::Peer;
use crate::http::schemas::{EmailBody, WebhookBody};
use crate::http::signature;
use crate::profile::is_address;

/// Most products of one e-mail that become events.
const MAX_MENTIONS: usize = 10;
/// When a push that could not be dealt with is worth another try.
const RETRY_SECONDS: u64 = 5;
/// As long as a signature is accepted: from the earliest to the latest clock that it may be of.
const REMEMBERED: Duration = Duration::from_secs(2 * signature::WINDOW_SECONDS as u64);

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(webhook))
        .routes(routes!(gmail))
}

/// Signed where a key is configured, and each signature once; rate-limited and warned of (once) otherwise. Returns
/// the signature, which names the delivery.
async fn admit(
    app: &App,
    peer: Option<Extension<Peer>>,
    headers: &HeaderMap,
    body: &Body,
) -> Result<Option<String>, Problem> {
    if let Some(key) = &app.webhook_key {
        let signature = signature::check(key, headers, &body.0, now_ms() / 1000)
            .map_err(|e| Problem::unauthorized(e.to_string()))?;
        if !app.limiter.first(&signature, REMEMBERED).await {
            return Err(Problem::conflict("this delivery was received before"));
        }
        return Ok(Some(signature));
    }
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!("unsigned webhooks are accepted: set webhooks.hmacSecretRef");
    }
    if app.limiter.webhook(app.caller(peer, headers)) {
        return Ok(None);
    }
    app.metrics.rate_limited.with_label_values(&["webhook"]).inc();
    Err(Problem::too_many_requests(1))
}

/// Lets a delivery that came to nothing be sent again.
async fn settle<T>(app: &App, signature: Option<String>, result: Result<T, Problem>) -> Result<T, Problem> {
    if let (Err(_), Some(signature)) = (&result, signature) {
        app.limiter.forget(&signature).await;
    }
    result
}

/// Receive an event of another system
///
/// Produced like an event. With a configured key, `X-Signature` must be `sha256=` and the HMAC-SHA256 of
/// `<X-Timestamp>.<body>` in hexadecimal; it is accepted for five minutes, once.
#[utoipa::path(post, path = "/webhook", operation_id = "webhook", tag = "webhooks",
    params(
        ("x-signature" = Option<String>, Header, description = "sha256=<hex>; needed where a key is configured"),
        ("x-timestamp" = Option<String>, Header, description = "When it was signed, seconds since 1970"),
    ),
    request_body = WebhookBody,
    responses(
        (status = 200, description = "`Event received`", body = String, content_type = "text/plain"),
        (status = 401, description = "The signature is missing, stale or wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "This delivery was received before", body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn webhook(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, Problem> {
    let signature = admit(&app, peer, &headers, &body).await?;
    let result = receive(&app, &body, signature.as_deref()).await;
    settle(&app, signature, result).await.map(|()| "Event received")
}

async fn receive(app: &App, body: &Body, signature: Option<&str>) -> Result<(), Problem> {
    let mut event = parse_webhook(body.object()?)?;
    // A delivery that is sent again with the same signature is the same event, whoever saw it first.
    if event.event_id.is_none() {
        event.event_id = signature.map(|signature| format!("webhook-{signature}"));
    }
    let (id, event) = with_id(event);
    append(app, std::slice::from_ref(&event))
        .await
        .map_err(|problem| problem.about_event(id))
}

/// An event as this body has it: what it calls `event` is the event's type.
fn parse_webhook(mut map: Map<String, Value>) -> Result<Event, Problem> {
    if let Some(event) = map.remove("event") {
        map.insert("event_type".into(), event);
    }
    Event::from_map(map, None).map_err(|e| match e.field() {
        Some("event_type") => Problem::field("event", "event is required and must be a string"),
        _ => Problem::from(e),
    })
}

#[derive(Deserialize)]
struct Email {
    email: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    message: String,
}

/// Receive an e-mail, or Gmail's push notification
///
/// The customer whose profile has the address gets an `email` event for each product that the text names by id or title.
/// Subject and message are never stored. A push notification (Cloud Pub/Sub) is checked by its token and acknowledged;
/// where OAuth credentials of the mailbox are configured, the e-mails that it is about are read from Gmail first.
#[utoipa::path(post, path = "/gmail-webhook", operation_id = "gmail_webhook", tag = "webhooks",
    params(
        ("x-signature" = Option<String>, Header, description = "As for /webhook"),
        ("x-timestamp" = Option<String>, Header, description = "As for /webhook"),
        ("authorization" = Option<String>, Header, description = "Of a push notification: Pub/Sub's own token"),
    ),
    request_body = EmailBody,
    responses(
        (status = 200, description = "`Email processed`", body = String, content_type = "text/plain"),
        (status = 401, description = "The signature or token is missing, stale or wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The push is of another service account", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "This delivery was received before", body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn gmail(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, Problem> {
    if is_push(&body) {
        push(&app, &headers, &body).await?;
        return Ok("Email processed");
    }
    let signature = admit(&app, peer, &headers, &body).await?;
    let result = email(&app, &body, signature.as_deref()).await;
    settle(&app, signature, result).await.map(|()| "Email processed")
}

/// Pub/Sub's envelope has an object where an e-mail has its text.
fn is_push(body: &Body) -> bool {
    let message = body.object().ok().and_then(|mut map| map.remove("message"));
    matches!(message, Some(Value::Object(_)))
}

async fn push(app: &App, headers: &HeaderMap, body: &Body) -> Result<(), Problem> {
    let Some(tokens) = &app.gmail else {
        return Err(Problem::unauthorized(
            "push notifications are not expected here: set webhooks.gmail.audience",
        ));
    };
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .ok_or_else(|| Problem::unauthorized("a push notification needs Pub/Sub's token"))?
        .1;
    tokens.check(token.trim()).await?;
    let notification = body.json::<Envelope>()?.notification()?;
    if let (Some(mailboxes), Some(history)) = (&tokens.mailboxes, notification.history()) {
        read_mail(app, mailboxes, &notification.email_address, history).await?;
    }
    app.metrics.emails_pushed.inc();
    Ok(())
}

/// What is not acknowledged is pushed again, later and later, for days: nothing is lost while Gmail or the log is away.
async fn read_mail(app: &App, mailboxes: &Mailboxes, mailbox: &str, history: u64) -> Result<(), Problem> {
    let fetched = mailboxes.fetch(mailbox, history).await.map_err(|e| {
        tracing::warn!(error = %e, "e-mails of a push notification are not read; it will be delivered again");
        Problem::unavailable("the e-mails cannot be read from Gmail now", RETRY_SECONDS)
    })?;
    for mail in &fetched.mails {
        app.metrics.emails_fetched.inc();
        let text = format!("{}\n{}", mail.subject, mail.text);
        mentions(
            app,
            &mail.from,
            &text,
            &format!("gmail-{}", mail.id),
            mail.time_ms,
        )
        .await?;
    }
    mailboxes.read_to(mailbox, fetched.read_to).await;
    if fetched.more {
        return Err(Problem::unavailable("there are more e-mails", RETRY_SECONDS));
    }
    Ok(())
}

async fn email(app: &App, body: &Body, signature: Option<&str>) -> Result<(), Problem> {
    let email: Email = body.json()?;
    let address = email.email.trim();
    if !is_address(address) {
        return Err(Problem::field("email", "email must be an e-mail address"));
    }
    let text = format!("{}\n{}", email.subject, email.message);
    let id = signature.map_or_else(|| crate::ids::new().to_string(), str::to_owned);
    mentions(app, address, &text, &id, None).await
}

/// Makes events of what an e-mail names, where its sender is a customer; `id` names the e-mail.
async fn mentions(
    app: &App,
    address: &str,
    text: &str,
    id: &str,
    time_ms: Option<i64>,
) -> Result<(), Problem> {
    let Some(customer) = app.directory.customer_of(address) else {
        app.metrics.emails_unmatched.inc();
        return Ok(());
    };
    let title = |id: &str| {
        let meta = app.reader.product(id);
        meta.map(|meta| meta.title)
            .or_else(|| app.reader.has_product(id).then_some(None))
    };
    let products = app.directory.mentioned(text, MAX_MENTIONS, title);
    let event = |number: usize, product: Option<String>| Event {
        event_id: Some(format!("email-{id}-{number}")),
        customer_id: customer.to_string(),
        product_id: product,
        event_type: EventType::Email,
        timestamp_ms: time_ms,
        quantity: None,
        price: None,
        session_id: None,
        recommendation_id: None,
        properties: None,
    };
    let events: Vec<Event> = if products.is_empty() {
        vec![event(0, None)]
    } else {
        products
            .into_iter()
            .enumerate()
            .map(|(number, product)| event(number, Some(product)))
            .collect()
    };
    append(app, &events).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_webhook_calls_event_is_the_type() {
        let map = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let event = parse_webhook(map(
            r#"{"event":"product_view","customer_id":"c","product_id":"p"}"#,
        ))
        .unwrap();
        assert_eq!(event.event_type, EventType::View);
        assert!(parse_webhook(map(r#"{"event":7,"customer_id":[],"product_id":"p"}"#)).is_err());
    }

    proptest! {
        #[test]
        fn no_webhook_body_makes_it_panic(event in "\\PC{0,40}", customer in "\\PC{0,40}", field in "[a-z_]{0,20}", number in any::<f64>()) {
            let mut map = Map::new();
            map.insert("event".into(), event.into());
            map.insert("customer_id".into(), customer.into());
            map.insert("product_id".into(), "p".into());
            map.insert(field, serde_json::json!(number));
            let _ = parse_webhook(map);
        }

        #[test]
        fn no_bytes_make_an_email_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = Body(bytes.into());
            let _ = (is_push(&body), body.json::<Email>(), body.json::<Envelope>());
        }
    }
}
