//! What the demo prints: recommendations with titles and reasons, and what a click changes.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{PIPELINE, Place};
use crate::api::Api;
use crate::clicks::{self, Click};

/// Customers of the data set: a regular one, a large one, a small one.
pub const CUSTOMERS: [&str; 3] = ["17850", "14911", "12583"];
/// Live clicks.
const CLICKS: usize = 3;

/// Prints one customer's recommendations.
pub fn recommendations(api: &Api, customer: &str) -> Result<()> {
    let answer = api
        .get(&format!("/v1/recommendations/{customer}?limit=5&explain=true"))?
        .json()?;
    println!(
        "\nRecommendations for customer {customer} ({}, {})",
        field(&answer["model"], "algorithm"),
        field(&answer, "fallback")
    );
    print!(
        "{}",
        table(
            answer["items"]
                .as_array()
                .context("recommendations without items")?
        )
    );
    Ok(())
}

/// Sends a few clicks and prints what each changed, and how fast.
pub fn live_clicks(api: &Api, customer: &str) -> Result<Vec<Click>> {
    println!("\nLive: customer {customer} clicks");
    let trending = api.get("/v1/trending?limit=50")?.json()?;
    let trending = trending["items"].as_array().context("trending without items")?;
    let mut measured = Vec::new();
    let mut before = clicks::shown(api, customer)?;
    // Products that the customer is not shown anyway: the change is easier to see.
    let candidates = trending
        .iter()
        .filter(|item| !before.iter().any(|(id, _)| item["product_id"] == **id));
    let picked: Vec<(String, String)> = candidates
        .take(CLICKS)
        .map(|item| (field(item, "product_id"), field(item, "title")))
        .collect();
    for (product, title) in picked {
        let click = clicks::click(api, customer, &product, &before)?;
        let after = clicks::shown(api, customer)?;
        println!(
            "  {product} {title}: acknowledged by Kafka after {:.1} ms, recommendations changed after {:.1} ms",
            click.acknowledged.as_secs_f64() * 1e3,
            click.changed.as_secs_f64() * 1e3
        );
        for (id, reason) in after.iter().filter(|shown| !before.contains(shown)).take(2) {
            println!("    now shown: {id} ({reason})");
        }
        before = after;
        measured.push(click);
    }
    recommendations(api, customer)?;
    Ok(measured)
}

/// Prints how to go on.
pub fn go_on(place: &Place, api: &Api, customer: &str) {
    let kubectl = place.kubectl.shown();
    println!("\nGo on with\n  {kubectl} get recpipe {PIPELINE} -o wide");
    println!("  {kubectl} get pods,services,configmaps -l app.kubernetes.io/instance={PIPELINE}");
    println!("  curl {}/v1/trending?limit=3", api.base());
    println!(
        "  TOKEN=$({kubectl} get secret {PIPELINE}-jwt -o go-template='{{{{.data.secret | base64decode}}}}' | {} token --user {customer} --secret-file /dev/stdin)",
        place.binaries.recommender.display()
    );
    println!(
        "  curl -H \"Authorization: Bearer $TOKEN\" {}/v1/recommendations/{customer}",
        api.base()
    );
    println!("  cargo xtask down        # stops everything and puts back what was changed");
}

fn field(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Items as an aligned table: product, title, score, reason.
fn table(items: &[Value]) -> String {
    let rows: Vec<[String; 4]> = items
        .iter()
        .map(|item| {
            let score = item["score"]
                .as_f64()
                .map_or(String::new(), |score| format!("{score:.4}"));
            [
                field(item, "product_id"),
                field(item, "title"),
                score,
                field(&item["reason"], "text"),
            ]
        })
        .collect();
    let head = ["product", "title", "score", "reason"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter()
            .chain([&head])
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let [product, title, score, reason] = row;
        let [a, b, c] = widths;
        text += &format!("  {product:<a$}  {title:<b$}  {score:>c$}  {reason}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_shows_title_score_and_reason() {
        let items = [
            serde_json::json!({"product_id": "85123A", "title": "HEART HOLDER", "score": 0.5,
            "reason": {"text": "because you bought LANTERN"}}),
        ];
        assert_eq!(
            table(&items),
            "  product  title          score  reason\n  85123A   HEART HOLDER  0.5000  because you bought LANTERN\n"
        );
    }
}
