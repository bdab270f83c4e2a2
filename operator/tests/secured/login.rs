//! The client alone: every kind of login, and what a refused one says.

use std::collections::{BTreeMap, BTreeSet};

use recommendation_operator::kafka::{Admin, Connection, KafkaError, Login, TopicSpec};

use crate::{certificate, env};

fn over_tls(variable: &str, authority: &str) -> Connection {
    Connection::plain(&[env(variable)]).with_tls(Some(certificate(authority)))
}

fn sasl(mechanism: &'static str, username: &str, password: &str) -> Connection {
    over_tls("TEST_KAFKA_SASL", "ca.crt").with_login(Login::Sasl {
        mechanism,
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

fn client_certificate() -> Login {
    Login::Certificate {
        certificate: certificate("client.crt"),
        key: certificate("client.key"),
    }
}

/// Makes a topic, sees it, changes it and deletes it.
async fn works(connection: &Connection) {
    let admin = Admin::new(connection).unwrap();
    let name = format!("secured-{:08x}", rand::random::<u32>());
    let topic = TopicSpec {
        name: name.clone(),
        partitions: 1,
        replication_factor: None,
        config: BTreeMap::new(),
    };
    assert!(admin.create(&topic).await.unwrap());
    let retention = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    admin.set_config(&name, &retention).await.unwrap();
    let names = BTreeSet::from([name.clone()]);
    for _ in 0..50 {
        let view = admin.observe(&names).await.unwrap();
        assert!(view.cluster_id.is_some());
        let config = view.topics.get(&name).map(|topic| &topic.config);
        if config.is_some_and(|config| config["retention.ms"] == "1000") {
            return admin.delete(&name).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the change of {name} is not seen");
}

async fn refused(connection: &Connection) -> KafkaError {
    Admin::new(connection)
        .unwrap()
        .observe(&BTreeSet::new())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn plain_and_both_scrams_log_in_over_tls() {
    works(&sasl("PLAIN", "plainuser", "plain-secret")).await;
    works(&sasl("SCRAM-SHA-256", "operator", "op-secret")).await;
    works(&sasl("SCRAM-SHA-512", "operator", "op-secret")).await;
}

#[tokio::test]
async fn tls_works_alone_and_with_a_client_certificate() {
    works(&over_tls("TEST_KAFKA_TLS", "ca.crt")).await;
    works(&over_tls("TEST_KAFKA_MTLS", "ca.crt").with_login(client_certificate())).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such_whatever_the_mechanism() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let error = refused(&sasl(mechanism, "operator", "wrong")).await;
        assert!(
            matches!(error, KafkaError::Login { .. }),
            "{mechanism}: {error:?}"
        );
        let advice = error.advice();
        assert!(
            advice.contains("check the Secret of spec.kafka.authentication"),
            "{advice}"
        );
        assert!(!advice.contains("wrong"), "no password in a condition: {advice}");
    }
}

#[tokio::test]
async fn an_authority_that_signed_nothing_and_a_client_without_certificate_are_told_as_such() {
    for connection in [
        over_tls("TEST_KAFKA_TLS", "stranger.crt"),
        Connection::plain(&[env("TEST_KAFKA_TLS")]).with_tls(None),
        over_tls("TEST_KAFKA_MTLS", "ca.crt"),
    ] {
        let error = refused(&connection).await;
        assert!(
            matches!(error, KafkaError::Tls { .. }),
            "{connection:?}: {error:?}"
        );
        let advice = error.advice();
        assert!(advice.contains("spec.kafka.tls.caSecretRef"), "{advice}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_none_is_refused_before_anything_is_asked() {
    let broken = Connection::plain(&[env("TEST_KAFKA_TLS")]).with_tls(Some("no certificate".to_owned()));
    let error = Admin::new(&broken).unwrap_err();
    assert!(matches!(error, KafkaError::Client(_)), "{error:?}");
    assert!(error.advice().contains("check the Secrets"), "{}", error.advice());
}
