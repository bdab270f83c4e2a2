//! A shop that is made up: products by Zipf's law, customers nearly so.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use recommendation_api::Event;
use serde_json::{Value, json};

use super::client::parse;
use crate::clock::now_ms;
use crate::log::Log as _;
use crate::log::embedded::EmbeddedLog;

/// Events appended at once.
const AT_ONCE: usize = 10_000;
/// Batches of live events a second.
const BATCHES: usize = 20;
/// Batches that are made up: some seconds' worth.
const BODIES: usize = 60;
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

/// Events that are sent to a service as by a shop, so many a second, in batches.
pub(super) struct Live {
    service: SocketAddr,
    /// Written once and sent again and again: making them up must not take the processor from what is measured.
    requests: Arc<Vec<Vec<u8>>>,
    /// Events of a batch.
    size: usize,
}

impl Live {
    pub fn of(shop: &Shop, service: SocketAddr, token: &str, per_second: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(43);
        let size = (per_second / BATCHES).max(1);
        let requests = (0..BODIES).map(|n| {
            let events: Vec<Value> = (0..size)
                .map(|at| {
                    let mut event = shop.event(&mut random, n * size + at, 0);
                    // The record's own time, whenever it is sent.
                    event["timestamp"] = Value::Null;
                    event
                })
                .collect();
            let body = json!({ "events": events }).to_string();
            let head = format!(
                "POST /v1/events/batch HTTP/1.1\r\nhost: {service}\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            [head, body].concat().into_bytes()
        });
        Self {
            service,
            requests: Arc::new(requests.collect()),
            size,
        }
    }

    /// Sends them until it is stopped, from a thread of its own that shares nothing with the service but the machine.
    pub fn start(&self) -> anyhow::Result<Sending> {
        let stop = Arc::new(AtomicBool::new(false));
        let (service, size) = (self.service, self.size);
        let (requests, stopped) = (Arc::clone(&self.requests), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("bench-live".into())
            .spawn(move || send(service, &requests, size, &stopped))?;
        Ok(Sending { stop, thread })
    }
}

/// Events on their way.
pub(super) struct Sending {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<f64>>,
}

impl Sending {
    /// Stops sending; events a second that were acknowledged.
    pub fn stop(self) -> anyhow::Result<f64> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the thread that sends live events panicked"))?
    }
}

fn send(service: SocketAddr, requests: &[Vec<u8>], size: usize, stop: &AtomicBool) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(service)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    let mut buffer = vec![0; 1 << 20];
    let (begun, mut acknowledged) = (Instant::now(), 0);
    let mut due = begun;
    for request in requests.iter().cycle() {
        if stop.load(Relaxed) {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += Duration::from_secs(1) / BATCHES as u32;
        stream.write_all(request)?;
        if accepted(&mut stream, &mut buffer).context("live events")? {
            acknowledged += size;
        }
    }
    Ok(acknowledged as f64 / begun.elapsed().as_secs_f64())
}

/// Reads an answer; whether it is 202.
fn accepted(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let mut have = 0;
    loop {
        let more = stream.read(&mut buffer[have..])?;
        anyhow::ensure!(more > 0, "the server closed the connection");
        have += more;
        if let Some(head) = buffer[..have].windows(4).position(|end| end == b"\r\n\r\n") {
            let (length, _) = parse(&buffer[..head]).context("an answer without content-length")?;
            let bytes = head + 4 + length;
            anyhow::ensure!(bytes <= buffer.len(), "an answer of {bytes} bytes");
            if have < bytes {
                stream.read_exact(&mut buffer[have..bytes])?;
            }
            return Ok(buffer.starts_with(b"HTTP/1.1 202"));
        }
    }
}
