//! TLS on the public port.

use recommendation_api::config::RecommenderConfig;
use reqwest::{Certificate, Client, Version};

use crate::embedded;
use crate::support::{Running, eventually};

const OLD: [&str; 2] = [include_str!("../data/old.crt"), include_str!("../data/old.key")];
const NEW: [&str; 2] = [include_str!("../data/new.crt"), include_str!("../data/new.key")];

/// A client that trusts this certificate alone.
fn client(certificate: &str) -> reqwest::ClientBuilder {
    let certificate = Certificate::from_pem(certificate.as_bytes()).unwrap();
    Client::builder().tls_certs_only([certificate])
}

#[tokio::test]
async fn https_speaks_both_versions_and_takes_a_renewed_certificate_up_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tls");
    std::fs::create_dir(&folder).unwrap();
    let write = |[certificate, key]: [&str; 2]| {
        std::fs::write(folder.join("tls.crt"), certificate).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
    };
    write(OLD);
    let mut config = RecommenderConfig::default();
    config.http.tls_dir = Some("tls".into());
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let url = format!("https://127.0.0.1:{}/v1/trending", service.public.port());
    let get = async |client: reqwest::ClientBuilder| client.build().unwrap().get(&url).send().await;
    let answer = get(client(OLD[0])).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2),
        "by ALPN"
    );
    let answer = get(client(OLD[0]).http1_only()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_11)
    );
    assert!(get(client(NEW[0])).await.is_err(), "not its certificate");
    // Half a renewal first: the pair does not fit, and the old one stays.
    std::fs::write(folder.join("tls.crt"), NEW[0]).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert!(get(client(OLD[0])).await.is_ok());
    write(NEW);
    eventually("the new certificate", || async {
        get(client(NEW[0])).await.is_ok()
    })
    .await;
    assert!(get(client(OLD[0])).await.is_err());
    service.stop().await;
}
