//! A shop that is made up: products by Zipf's law, customers nearly so.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use recommendation_api::Event;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::log::Log as _;
use crate::log::embedded::EmbeddedLog;

/// Events appended at once.
const AT_ONCE: usize = 10_000;
/// Batches of live events a second.
const BATCHES: usize = 20;
const DAY_MS: i64 = 86_400_000;

/// Its size.
pub(super) struct Shop {
    pub customers: usize,
    pub products: usize,
}

impl Shop {
    /// The inverse of the continuous law with exponent 1: `n` to the power of a uniform draw.
    fn draw(random: &mut SmallRng, n: usize) -> usize {
        ((n as f64).powf(random.random_range(0.0..1.0)) as usize).clamp(1, n) - 1
    }

    fn event(&self, random: &mut SmallRng, at: usize, time_ms: i64) -> Value {
        let kind = match at % 10 {
            0 => "purchase",
            1 | 2 => "cart",
            _ => "view",
        };
        // Every customer now and then, some far more often.
        let customer = Self::draw(random, self.customers).max((at * 7_919) % self.customers);
        json!({
            "customer_id": format!("customer-{customer}"),
            "product_id": format!("product-{}", Self::draw(random, self.products)),
            "event_type": kind,
            "timestamp": time_ms,
        })
    }

    /// Writes so many events of the last ninety days to an embedded log; the same ones each time.
    pub async fn write(&self, path: &Path, events: usize) -> anyhow::Result<()> {
        let log = EmbeddedLog::open(path)?;
        let mut random = SmallRng::seed_from_u64(42);
        let now = now_ms();
        let mut at = 0;
        while at < events {
            let batch = (at..events.min(at + AT_ONCE))
                .map(|at| {
                    let time = now - 90 * DAY_MS + (at as i64) * 89 * DAY_MS / events as i64;
                    let text = self.event(&mut random, at, time).to_string();
                    Event::parse(text.as_bytes(), None).map_err(anyhow::Error::from)
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            at += batch.len();
            log.append(&batch)
                .await
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?;
        }
        log.close().await;
        Ok(())
    }

    /// Customers to ask about, spread over all; the same ones each time.
    pub fn some_customers(&self, at_most: usize) -> Vec<String> {
        let step = (self.customers / at_most.max(1)).max(1);
        let mut numbers: Vec<usize> = (0..self.customers).step_by(step).take(at_most).collect();
        let mut random = SmallRng::seed_from_u64(7);
        // Not in the order in which they became known, which memory would favour.
        for at in (1..numbers.len()).rev() {
            numbers.swap(at, random.random_range(0..=at));
        }
        numbers.into_iter().map(|n| format!("customer-{n}")).collect()
    }
}

/// Sends so many events a second to a service, as a shop would, until it is aborted.
pub(super) async fn live(
    shop: std::sync::Arc<Shop>,
    service: SocketAddr,
    token: String,
    per_second: usize,
) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    let mut random = SmallRng::seed_from_u64(43);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / BATCHES as u32);
    let mut at = 0;
    loop {
        tick.tick().await;
        let events: Vec<Value> = (0..(per_second / BATCHES).max(1))
            .map(|n| shop.event(&mut random, at + n, now_ms()))
            .collect();
        at += events.len();
        let sent = client
            .post(format!("http://{service}/v1/events/batch"))
            .bearer_auth(&token)
            .json(&json!({ "events": events }))
            .send()
            .await
            .context("live events")?;
        anyhow::ensure!(sent.status().is_success(), "live events: {}", sent.status());
    }
}
