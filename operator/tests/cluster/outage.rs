//! Kafka that is not there, and then is.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Harness;

/// A port where nothing listens.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Forwards a port of this machine to Kafka.
async fn proxy(port: u16, kafka: String) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut inbound, _)) = listener.accept().await {
            let kafka = kafka.clone();
            tokio::spawn(async move {
                if let Ok(mut outbound) = TcpStream::connect(kafka).await {
                    let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
                }
            });
        }
    })
}

#[tokio::test]
async fn kafka_that_is_not_reachable_is_unknown_hides_nothing_and_heals_by_itself() {
    let harness = Harness::new().await;
    let operator = harness.operator().await;
    let port = free_port().await;
    let spec = json!({"kafka": {"bootstrapServers": [format!("127.0.0.1:{port}")]}});
    harness.apply("shop", spec).await.unwrap();
    let message = harness
        .condition("shop", "TopicsReady", "Unknown", "KafkaUnreachable")
        .await;
    assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
    let _: Deployment = harness.get("shop").await;
    harness
        .condition("shop", "SpecAccepted", "True", "Accepted")
        .await;
    operator.settled().await;

    let kafka = proxy(port, harness.kafka.clone()).await;
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    kafka.abort();
    harness.end(operator).await;
}
