//! Prometheus' HTTP API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How far back a dashboard's queries look, in seconds.
const LOOK_BACK: u64 = 300;
/// Grafana's step for a range that short: the scrape interval.
const STEP: &str = "15";

/// A Prometheus of this machine.
pub(super) struct Prometheus {
    agent: ureq::Agent,
    base: String,
}

impl Prometheus {
    pub(super) fn new(port: u16) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self {
            agent,
            base: format!("http://127.0.0.1:{port}"),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.agent
            .get(format!("{}/-/ready", self.base))
            .call()
            .is_ok_and(|response| response.status() == 200)
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut request = self.agent.get(format!("{}/api/v1/{path}", self.base));
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        let mut response = request
            .call()
            .with_context(|| format!("asking Prometheus for {path}"))?;
        let text = response.body_mut().read_to_string()?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(
            answer["status"] == "success",
            "{path} {parameters:?}: {}",
            answer["error"]
        );
        Ok(answer["data"].take())
    }

    /// Scraped targets.
    pub(super) fn targets(&self) -> Result<Vec<Value>> {
        let data = self.get("targets", &[("state", "active")])?;
        Ok(data["activeTargets"].as_array().cloned().unwrap_or_default())
    }

    /// Loaded rules of all groups.
    pub(super) fn rules(&self) -> Result<Vec<Value>> {
        let data = self.get("rules", &[])?;
        let groups = data["groups"].as_array().into_iter().flatten();
        Ok(groups
            .flat_map(|group| group["rules"].as_array().into_iter().flatten().cloned())
            .collect())
    }

    /// Values of a label of the series that `selector` picks.
    pub(super) fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>> {
        let data = self.get(&format!("label/{label}/values"), &[("match[]", selector)])?;
        serde_json::from_value(data).context("label values that are no texts")
    }

    /// How many series a panel would draw: those with a number in the last five minutes.
    pub(super) fn series_with_data(&self, expr: &str) -> Result<usize> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("a clock before 1970")?
            .as_secs();
        let (start, end) = ((now - LOOK_BACK).to_string(), now.to_string());
        let data = self.get(
            "query_range",
            &[("query", expr), ("start", &start), ("end", &end), ("step", STEP)],
        )?;
        let series = data["result"].as_array().context("no result")?;
        Ok(series.iter().filter(|one| has_number(one)).count())
    }
}

/// Whether a series has a value that is drawn: `NaN` (0 requests of 0) is not.
fn has_number(series: &Value) -> bool {
    let values = series["values"].as_array().into_iter().flatten();
    values
        .filter_map(|point| point[1].as_str()?.parse::<f64>().ok())
        .any(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_series_of_nothing_but_nan_is_an_empty_panel() {
        assert!(!has_number(&json!({"values": [[1, "NaN"], [2, "+Inf"]]})));
        assert!(!has_number(&json!({"values": []})));
        assert!(has_number(&json!({"values": [[1, "NaN"], [2, "0"]]})));
    }
}
