//! Profiles, and e-mails that are matched with them.

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
