//! The page on metrics is held to the metrics.

use recommender::metrics::Metrics;

#[test]
fn every_metric_stands_on_the_page_with_its_labels_and_meaning_and_no_other_does() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let metrics = Metrics::new().unwrap();
    let mut expected: Vec<String> = metrics
        .described()
        .iter()
        .map(|metric| {
            let labels = metric.labels.join(", ");
            format!("| `{}` | {labels} | {} |", metric.name, metric.help)
        })
        .collect();
    expected.sort();
    let written: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `recommender_"))
        .collect();
    assert_eq!(
        written,
        expected,
        "the table of docs/metrics.md should read:\n{}",
        expected.join("\n")
    );
}
