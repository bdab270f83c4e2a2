//! ksqlDB behind TLS. No exchange over TLS was recorded: a recorded answer behind a TLS listener stands in for it.

use recommendation_operator::ksqldb::http::Servers;
use recommendation_operator::ksqldb::{Credentials, KsqlClient, KsqlError};

use crate::double::Double;
use crate::listener::serve;

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
