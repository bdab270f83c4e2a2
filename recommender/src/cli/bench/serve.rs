//! `recommender bench serve`: a shop of sessions, served as it would be, for a load generator of one's own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use recommendation_api::model::Algorithm;

use super::running::{Folder, Running, config, resident_mb};
use super::start::append;
use super::stream;
use crate::cli::print;
use crate::log::Log as _;
use crate::log::embedded::EmbeddedLog;
use crate::service::Mode;

#[derive(clap::Args)]
#[command(after_help = "Example, with wrk and the script of docs/contributing.md:\n  \
    recommender bench serve --sessions train.txt.gz --listen 127.0.0.1:8080 &\n  \
    wrk -t1 -c8 -d10s --latency -s visits.lua http://127.0.0.1:8080/v1/recommendations -- test.txt")]
pub(super) struct Args {
    /// Sessions, one a line, of products separated by blanks; plain or gzipped
    #[arg(long, value_name = "FILE")]
    sessions: PathBuf,
    /// Public address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
}

/// Learns the sessions, and answers until it is told to end. The log is off, nothing is cached, and who asks for an
/// anonymous visit needs no token.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = Folder::new().context("no folder for the log")?;
    let path = folder.0.join("shop.db");
    {
        let log = stream::sessions(&args.sessions)?;
        eprintln!(
            "{} sessions of {} products",
            log.customers.len(),
            log.products.len()
        );
        let embedded = EmbeddedLog::open(&path)?;
        append(&embedded, &log).await?;
        embedded.close().await;
    }
    let mut config = config(false);
    config.model.algorithm = Algorithm::SessionKnn;
    // As a shop has it that answers from visits alone.
    config.limits.neighbors = 0;
    let service = Running::start_at(&folder.0, Mode::Embedded(path), config, args.listen).await?;
    print(
        format!(
            "http://{} answers, {} MB resident\n",
            service.address,
            resident_mb()
        )
        .as_bytes(),
    )?;
    // The folder's signals end it.
    service.stopped().await?;
    Ok(ExitCode::SUCCESS)
}
