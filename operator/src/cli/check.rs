//! `check`: one GET, for probes and `helm test` from an image that holds nothing but this program.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::controller::authorities;

/// Longer than any healthy answer takes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// What to ask, for example http://127.0.0.1:9090/readyz.
    #[arg(long)]
    url: String,
    /// Ask again until it answers with success, for this many seconds.
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

pub(super) async fn run(args: &CheckArgs) -> anyhow::Result<()> {
    // The system's authorities are none in the image, and looking for them fails.
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .tls_certs_only(authorities()?)
        .build()?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(args.wait);
    loop {
        match ask(&client, &args.url).await {
            Ok(body) => {
                println!("{}: {}", args.url, body.trim());
                return Ok(());
            }
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> anyhow::Result<String> {
    let response = client
        .get(url)
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    ensure!(status.is_success(), "{url} answers {status}: {}", body.trim());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn success_ends_it_and_anything_else_is_an_error_that_names_the_address() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let router = axum::Router::new()
            .route("/readyz", axum::routing::get(|| async { "ok" }))
            .route(
                "/bad",
                axum::routing::get(|| async { axum::http::StatusCode::SERVICE_UNAVAILABLE }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let check = |path: &str| CheckArgs {
            url: format!("http://{address}{path}"),
            wait: 0,
        };
        run(&check("/readyz")).await.unwrap();
        let error = run(&check("/bad")).await.unwrap_err().to_string();
        assert!(error.contains("/bad answers 503"), "{error}");
        server.abort();
    }
}
