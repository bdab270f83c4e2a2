//! Profiles, and e-mails that are matched with them.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use recommendation_api::config::{GmailConfig, RecommenderConfig};
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, eventually, token};

const RSA: &[u8] = include_bytes!("../data/rsa.der");

/// A server of the RSA key as a key set; returns its address.
pub async fn key_set() -> String {
    let mut jwk = Jwk::from_encoding_key(&EncodingKey::from_rsa_der(RSA), Algorithm::RS256).unwrap();
    jwk.common.key_id = Some("rsa".into());
    let text = serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let router = Router::new().route("/keys", get(move || async move { text }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A token that the key of [`key_set`] signs.
pub fn signed(claims: &Value) -> String {
    let header = Header {
        kid: Some("rsa".into()),
        ..Header::new(Algorithm::RS256)
    };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_rsa_der(RSA)).unwrap()
}

/// An hour from now, seconds since 1970.
pub fn in_an_hour() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_secs() + 3600
}

#[tokio::test]
async fn an_email_of_a_known_customer_becomes_events_on_the_products_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecommenderConfig::default();
    config.model.event_weights.insert("email".into(), 1.0);
    let service = Running::start(embedded(dir.path(), config.clone()))
        .await
        .ready()
        .await;
    let ann = token("ann", &[]);
    let program = token("shop", &["catalog:write"]);
    for (id, title) in [("22720", "SET OF 3 CAKE TINS"), ("mug-1", "Red mug")] {
        let path = format!("/v1/products/{id}");
        let body = json!({"title": title});
        service
            .call(Method::PUT, &path, Some(&program), Some(&body))
            .await;
    }
    let profile = json!({"email": "Ann@Example.com", "attributes": {"skin": "dry"}});
    let written = service
        .call(
            Method::PUT,
            "/v1/customers/ann/profile",
            Some(&ann),
            Some(&profile),
        )
        .await;
    assert_eq!(
        (written.status.as_u16(), written.json()["customer_id"].as_str()),
        (202, Some("ann"))
    );
    let mail = |message: &str| json!({"email": "ann@example.com", "subject": "Order", "message": message});
    let send = async |body: Value| {
        let answer = service
            .call(Method::POST, "/gmail-webhook", None, Some(&body))
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "Email processed")
        );
    };
    let history = async |service: &Running| {
        let path = "/v1/recommendations/ann?explain=true";
        let answer = service.call(Method::GET, path, Some(&ann), None).await.json();
        answer["explanation"]["history"].as_array().unwrap().clone()
    };
    eventually("the products and the profile", || async {
        send(mail("Do the red mug and 22720 go together?")).await;
        history(&service).await.len() == 2
    })
    .await;
    assert_eq!(history(&service).await[0]["kind"], "mentioned");
    send(json!({"email": "stranger@example.com", "subject": "red mug", "message": ""})).await;
    let metrics = service.internal("/metrics").await.text;
    assert!(
        metrics.contains("recommender_emails_unmatched_total"),
        "{metrics}"
    );
    service.stop().await;
    // Neither subject nor message is stored.
    let stored = std::fs::read(dir.path().join("shop.db")).unwrap();
    let holds = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("mug-1") && !holds("go together") && !holds("Order"));
    // The profile survives a restart.
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let before = history(&service).await[0]["weight"].as_f64().unwrap();
    service
        .call(
            Method::POST,
            "/gmail-webhook",
            None,
            Some(&mail("The red mug again")),
        )
        .await;
    eventually("another mention", || async {
        let heaviest = history(&service).await;
        heaviest
            .iter()
            .any(|item| item["weight"].as_f64().unwrap() > before)
    })
    .await;
    service.stop().await;
}

/// What a made-up Gmail holds and was asked.
#[derive(Default)]
struct Google {
    /// Message ids that the history tells, each at the history id of its place.
    added: std::sync::Mutex<Vec<&'static str>>,
    asked: std::sync::Mutex<Vec<String>>,
    away: std::sync::atomic::AtomicBool,
}

/// Serves Google's token endpoint and Gmail's API, as far as they are documented; returns its address.
async fn google(google: Arc<Google>) -> String {
    use axum::extract::{Form, Path, Query, State};
    use axum::response::IntoResponse as _;
    use http::{HeaderMap, StatusCode};
    type Words = std::collections::HashMap<String, String>;

    let granted = async |Form(form): Form<Words>| {
        let expected = [
            ("grant_type", "refresh_token"),
            ("client_id", "id"),
            ("client_secret", "hush"),
            ("refresh_token", "again"),
        ];
        match expected.iter().all(|(name, value)| form[*name] == *value) {
            true => axum::Json(json!({"access_token": "access", "expires_in": 3599})).into_response(),
            false => (StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant"}"#).into_response(),
        }
    };
    let history =
        async |State(google): State<Arc<Google>>, headers: HeaderMap, Query(query): Query<Words>| {
            assert_eq!(headers["authorization"], "Bearer access");
            let start: usize = query["startHistoryId"].parse().unwrap();
            let page = query.get("pageToken").map(|page| page.parse().unwrap());
            let at: usize = page.unwrap_or(start);
            google.asked.lock().unwrap().push(format!("from {at}"));
            if google.away.load(std::sync::atomic::Ordering::Relaxed) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            let added = google.added.lock().unwrap();
            let message = json!({"id": added[at], "labelIds": ["INBOX"]});
            let record = json!({"id": (at + 1).to_string(), "messagesAdded": [{"message": message}]});
            let mut answer = json!({"history": [record], "historyId": added.len().to_string()});
            // One on each page.
            if at + 1 < added.len() {
                answer["nextPageToken"] = (at + 1).to_string().into();
            }
            axum::Json(answer).into_response()
        };
    let list = async |State(google): State<Arc<Google>>| {
        google.asked.lock().unwrap().push("a day".into());
        let newest_first = google
            .added
            .lock()
            .unwrap()
            .iter()
            .rev()
            .map(|id| json!({"id": id}))
            .collect::<Vec<_>>();
        axum::Json(json!({"messages": newest_first}))
    };
    let message = async |Path(id): Path<String>| {
        if id == "broken" {
            return "no JSON".into_response();
        }
        let text = STANDARD
            .encode(format!("Is the {id} in stock?"))
            .replace('+', "-")
            .replace('/', "_");
        axum::Json(json!({
            "id": id, "internalDate": "1750000000000", "snippet": "",
            "payload": {"mimeType": "text/plain", "body": {"data": text},
                "headers": [{"name": "From", "value": "Ann <ann@example.com>"}, {"name": "Subject", "value": "A question"}]},
        }))
        .into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/token", axum::routing::post(granted))
        .route("/gmail/v1/users/me/history", get(history))
        .route("/gmail/v1/users/me/messages", get(list))
        .route("/gmail/v1/users/me/messages/{id}", get(message))
        .with_state(google);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn the_emails_of_a_push_notification_are_read_once_each_and_delivered_again_while_gmail_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(Google::default());
    let url = google(Arc::clone(&world)).await;
    for (name, value) in [
        ("clientId", "id"),
        ("clientSecret", "hush\n"),
        ("refreshToken", "again"),
    ] {
        std::fs::create_dir_all(dir.path().join("mailbox")).unwrap();
        std::fs::write(dir.path().join("mailbox").join(name), value).unwrap();
    }
    let mut config = RecommenderConfig::default();
    config.model.event_weights.insert("email".into(), 1.0);
    config.webhooks.gmail = Some(GmailConfig {
        audience: "shop".into(),
        jwks_url: key_set().await,
        credentials_dir: Some("mailbox".into()),
        token_url: format!("{url}/token"),
        api_url: url,
        ..GmailConfig::default()
    });
    let service = Running::start(embedded(dir.path(), config.clone()))
        .await
        .ready()
        .await;
    let (ann, program) = (token("ann", &[]), token("shop", &["catalog:write"]));
    let products: Vec<Value> = ["red-mug", "blue-mug", "hat", "bag", "scarf"]
        .iter()
        .map(|id| json!({"product_id": id, "title": id}))
        .collect();
    service
        .call(
            Method::POST,
            "/v1/products/batch",
            Some(&program),
            Some(&json!(products)),
        )
        .await;
    let profile = json!({"email": "ann@example.com"});
    let path = "/v1/customers/ann/profile";
    service.call(Method::PUT, path, Some(&ann), Some(&profile)).await;
    let history = async |service: &Running| {
        let answer = service
            .call(Method::GET, "/v1/customers/ann", Some(&ann), None)
            .await;
        let answer = answer.json();
        let known = answer["history"].as_array().unwrap().iter();
        let mut known: Vec<(String, f64, String)> = known
            .map(|it| {
                let text = |name: &str| it[name].as_str().unwrap().to_owned();
                (text("product_id"), it["weight"].as_f64().unwrap(), text("last"))
            })
            .collect();
        known.sort_by(|a, b| a.0.cmp(&b.0));
        known
    };
    let claims = json!({"aud": "shop", "iss": "https://accounts.google.com", "exp": in_an_hour()});
    let bearer = signed(&claims);
    let push = async |service: &Running, history_id: usize| {
        let data = json!({"emailAddress": "shop@example.com", "historyId": history_id}).to_string();
        let body = json!({"message": {"data": STANDARD.encode(data), "messageId": "1"}, "subscription": "s"});
        let answer = service
            .call(Method::POST, "/gmail-webhook", Some(&bearer), Some(&body))
            .await;
        (answer.status.as_u16(), answer.text)
    };
    eventually("the profile and the products", async || {
        let known = service
            .call(Method::GET, "/v1/customers/ann", Some(&ann), None)
            .await;
        service.status().await["model"]["products"] == 5
            && known.json()["profile"]["email"] == "ann@example.com"
    })
    .await;
    let done = (200, "Email processed".to_owned());
    // The first push after a start: what came within a day.
    *world.added.lock().unwrap() = vec!["red-mug", "broken", "hat"];
    assert_eq!(push(&service, 3).await, done);
    // The same once more, and then what came since.
    assert_eq!(push(&service, 3).await, done);
    world.added.lock().unwrap().extend(["bag", "scarf"]);
    world.away.store(true, std::sync::atomic::Ordering::Relaxed);
    let (status, text) = push(&service, 5).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("cannot be read from Gmail now"), "{text}");
    world.away.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(push(&service, 5).await, done);
    let asked = world.asked.lock().unwrap().clone();
    assert_eq!(asked, ["a day", "from 3", "from 3", "from 4"]);
    let known = |ids: &[&str]| -> Vec<(String, f64, String)> {
        let one = |id: &&str| ((*id).to_owned(), 1.0, "2025-06-15T15:06:40Z".to_owned());
        ids.iter().map(one).collect()
    };
    let before = known(&["bag", "hat", "red-mug", "scarf"]);
    eventually("the events", async || history(&service).await == before).await;
    service.stop().await;
    // After a restart the whole day is read again, and nothing of it counts twice.
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    assert_eq!(push(&service, 5).await, done);
    assert_eq!(world.asked.lock().unwrap().last().unwrap(), "a day");
    world.added.lock().unwrap().push("blue-mug");
    assert_eq!(push(&service, 6).await, done);
    let all = known(&["bag", "blue-mug", "hat", "red-mug", "scarf"]);
    eventually("the new event", async || history(&service).await == all).await;
    service.stop().await;
}

#[tokio::test]
async fn gmails_push_notifications_are_acknowledged_for_the_token_of_their_subscription_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecommenderConfig::default();
    config.webhooks.gmail = Some(GmailConfig {
        audience: "https://shop.example/gmail-webhook".into(),
        service_account: "push@shop.iam.gserviceaccount.com".into(),
        jwks_url: key_set().await,
        ..GmailConfig::default()
    });
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let envelope = |data: &str| json!({"message": {"data": STANDARD.encode(data), "messageId": "1"}, "subscription": "projects/p/subscriptions/s"});
    let good = envelope(r#"{"emailAddress":"shop@example.com","historyId":"42"}"#);
    let claims = |audience: &str, email: &str, issuer: &str| json!({"aud": audience, "email": email, "email_verified": true, "iss": issuer, "exp": in_an_hour()});
    let (audience, account, issuer) = (
        "https://shop.example/gmail-webhook",
        "push@shop.iam.gserviceaccount.com",
        "https://accounts.google.com",
    );
    for (token, body, status) in [
        (signed(&claims(audience, account, issuer)), &good, 200),
        (
            signed(&claims(audience, account, "accounts.google.com")),
            &good,
            200,
        ),
        (
            signed(&claims("https://other.example", account, issuer)),
            &good,
            401,
        ),
        (
            signed(&claims(audience, account, "https://evil.example")),
            &good,
            401,
        ),
        (
            signed(&claims(audience, "other@shop.example", issuer)),
            &good,
            403,
        ),
        (signed(&claims(audience, account, issuer)), &envelope("{}"), 400),
        // A token of this service's own key is none of Google's.
        (token("ann", &[]), &good, 401),
    ] {
        let answer = service
            .call(Method::POST, "/gmail-webhook", Some(&token), Some(body))
            .await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert!(status != 200 || answer.text == "Email processed");
    }
    assert_eq!(
        service
            .call(Method::POST, "/gmail-webhook", None, Some(&good))
            .await
            .status,
        401
    );
    let metrics = service.internal("/metrics").await.text;
    assert!(metrics.contains("recommender_emails_pushed_total 2"), "{metrics}");
    service.stop().await;
}
