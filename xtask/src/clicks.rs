//! From a live click to changed recommendations, as a shop's customer would notice it: one event is posted,
//! then the recommendations are asked for until they differ.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::api::Api;

/// How long a click may take before it counts as lost.
const LOST: Duration = Duration::from_secs(10);

/// One measured click.
#[derive(Debug)]
pub struct Click {
    /// From sending the event to its acknowledgement by the broker.
    pub acknowledged: Duration,
    /// From sending the event to the first answer that differs.
    pub changed: Duration,
}

/// Sends one click and waits until the customer's recommendations differ from `before`.
///
/// # Errors
/// When the event is refused, or nothing changes within ten seconds.
pub fn click(api: &Api, customer: &str, product: &str, before: &[(String, String)]) -> Result<Click> {
    let begun = Instant::now();
    let event = json!({"customer_id": customer, "product_id": product, "event_type": "click"});
    api.post("/v1/events", &event)?
        .json()
        .context("the click was not accepted")?;
    let acknowledged = begun.elapsed();
    loop {
        if shown(api, customer)? != before {
            return Ok(Click {
                acknowledged,
                changed: begun.elapsed(),
            });
        }
        if begun.elapsed() > LOST {
            bail!(
                "{customer}'s recommendations did not change within {} s of a click on {product}",
                LOST.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a customer is shown: products in order, each with its reason. Scores are left out: they decay by
/// themselves, so a difference there would not prove that the click was learned.
///
/// # Errors
/// When the service does not answer.
pub fn shown(api: &Api, customer: &str) -> Result<Vec<(String, String)>> {
    let answer = api
        .get(&format!("/v1/recommendations/{customer}?limit=20"))?
        .json()?;
    let items = answer["items"]
        .as_array()
        .context("recommendations without items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items
        .iter()
        .map(|item| (text(&item["product_id"]), text(&item["reason"]["text"])))
        .collect())
}

/// The value below which `share` (0..=1) of the sorted durations lie.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_durations() {
        let ms: Vec<Duration> = (0..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&ms, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&ms, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
