//! ksqlDB behind TLS. No exchange over TLS was recorded: a recorded answer behind a TLS listener stands in for it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use recommendation_operator::ksqldb::http::Servers;
use recommendation_operator::ksqldb::{Credentials, KsqlClient, KsqlError};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::double::Double;

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            // A client that does not trust the certificate ends the handshake.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// An authority's certificate (PEM), and the address of a TLS server whose certificate comes from it.
async fn serve(routes: Router) -> (String, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", tcp.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move { axum::serve(Tls { tcp, acceptor }, routes).await });
    (made.cert.pem(), address)
}

#[tokio::test]
async fn synthetic_the_authority_of_the_secret_is_trusted_and_no_other() {
    let names = [
        "120-show-streams",
        "122-list-tables",
        "125-list-queries",
        "806-auth-ok-ksql",
    ];
    let (routes, tape) = Double::routes(&names);
    let (ca, address) = serve(routes).await;
    let servers = Servers::default();
    let client = KsqlClient::new(servers.client(&ca).unwrap(), &address, None);
    assert_eq!(client.listing().await.unwrap().sources.len(), 6);
    assert!(tape.lock().unwrap().strangers().is_empty());

    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = KsqlClient::new(servers.client(&other.cert.pem()).unwrap(), &address, None);
    let error = stranger.listing().await.unwrap_err();
    assert!(matches!(error, KsqlError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn synthetic_basic_credentials_travel_inside_tls() {
    let (routes, tape) = Double::routes(&["806-auth-ok-ksql"]);
    let (ca, address) = serve(routes).await;
    let credentials = Credentials {
        username: "operator".to_owned(),
        password: "op-pass".to_owned(),
    };
    let http = Servers::default().client(&ca).unwrap();
    // The recording has the streams only; the client gets as far as its next question.
    let _ = KsqlClient::new(http, &address, Some(credentials)).listing().await;
    let strangers = tape.lock().unwrap().strangers().to_vec();
    assert!(
        strangers
            .iter()
            .all(|stranger| !stranger.contains("SHOW STREAMS")),
        "{strangers:?}"
    );
}
