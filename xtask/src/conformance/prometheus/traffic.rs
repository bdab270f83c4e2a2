//! What a shop sends, and what it should not send: every line of a dashboard stands for something that happens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::cluster::Cluster;
use crate::api::Api;
use crate::demo::PIPELINE;
use crate::stack::kafka_tools;

/// Customers of the data set.
const CUSTOMERS: [&str; 6] = ["17850", "14911", "12583", "13047", "15311", "17841"];
/// Pause between two requests: a shop at work, not a load test.
const PAUSE: Duration = Duration::from_millis(20);

/// A record that is no event, past the HTTP API, as a broken producer would write it.
pub(super) fn malformed_record(cluster: &Cluster) -> Result<()> {
    let object = cluster.place.kubectl.json(&format!("get recpipe {PIPELINE}"))?;
    let topics = object["status"]["topics"].as_array().into_iter().flatten();
    let topic = topics
        .filter(|topic| topic["role"] == "Events")
        .find_map(|topic| topic["name"].as_str())
        .unwrap_or("customer_behavior");
    kafka_tools::produce(&cluster.stack()?.run, topic, &["{\"customer_id\": "])
}

/// Sends requests for about `lasting`: reads, writes, and calls that are refused; and has the operator look at the
/// pipeline again.
pub(super) fn round(cluster: &Cluster, api: &Api, lasting: Duration) -> Result<()> {
    let begun = Instant::now();
    let touched = format!(
        "annotate recpipe {PIPELINE} example.com/looked-at={:?} --overwrite",
        std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs()
    );
    cluster.place.kubectl.run(&touched)?;
    let trending = api.get("/v1/trending?limit=50")?.json()?;
    let products: Vec<&str> = trending["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["product_id"].as_str())
        .collect();
    ensure!(!products.is_empty(), "nothing is trending");
    refused(api)?;
    let kinds = ["view", "click", "cart", "purchase"];
    let mut sent = 0;
    while begun.elapsed() < lasting {
        for (index, customer) in CUSTOMERS.iter().enumerate() {
            // Twice, once without waiting for the other replica: the second is from a cache.
            for _ in 0..2 {
                api.get(&format!("/v1/recommendations/{customer}?limit=5"))?
                    .json()?;
            }
            let product = products[(sent * 7 + index) % products.len()];
            let event = json!({"customer_id": customer, "product_id": product, "event_type": kinds[sent % kinds.len()]});
            api.post("/v1/events", &event)?.json()?;
            sent += 1;
            std::thread::sleep(PAUSE);
        }
        // Other connections: other replicas.
        api.fresh()
            .get("/v1/recommendations/nobody-knows-me?limit=5")?
            .json()?;
    }
    Ok(())
}

/// A malformed event, a caller without a token, one that asks too often.
fn refused(api: &Api) -> Result<()> {
    let malformed = api.post("/v1/events", &json!({"customer_id": 1, "event_type": []}))?;
    ensure!(
        (400..500).contains(&malformed.status),
        "a malformed event: HTTP {}",
        malformed.status
    );
    let anonymous = Api::new(api.base(), None).get("/v1/recommendations/17850")?;
    ensure!(
        anonymous.status == 401,
        "without a token: HTTP {}",
        anonymous.status
    );
    let mut last = 0;
    for _ in 0..6 {
        last = api.get("/api/resource")?.status;
    }
    ensure!(last == 429, "the sixth call of /api/resource: HTTP {last}");
    let problem: Value =
        serde_json::from_str(&malformed.text).context("a refusal that is no problem document")?;
    ensure!(problem["status"] == malformed.status, "{}", malformed.text);
    Ok(())
}
