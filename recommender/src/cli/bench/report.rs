//! What was measured, as JSON or as a table.

use serde::Serialize;

use super::client::Figures;

/// One line of the result.
#[derive(Serialize)]
pub(super) struct Line {
    pub what: String,
    pub algorithm: String,
    pub cache: &'static str,
    pub token_check: bool,
    #[serde(flatten)]
    pub figures: Figures,
    /// Requests a second as a share of the route that does nothing behind the service's layers.
    pub of_nothing: f64,
}

#[derive(Serialize)]
pub(super) struct Report {
    pub customers: usize,
    pub products: usize,
    pub events: usize,
    pub connections: u16,
    pub cores: usize,
    pub resident_mb: u64,
    pub lines: Vec<Line>,
}

pub(super) fn text(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.set_header([
        "question",
        "model",
        "cache",
        "token",
        "req/s",
        "of nothing",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "bytes",
        "failed",
    ]);
    for line in &report.lines {
        let f = &line.figures;
        table.add_row([
            line.what.clone(),
            line.algorithm.clone(),
            line.cache.to_owned(),
            if line.token_check { "yes" } else { "no" }.to_owned(),
            format!("{:.0}", f.per_second),
            format!("{:.2}", line.of_nothing),
            format!("{:.2}", f.p50_ms),
            format!("{:.2}", f.p90_ms),
            format!("{:.2}", f.p99_ms),
            format!("{:.0}", f.bytes),
            f.failed.to_string(),
        ]);
    }
    format!(
        "{} customers, {} products, {} events; {} connections; {} cores shared by server and clients; log off\n\
         {} MB resident after loading, {:.0} MB for a million customers\n{table}\n",
        report.customers,
        report.products,
        report.events,
        report.connections,
        report.cores,
        report.resident_mb,
        report.resident_mb as f64 * 1e6 / report.customers.max(1) as f64,
    )
}
