//! The report of an evaluation: one HTML page without scripts, its plots drawn as SVG.

use std::fmt::Write as _;

use super::Result;

const WIDTH: f64 = 640.0;
const ROW: f64 = 22.0;
const PLOT: f64 = 360.0;
const COLORS: [&str; 8] = [
    "#3366cc", "#dc3912", "#ff9900", "#109618", "#990099", "#0099c6", "#dd4477", "#66aa00",
];

/// The whole page.
pub(super) fn html(results: &[Result], k: usize) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Evaluation</title>\
        <style>body{font:14px sans-serif;max-width:70em;margin:2em auto}td,th{padding:.2em .6em;text-align:right}\
        td:first-child,th:first-child{text-align:left}svg{display:block;margin:1em 0}</style><h1>Evaluation</h1>",
    );
    let _ = write!(
        page,
        "<table><tr><th>model<th>recall@{k}<th>ndcg@{k}<th>hit rate@{k}<th>mrr@{k}<th>coverage<th>novelty<th>diversity<th>gini<th>train s</tr>"
    );
    for result in results {
        let m = &result.metrics;
        let _ = write!(
            page,
            "<tr><td>{}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.3}<td>{:.2}<td>{:.3}<td>{:.3}<td>{:.1}</tr>",
            result.model,
            m.recall,
            m.ndcg,
            m.hit_rate,
            m.mrr,
            m.coverage,
            m.novelty,
            m.diversity,
            m.gini,
            result.train_seconds
        );
    }
    page.push_str("</table>");
    bars(&mut page, "Recall by model", results, |result| {
        result.metrics.recall
    });
    bars(&mut page, "NDCG by model", results, |result| result.metrics.ndcg);
    scatter(&mut page, results);
    page.push_str("</html>\n");
    page
}

fn bars(page: &mut String, title: &str, results: &[Result], value: impl Fn(&Result) -> f64) {
    let top = results.iter().map(&value).fold(f64::MIN_POSITIVE, f64::max);
    let _ = write!(
        page,
        "<h2>{title}</h2><svg width=\"{WIDTH}\" height=\"{}\">",
        ROW * results.len() as f64
    );
    for (at, result) in results.iter().enumerate() {
        let (y, length) = (at as f64 * ROW, value(result) / top * (WIDTH - 220.0));
        let color = COLORS[at % COLORS.len()];
        let _ = write!(
            page,
            "<text x=\"0\" y=\"{}\">{}</text><rect x=\"110\" y=\"{}\" width=\"{length:.1}\" height=\"16\" \
            fill=\"{color}\"/><text x=\"{:.1}\" y=\"{}\">{:.4}</text>",
            y + 15.0,
            result.model,
            y + 3.0,
            116.0 + length,
            y + 15.0,
            value(result)
        );
    }
    page.push_str("</svg>");
}

fn scatter(page: &mut String, results: &[Result]) {
    let top = |value: fn(&Result) -> f64| results.iter().map(value).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let (right, up) = (
        top(|result| result.metrics.coverage),
        top(|result| result.metrics.recall),
    );
    let _ = write!(
        page,
        "<h2>Recall against coverage</h2><svg width=\"{WIDTH}\" height=\"{}\">\
        <line x1=\"50\" y1=\"0\" x2=\"50\" y2=\"{PLOT}\" stroke=\"#888\"/>\
        <line x1=\"50\" y1=\"{PLOT}\" x2=\"{WIDTH}\" y2=\"{PLOT}\" stroke=\"#888\"/>\
        <text x=\"0\" y=\"14\">{up:.3}</text><text x=\"{}\" y=\"{}\">coverage {right:.2}</text>",
        PLOT + 30.0,
        WIDTH - 110.0,
        PLOT + 18.0
    );
    for (at, result) in results.iter().enumerate() {
        let x = 50.0 + result.metrics.coverage / right * (WIDTH - 170.0);
        let y = PLOT - result.metrics.recall / up * PLOT;
        let color = COLORS[at % COLORS.len()];
        let _ = write!(
            page,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{color}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 8.0,
            y + 5.0,
            result.model
        );
    }
    page.push_str("</svg>");
}

#[cfg(test)]
mod tests {
    use recommender_engine::eval::{Metrics, Params};

    use super::*;

    #[test]
    fn every_model_stands_in_the_table_and_in_each_plot() {
        let result = |model, recall| Result {
            model,
            parameters: Params::default(),
            metrics: Metrics {
                recall,
                coverage: 0.5,
                ..Metrics::default()
            },
            train_seconds: 1.0,
            predict_seconds: 1.0,
            peak_memory_bytes: 0,
        };
        let page = html(&[result("Ease", 0.1), result("Hybrid", 0.2)], 20);
        assert_eq!(page.matches("Ease").count(), 4);
        assert_eq!(page.matches("<circle").count(), 2);
        assert!(!page.contains("NaN"));
    }
}
