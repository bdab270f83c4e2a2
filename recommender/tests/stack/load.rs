//! Customers who read and a shop that writes, all the while: what they were answered, by what had happened to the servers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::token;

/// Customers of each row, products of the shop, and how many of them one customer buys: fewer than a history keeps.
pub const CUSTOMERS: usize = 100;
const PRODUCTS: usize = 200;
const BOUGHT: usize = 20;
const BATCH: usize = 20;
/// Between two requests of one reader or writer. Few enough requests that a busy machine is no overload by our doing.
const PAUSE: Duration = Duration::from_millis(25);

/// The replicas that are ready, as a Service knows them.
pub type Endpoints = Arc<Mutex<Vec<SocketAddr>>>;

/// What happened while one thing was wrong.
#[derive(Default)]
pub struct Seen {
    /// What those were answered that no replica answered well.
    pub failed: Vec<String>,
    /// Reads whose connection broke, which the other replica then answered: what a proxy does by itself.
    pub asked_again: usize,
    /// How long each answer took.
    pub took: Vec<Duration>,
    /// Writes that were not acknowledged and sent again.
    pub refused: usize,
    pub acknowledged: usize,
    /// The longest time in which nothing was acknowledged.
    pub silence: Duration,
    /// Purchases of a product by a customer, all of them acknowledged in the end.
    pub bought: HashMap<(String, String), i64>,
}

#[derive(Default)]
struct Shared {
    rows: Vec<Seen>,
    last_acknowledged: Option<Instant>,
}

/// The load.
pub struct Load {
    shared: Arc<Mutex<Shared>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Load {
    /// Readers and writers of these replicas.
    pub fn start(client: &reqwest::Client, endpoints: &Endpoints, readers: usize, writers: usize) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            rows: vec![Seen::default()],
            ..Shared::default()
        }));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for number in 0..readers + writers {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            let mut worker = Worker {
                client: client.clone(),
                endpoints: Arc::clone(endpoints),
                shared,
                number,
                turn: number,
            };
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    if number < readers {
                        worker.read().await;
                    } else {
                        worker.write().await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { shared, stop, tasks }
    }

    /// What happens from now on is counted in a row of its own; returns its number.
    pub fn next_row(&self) -> usize {
        let mut shared = self.shared.lock().unwrap();
        shared.last_acknowledged = Some(Instant::now());
        shared.rows.push(Seen::default());
        shared.rows.len() - 1
    }

    /// Ends when everything that was sent is acknowledged.
    pub async fn end(mut self) -> Vec<Seen> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.shared.lock().unwrap().rows)
    }
}

/// A customer of a row.
pub fn customer(row: usize, number: usize) -> String {
    format!("r{row}-c{}", number % CUSTOMERS)
}

struct Worker {
    client: reqwest::Client,
    endpoints: Endpoints,
    shared: Arc<Mutex<Shared>>,
    number: usize,
    turn: usize,
}

impl Worker {
    /// The replica whose turn it is.
    fn replica(&mut self) -> SocketAddr {
        self.turn += 1;
        let ready = self.endpoints.lock().unwrap();
        ready[self.turn % ready.len()]
    }

    fn row(&self) -> usize {
        self.shared.lock().unwrap().rows.len() - 1
    }

    async fn read(&mut self) {
        let (row, begun) = (self.row(), Instant::now());
        let path = format!("/v1/recommendations/{}", customer(row, self.turn * 31));
        let mut again = 0;
        let failed = loop {
            let url = format!("http://{}{path}", self.replica());
            let request = self.client.get(url).timeout(Duration::from_secs(5));
            match request
                .bearer_auth(token("shop", &["recommendations:read"]))
                .send()
                .await
            {
                // With its body: a replica that dies in the middle of it has not answered.
                Ok(answer) => {
                    let status = answer.status();
                    if let Ok(body) = answer.bytes().await {
                        let refused = || format!("{status} {}", String::from_utf8_lossy(&body));
                        break (status != StatusCode::OK).then(refused);
                    }
                }
                Err(error) if again == 1 || error.is_timeout() => break Some(format!("{error:?}")),
                Err(_) => {}
            }
            again += 1;
        };
        let mut shared = self.shared.lock().unwrap();
        let seen = &mut shared.rows[row];
        seen.took.push(begun.elapsed());
        seen.asked_again += usize::from(again > 0);
        seen.failed.extend(failed);
    }

    /// Writes a batch until all of it is acknowledged, as a shop's own queue does: with the same ids.
    async fn write(&mut self) {
        let row = self.row();
        self.turn += 1;
        let mut waiting: Vec<Value> = (0..BATCH).map(|place| self.purchase(row, place)).collect();
        {
            let bought = &mut self.shared.lock().unwrap().rows[row].bought;
            for event in &waiting {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                *bought
                    .entry((text("customer_id"), text("product_id")))
                    .or_default() += 1;
            }
        }
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting = self.send(waiting).await;
            let refused = !waiting.is_empty();
            self.sent(before - waiting.len(), refused);
            if refused {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Notes what became of a write.
    fn sent(&self, acknowledged: usize, refused: bool) {
        let now = Instant::now();
        let mut shared = self.shared.lock().unwrap();
        let silence = shared.last_acknowledged.map_or(Duration::ZERO, |last| now - last);
        if acknowledged > 0 {
            shared.last_acknowledged = Some(now);
        }
        let seen = shared.rows.last_mut().unwrap();
        seen.silence = seen.silence.max(silence);
        seen.acknowledged += acknowledged;
        seen.refused += usize::from(refused);
    }

    fn purchase(&self, row: usize, place: usize) -> Value {
        let nth = self.turn * BATCH + place;
        let number = nth * 7 + self.number;
        let product = (number % CUSTOMERS + nth % BOUGHT) % PRODUCTS;
        json!({
            "event_id": format!("{row}-{}-{nth}", self.number),
            "customer_id": customer(row, number),
            "product_id": format!("p{product}"),
            "event_type": "purchase",
        })
    }

    /// Returns those that were not acknowledged.
    async fn send(&mut self, events: Vec<Value>) -> Vec<Value> {
        let url = format!("http://{}/v1/events/batch", self.replica());
        let request = self.client.post(url).timeout(Duration::from_secs(15));
        let answer = request
            .bearer_auth(token("shop", &["events:write"]))
            .json(&events)
            .send()
            .await;
        let Ok(answer) = answer else { return events };
        if answer.status() != StatusCode::ACCEPTED {
            return events;
        }
        let Ok(results) = answer.json::<Value>().await else {
            return events;
        };
        let results = results["results"].as_array().unwrap();
        assert_eq!(results.len(), events.len());
        let both = events.into_iter().zip(results);
        both.filter(|(_, result)| result["status"] != 202)
            .map(|(event, _)| event)
            .collect()
    }
}
