//! Calls of other people's services: how a client of them is made and how much of an answer is read.

use std::time::Duration;

/// A client that waits so long for an answer.
pub(crate) fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout).build()
}

/// One that goes nowhere that an answer points to: where keys or credentials come from, an address that moves is a reason
/// to look, not to follow.
pub(super) fn staying(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

fn builder(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .tls_certs_only(public_authorities())
}

/// The authorities that a container without a file system has no list of.
fn public_authorities() -> impl Iterator<Item = reqwest::Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| reqwest::Certificate::from_der(der).ok())
}

/// The body of an answer; `None` where it is longer than so many bytes.
pub(super) async fn body(
    mut answer: reqwest::Response,
    most: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}
