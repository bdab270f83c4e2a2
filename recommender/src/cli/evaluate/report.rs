//! The report of an evaluation: one HTML page without scripts, its plots drawn as SVG.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use recommender_engine::eval::Series;

use super::Result;
use super::plots::{Named, Panel, STYLE, Scale, bars, escaped, figure};
use super::sweep::{self, Point};

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Evaluation of recommendation models</title>\
    <style>body{font:15px/1.5 Inter,system-ui,sans-serif;max-width:64rem;margin:2.5rem auto;padding:0 1.2rem;\
    color:#18222c;background:#f5f3ee}h1{font-size:1.5rem;letter-spacing:-.01em;margin:0 0 .4rem}\
    .scroll{overflow-x:auto;background:#fffefa;border:1px solid #dad6cb;border-radius:10px;padding:.4rem .8rem}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}\
    td,th{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #e3e0d8;font-weight:400;white-space:nowrap}\
    thead th{color:#56626e;font-size:.88em}tbody tr:last-child>*{border-bottom:0}\
    td:first-child,th:first-child{text-align:left}tbody th{font-weight:600}td.best{font-weight:700;color:#256b3b}\
    figure{margin:1.2rem 0;background:#fffefa;border:1px solid #dad6cb;border-radius:10px;padding:.9rem 1rem}\
    figcaption{font-weight:600;margin-bottom:.5rem}svg{width:100%;max-width:54rem;height:auto;display:block}\
    details{margin:.4rem 0}summary{cursor:pointer}\
    pre{white-space:pre-wrap;font-size:12px;background:#fffefa;border:1px solid #dad6cb;border-radius:8px;padding:.6rem}";
const TITLE: &str = "</style><h1>Evaluation of recommendation models</h1>";

/// The beginning of every page.
fn head() -> String {
    format!("{HEAD}{STYLE}{TITLE}")
}

/// Writes the page.
pub(super) fn write(path: &Path, page: &str) -> anyhow::Result<()> {
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// The whole page: results on a split, and hit rates over time, where there are any.
pub(super) fn html(results: &[Result], over_time: &[Series], k: usize) -> String {
    let mut page = head();
    if let Some(first) = results.first() {
        let _ = write!(
            page,
            "<p>{} questions, {k} products an answer. The best of each column stands out.</p>",
            first.metrics.users
        );
        table(&mut page, results, k);
        let values = |value: fn(&Result) -> f64| -> Vec<(&str, f64)> {
            results
                .iter()
                .map(|result| (result.model, value(result)))
                .collect()
        };
        bars(
            &mut page,
            &format!("Recall@{k} by model"),
            &values(|result| result.metrics.recall),
        );
        bars(
            &mut page,
            &format!("NDCG@{k} by model"),
            &values(|result| result.metrics.ndcg),
        );
        let dots: Vec<Named<'_>> = results
            .iter()
            .map(|result| Named {
                name: result.model,
                points: vec![(result.metrics.coverage, result.metrics.recall)],
                marks: Vec::new(),
            })
            .collect();
        let panel = Panel {
            title: "Recall against coverage: up finds more, right shows more of the catalogue",
            x: Scale {
                name: "coverage of the catalogue",
                write: &|value| format!("{:.0} %", value * 100.0),
            },
            y: Scale {
                name: "recall",
                write: &|value| format!("{value:.3}"),
            },
        };
        figure(&mut page, panel.title, &panel.draw(&dots));
    }
    if !over_time.is_empty() {
        let lines: Vec<Named<'_>> = over_time.iter().map(line).collect();
        let panel = Panel {
            title: &format!(
                "Hit rate over time: each event predicted before it is learned, {k} products an answer"
            ),
            x: Scale {
                name: "time",
                write: &day,
            },
            y: Scale {
                name: "hit rate",
                write: &|value| format!("{value:.3}"),
            },
        };
        figure(&mut page, panel.title, &panel.draw(&lines));
        let totals: Vec<(&str, f64)> = over_time
            .iter()
            .map(|series| (series.algorithm.name(), series.total.hit_rate))
            .collect();
        bars(&mut page, "Hit rate over the whole time", &totals);
    }
    for result in results {
        let parameters = serde_json::to_string_pretty(&result.parameters).unwrap_or_default();
        let _ = write!(
            page,
            "<details><summary>Parameters of {}</summary><pre>{}</pre></details>",
            result.model,
            escaped(&parameters)
        );
    }
    page.push_str("</html>\n");
    page
}

/// The page of a sweep: the table, and what one value buys and costs.
pub(super) fn of_sweep(points: &[Point], key: &str, k: usize) -> String {
    let mut page = head();
    let questions = points.first().map_or(0, |point| point.metrics.users);
    let _ = write!(
        page,
        "<p>{questions} questions, {k} products an answer, at several values of {}.</p>",
        escaped(key)
    );
    let _ = write!(
        page,
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">model<th scope=\"col\">{}",
        escaped(key)
    );
    for name in [
        "recall",
        "NDCG",
        "hit rate",
        "MRR",
        "coverage",
        "novelty",
        "diversity",
        "Gini",
    ] {
        let _ = write!(page, "<th scope=\"col\">{name}");
    }
    page.push_str("</thead><tbody>");
    for point in points {
        let m = &point.metrics;
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}<td>{}",
            point.model,
            escaped(&point.value)
        );
        for (value, decimals) in [
            (m.recall, 4),
            (m.ndcg, 4),
            (m.hit_rate, 4),
            (m.mrr, 4),
            (m.coverage, 3),
            (m.novelty, 2),
            (m.diversity, 3),
            (m.gini, 3),
        ] {
            let _ = write!(page, "<td>{value:.decimals$}");
        }
    }
    page.push_str("</tbody></table></div>");
    for (title, drawing) in sweep::panels(points, key, k) {
        figure(&mut page, &title, &drawing);
    }
    page.push_str("</html>\n");
    page
}

fn line(series: &Series) -> Named<'_> {
    let points = series.points.iter();
    Named {
        name: series.algorithm.name(),
        points: points
            .map(|point| (point.from_ms as f64, point.hit_rate))
            .collect(),
        marks: Vec::new(),
    }
}

/// A day as axes and tables write it.
pub(super) fn day(milliseconds: f64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds as i64)
        .map(|time| time.strftime("%Y-%m-%d").to_string())
        .unwrap_or_default()
}

/// A column of the table: its name, its value, how many decimals, and whether more is better.
type Column = (&'static str, fn(&Result) -> f64, usize, bool);

fn table(page: &mut String, results: &[Result], k: usize) {
    let columns: [Column; 10] = [
        ("recall", |result| result.metrics.recall, 4, true),
        ("NDCG", |result| result.metrics.ndcg, 4, true),
        ("hit rate", |result| result.metrics.hit_rate, 4, true),
        ("MRR", |result| result.metrics.mrr, 4, true),
        ("coverage", |result| result.metrics.coverage, 3, true),
        ("novelty", |result| result.metrics.novelty, 2, true),
        ("diversity", |result| result.metrics.diversity, 3, true),
        ("Gini", |result| result.metrics.gini, 3, false),
        ("training, s", |result| result.train_seconds, 1, false),
        ("answers, s", |result| result.predict_seconds, 1, false),
    ];
    let _ = write!(
        page,
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">model, @{k}"
    );
    for (name, ..) in &columns {
        let _ = write!(page, "<th scope=\"col\">{name}");
    }
    page.push_str("</thead><tbody>");
    for result in results {
        let _ = write!(page, "<tr><th scope=\"row\">{}", result.model);
        for (_, value, decimals, more) in &columns {
            let mine = value(result);
            let beaten = results
                .iter()
                .map(value)
                .any(|other| if *more { other > mine } else { other < mine });
            let class = if beaten { "" } else { " class=\"best\"" };
            let _ = write!(page, "<td{class}>{mine:.decimals$}");
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

#[cfg(test)]
mod tests {
    use recommender_engine::Algorithm;
    use recommender_engine::eval::{Metrics, Params, Point};

    use super::*;

    fn result(model: &'static str, recall: f64) -> Result {
        Result {
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
        }
    }

    #[test]
    fn every_model_stands_in_the_table_and_in_each_plot() {
        let point = |from_ms, hit_rate| Point {
            from_ms,
            hit_rate,
            ..Point::default()
        };
        let series = Series {
            algorithm: Algorithm::Hybrid,
            total: point(0, 0.1),
            coverage: 0.5,
            points: vec![point(0, 0.05), point(86_400_000, 0.15)],
            predictions: Vec::new(),
        };
        let page = html(&[result("Ease", 0.1), result("Hybrid", 0.2)], &[series], 20);
        // Table, two kinds of bars, dots and parameters.
        assert_eq!(page.matches("Ease").count(), 5);
        assert_eq!(page.matches("<circle").count(), 2);
        assert_eq!(page.matches("<polyline").count(), 1);
        assert!(page.contains("1970-01-02") && !page.contains("NaN"));
        for elsewhere in ["http", "<script", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_report_of_nothing_found_is_still_a_page() {
        let page = html(&[result("Ease", 0.0)], &[], 20);
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
