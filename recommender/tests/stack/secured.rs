//! The service on a Kafka that is behind TLS and logins.

use std::path::PathBuf;

use recommendation_api::config::{KafkaAuthenticationConfig, KafkaConfig, KafkaTlsConfig};
use recommendation_api::pipeline::kafka::KafkaAuthenticationType;
use reqwest::Method;

use crate::shop::{Shop, server};
use crate::support::{Running, event, eventually, recommended, token};

/// A shop whose replicas come in by this listener; certificates and passwords lie among its secrets.
async fn shop(listener: &str, authentication: KafkaAuthenticationConfig) -> Shop {
    let mut shop = Shop::new(1).await;
    let certificates = PathBuf::from(server("TEST_KAFKA_CERTIFICATES"));
    for name in ["ca.crt", "client.crt", "client.key", "stranger.crt"] {
        std::fs::copy(certificates.join(name), shop.dir.path().join(name)).unwrap();
    }
    for password in ["op-secret", "plain-secret", "wrong"] {
        std::fs::write(shop.dir.path().join(password), password).unwrap();
    }
    shop.config.kafka = Some(KafkaConfig {
        bootstrap_servers: vec![server(listener)],
        tls: Some(KafkaTlsConfig {
            ca_file: Some("ca.crt".into()),
        }),
        authentication: Some(authentication),
    });
    shop
}

fn sasl(kind: KafkaAuthenticationType, username: &str, password: &str) -> KafkaAuthenticationConfig {
    KafkaAuthenticationConfig {
        kind,
        username: username.into(),
        password_file: Some(password.into()),
        ..KafkaAuthenticationConfig::default()
    }
}

#[tokio::test]
async fn events_are_written_and_learned_by_every_kind_of_login() {
    let certificate = KafkaAuthenticationConfig {
        kind: KafkaAuthenticationType::Mtls,
        certificate_file: Some("client.crt".into()),
        key_file: Some("client.key".into()),
        ..KafkaAuthenticationConfig::default()
    };
    for (listener, login) in [
        (
            "TEST_KAFKA_SASL",
            sasl(KafkaAuthenticationType::Plain, "plainuser", "plain-secret"),
        ),
        (
            "TEST_KAFKA_SASL",
            sasl(KafkaAuthenticationType::ScramSha256, "operator", "op-secret"),
        ),
        (
            "TEST_KAFKA_SASL",
            sasl(KafkaAuthenticationType::ScramSha512, "operator", "op-secret"),
        ),
        ("TEST_KAFKA_TLS", KafkaAuthenticationConfig::default()),
        ("TEST_KAFKA_MTLS", certificate),
    ] {
        let kind = login.kind;
        let shop = shop(listener, login).await;
        let service = Running::start(shop.replica()).await.ready().await;
        let token = token("shop", &["events:write"]);
        for product in ["cup", "saucer"] {
            let body = event("ann", product, "purchase");
            let answer = service
                .call(Method::POST, "/v1/events", Some(&token), Some(&body))
                .await;
            assert_eq!(answer.status, 202, "{kind:?}: {}", answer.text);
        }
        service.learned(2).await;
        // What is popular is brought up to date once a second.
        eventually("both products", || async {
            recommended(&service, "bob").await.len() == 2
        })
        .await;
        // The reader of dead letters logs in too.
        shop.put(None, "bad", b"no event").await;
        assert_eq!(shop.dead_letters(1).await.len(), 1, "{kind:?}");
        service.stop().await;
    }
}

#[tokio::test]
async fn a_refused_login_is_told_and_no_password_with_it() {
    let login = sasl(KafkaAuthenticationType::ScramSha512, "operator", "wrong");
    let shop = shop("TEST_KAFKA_SASL", login).await;
    let service = Running::start(shop.replica()).await;
    eventually("the log to be down", || async {
        service.status().await["log"] == "Down"
    })
    .await;
    assert!(!service.internal("/readyz").await.status.is_success());
    let told = service.status().await.to_string();
    assert!(!told.contains("wrong"), "{told}");
    let body = event("ann", "cup", "purchase");
    let token = token("shop", &["events:write"]);
    let answer = service
        .call(Method::POST, "/v1/events", Some(&token), Some(&body))
        .await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(!answer.text.contains("wrong"), "{}", answer.text);
    service.stop().await;
}
