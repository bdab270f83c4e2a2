//! Keys: the identity provider's, publishable ones, those of webhooks; and that none of them is ever told.

use std::io::Write;
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use recommendation_api::config::{PublishableKeyConfig, RecommenderConfig};
use recommender::http::signature;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::embedded;
use crate::mail::{in_an_hour, key_set, signed};
use crate::support::{Answer, KEY, Running, eventually, token};

#[tokio::test]
async fn tokens_of_the_identity_provider_are_accepted_and_its_public_key_is_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecommenderConfig::default();
    let url = key_set().await;
    config.auth.jwks_url = url.clone();
    config.auth.issuer = "https://id.example".into();
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let verify = async |token: &str| service.call(Method::GET, "/auth/verify", Some(token), None).await;
    let claims = |issuer: &str, exp: u64| json!({"sub": "ann", "scope": "events:write a:b", "iss": issuer, "aud": "shop", "exp": exp});
    let good = verify(&signed(&claims("https://id.example", in_an_hour()))).await;
    assert_eq!(good.status, 200, "{}", good.text);
    assert_eq!(
        (&good.json()["user_id"], &good.json()["scopes"]),
        (&json!("ann"), &json!(["events:write", "a:b"]))
    );
    for (token, detail) in [
        (
            signed(&claims("https://evil.example", in_an_hour())),
            "Invalid token",
        ),
        (
            signed(&claims("https://id.example", 1_000_000_000)),
            "Token expired",
        ),
        (
            signed(&json!({"iss": "https://id.example", "exp": in_an_hour()})),
            "Invalid token",
        ),
    ] {
        let answer = verify(&token).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["detail"]),
            (401, &json!(detail))
        );
    }
    // Everybody can read the public key: whoever signs with it as an HMAC secret must not be believed, in whatever
    // form they take it.
    let set: Value = service
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let modulus = set["keys"][0]["n"].as_str().unwrap();
    let header = Header {
        kid: Some("rsa".into()),
        ..Header::new(Algorithm::HS256)
    };
    for secret in [modulus.to_owned(), set["keys"][0].to_string(), set.to_string()] {
        let claims = json!({"user_id": "ann", "iss": "https://id.example", "exp": in_an_hour()});
        let forged =
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
        assert_eq!(verify(&forged).await.status, 401);
    }
    // And a token of our own says so in its header: named RS256, it is checked with the provider's key.
    let own = token("ann", &[]);
    let (_, rest) = own.split_once('.').unwrap();
    assert_eq!(
        verify(&format!("eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.{rest}"))
            .await
            .status,
        401
    );
    service.stop().await;
}

#[tokio::test]
async fn a_publishable_key_writes_events_of_its_own_session_and_reads_what_they_lead_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web"), "pk_web").unwrap();
    let mut config = RecommenderConfig::default();
    config.auth.publishable_keys = vec![PublishableKeyConfig {
        name: "web".into(),
        key_file: "web".into(),
        origins: vec!["https://shop.example".into()],
    }];
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let ask = async |origin: Option<&str>, path: &str, body: &Value| -> Answer {
        let url = format!("http://{}{path}", service.public);
        let mut request = service
            .client
            .post(url)
            .header("x-publishable-key", "pk_web")
            .json(body);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer {
            status,
            headers,
            text: answer.text().await.unwrap(),
        }
    };
    let shop = Some("https://shop.example");
    let click = json!({"event_type": "click", "product_id": "cup", "session_id": "s-1"});
    assert_eq!(
        ask(Some("https://evil.example"), "/v1/events", &click)
            .await
            .status,
        403
    );
    assert_eq!(ask(None, "/v1/events", &click).await.status, 403);
    let mut of_ann = click.clone();
    of_ann["customer_id"] = "ann".into();
    let refused = ask(shop, "/v1/events", &of_ann).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["field"]),
        (400, &json!("customer_id"))
    );
    let no_session = json!({"event_type": "click", "product_id": "cup"});
    assert_eq!(
        ask(shop, "/v1/events", &no_session).await.json()["field"],
        "session_id"
    );
    assert_eq!(ask(shop, "/v1/events", &click).await.status, 202);
    let mug = json!({"event_type": "click", "product_id": "mug", "session_id": "s-2"});
    for session in ["s-2", "s-3", "s-4"] {
        for product in ["cup", "mug"] {
            let mut event = mug.clone();
            (event["session_id"], event["product_id"]) = (session.into(), product.into());
            assert_eq!(ask(shop, "/v1/events", &event).await.status, 202);
        }
    }
    eventually("an answer from the session's history", || async {
        let answer = ask(shop, "/v1/recommendations", &json!({"session_id": "s-1"}))
            .await
            .json();
        answer["fallback"] == "personal"
            && answer["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|i| i["product_id"] == "mug")
    })
    .await;
    // The same key as a parameter, where a header cannot be set.
    let url = format!("http://{}/v1/trending?key=pk_web", service.public);
    let answer = service
        .client
        .get(url)
        .header("origin", "https://shop.example")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    service.stop().await;
}

#[tokio::test]
async fn a_signed_webhook_is_taken_once_and_one_that_failed_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hmac"), "key").unwrap();
    let mut config = RecommenderConfig::default();
    config.webhooks.hmac_secret_file = Some("hmac".into());
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let key = SecretString::from("key");
    let now = i64::try_from(in_an_hour()).unwrap() - 3600;
    let send = async |at: i64, body: &Value| {
        let body = body.to_string();
        let url = format!("http://{}/webhook", service.public);
        let request = service
            .client
            .post(url)
            .header("x-timestamp", at.to_string())
            .header("x-signature", signature::sign(&key, at, body.as_bytes()));
        request.body(body).send().await.unwrap().status().as_u16()
    };
    let click = json!({"event": "click", "customer_id": "c", "product_id": "p"});
    assert_eq!(send(now, &click).await, 200);
    assert_eq!(send(now, &click).await, 409, "the same delivery");
    assert_eq!(send(now + 1, &click).await, 200, "another one");
    assert_eq!(send(now - 301, &click).await, 401, "overheard long ago");
    assert_eq!(send(now + 400, &click).await, 401);
    let wrong = json!({"event": "click"});
    assert_eq!(send(now, &wrong).await, 400);
    assert_eq!(
        send(now, &wrong).await,
        400,
        "nothing came of it: it is not taken for a replay"
    );
    service.learned(2).await;
    service.stop().await;
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down_for_known_and_unknown_users_alike() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let guess = async |user: &str| {
        let body = json!({"username": user, "password": "guess"});
        service.call(Method::POST, "/auth/token", None, Some(&body)).await
    };
    for _ in 0..10 {
        assert_eq!(guess("ann").await.status, 401);
    }
    let refused = guess("ann").await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(guess("bob").await.status, 401, "another user is not concerned");
    for i in 0..8 {
        guess(&format!("user-{i}")).await;
    }
    assert_eq!(
        guess("carol").await.status,
        429,
        "twenty of one address are enough"
    );
    service.stop().await;
}

/// A log that a test reads.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_stands_in_the_log_or_in_an_answer() {
    let captured = Captured::default();
    let writer = captured.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    // Everything that runs on this test's thread, down to the last detail.
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("users")).unwrap();
    std::fs::write(
        dir.path().join("users/ann"),
        r#"{"passwordHash": "misplaced-pa55word"}"#,
    )
    .unwrap();
    std::fs::write(dir.path().join("users/bob"), "misplaced-pa55word").unwrap();
    std::fs::write(dir.path().join("web"), "pk_s3cr3t").unwrap();
    std::fs::write(dir.path().join("hmac"), "hmac-s3cr3t").unwrap();
    let mut config = RecommenderConfig::default();
    config.auth.users_dir = Some("users".into());
    config.webhooks.hmac_secret_file = Some("hmac".into());
    config.auth.publishable_keys = vec![PublishableKeyConfig {
        name: "web".into(),
        key_file: "web".into(),
        origins: Vec::new(),
    }];
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let token = token("ann", &["events:write"]);
    let mut said = String::new();
    for (method, path, body) in [
        (Method::GET, "/auth/verify", json!({})),
        (Method::GET, "/v1/recommendations/bob", json!({})),
        (
            Method::POST,
            "/auth/token",
            json!({"username": "ann", "password": "typed-pa55word"}),
        ),
        (
            Method::POST,
            "/auth/token",
            json!({"username": "bob", "password": "typed-pa55word"}),
        ),
        (
            Method::POST,
            "/auth/token",
            json!({"username": "bob", "password": ["typed-pa55word"]}),
        ),
        (Method::POST, "/webhook", json!({"event": "click"})),
        (Method::GET, "/v1/trending?key=pk_s3cr3t", json!({})),
        (Method::GET, "/v1/trending?key=pk_other", json!({})),
        (
            Method::PUT,
            "/v1/customers/ann/profile",
            json!({"email": "ann@secret.example", "consent": 3}),
        ),
    ] {
        let answer = service.call(method, path, Some(&token), Some(&body)).await;
        said += &answer.text;
    }
    service.stop().await;
    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(log.contains("a user's file is not understood"), "{log}");
    for secret in [
        KEY,
        &token,
        "pa55word",
        "pk_s3cr3t",
        "hmac-s3cr3t",
        "ann@secret.example",
    ] {
        assert!(!said.contains(secret), "answered: {secret}");
        // The client of this test logs what it does; the service's own lines are meant.
        let told = log
            .lines()
            .find(|line| line.contains(secret) && line.contains("recommender"));
        assert_eq!(told, None, "{secret}");
    }
}
