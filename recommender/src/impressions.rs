//! What was shown to whom, on its way to its topic: fire and forget. A request hands over a copy of the answer that
//! it sends and goes on; one task makes records of them and writes them in batches. Nobody waits for it: what does
//! not fit into its queue, or what the log does not take, is counted and lost.
//!
//! Up to [`PER_SECOND`] answers a second a replica records all of them, and beyond that those of a share of the
//! customers, halved until it fits: always the same customers, so that of each of them all answers are there or
//! none, which is what attribution needs. Each record tells the share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use prometheus::{IntCounter, IntCounterVec};
use recommendation_api::{Impression, ShownItem};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::log::{AppendError, Log, Table};

/// Answers that one replica records a second; of more, a share of the customers.
pub const PER_SECOND: u64 = 1_000;
/// Answers that may wait to be written.
const WAITING: usize = 4_096;
/// Answers written at once.
const BATCH: usize = 500;
/// Of them, those that are read before other tasks of the thread get their turn.
const IN_A_TURN: usize = 16;
/// How long a batch is gathered: an embedded log makes a commit of each.
const GATHER: Duration = Duration::from_millis(100);
/// How often the share is adjusted.
const ADJUST_EVERY: Duration = Duration::from_secs(1);
/// Longest the end of the service waits for what is on its way.
const LAST_WRITES: Duration = Duration::from_secs(2);
/// The smallest share is one of two to this power.
const MOST_HALVINGS: u64 = 20;
/// Draws customers by another law than experiments do.
const SEED: u64 = 0x0069_6d70;

struct Offered {
    customer: Box<str>,
    placement: Option<Box<str>>,
    time_ms: i64,
    halvings: u64,
    json: Box<[u8]>,
}

/// Who asked for something to be forgotten is told once it is gone.
type Told = oneshot::Sender<Result<(), AppendError>>;

/// What waits.
enum Queued {
    Shown(Offered),
    /// Whatever was shown before to this customer.
    Forget(Box<str>, Told),
}

/// Where requests hand over what they answer.
pub struct Impressions {
    queue: mpsc::Sender<Queued>,
    /// The other end, until the writing task takes it.
    inbox: Mutex<Option<mpsc::Receiver<Queued>>>,
    seen: AtomicU64,
    halvings: AtomicU64,
    /// Of nearly every answer, under load.
    sampled_out: IntCounter,
    outcomes: IntCounterVec,
}

impl Impressions {
    /// `outcomes` counts by what became of each answer: written, sampled_out, dropped, failed.
    pub fn new(outcomes: IntCounterVec) -> Self {
        let (queue, inbox) = mpsc::channel(WAITING);
        Self {
            queue,
            inbox: Mutex::new(Some(inbox)),
            seen: AtomicU64::new(0),
            halvings: AtomicU64::new(0),
            sampled_out: outcomes.with_label_values(&["sampled_out"]),
            outcomes,
        }
    }

    /// An answer is sent to a customer. Never waits.
    pub fn shown(&self, customer: &str, placement: Option<&str>, time_ms: i64, json: &[u8]) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        let halvings = self.halvings.load(Ordering::Relaxed);
        if !in_sample(customer, halvings) {
            self.sampled_out.inc();
            return;
        }
        let offered = Offered {
            customer: customer.into(),
            placement: placement.map(Into::into),
            time_ms,
            halvings,
            json: json.into(),
        };
        if self.queue.try_send(Queued::Shown(offered)).is_err() {
            self.count("dropped", 1);
        }
    }

    /// Removes what was shown to a customer, also what waits to be written, where records can be removed; returns once
    /// it is gone.
    pub async fn forget(&self, customer: &str) -> Result<(), AppendError> {
        let ended = || AppendError::Unavailable("the service ends".into());
        let (done, gone) = oneshot::channel();
        let queued = Queued::Forget(customer.into(), done);
        self.queue.send(queued).await.map_err(|_| ended())?;
        gone.await.map_err(|_| ended())?
    }

    fn count(&self, outcome: &str, n: usize) {
        self.outcomes.with_label_values(&[outcome]).inc_by(n as u64);
    }

    /// Writes what is handed over, until stopped; then what still waits.
    pub async fn run(&self, log: Arc<dyn Log>, stop: CancellationToken) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inbox) = inbox else {
            stop.cancelled().await;
            return;
        };
        let adjusting = async {
            let mut tick = tokio::time::interval(ADJUST_EVERY);
            loop {
                tick.tick().await;
                let seen = self.seen.swap(0, Ordering::Relaxed);
                self.halvings.store(halvings_for(seen), Ordering::Relaxed);
            }
        };
        let writing = async {
            let mut batch = Vec::new();
            while stop
                .run_until_cancelled(inbox.recv_many(&mut batch, BATCH))
                .await
                .is_some()
            {
                if batch.len() < BATCH {
                    // Also when the end comes: what was gathered is written first.
                    stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
                    while batch.len() < BATCH
                        && let Ok(more) = inbox.try_recv()
                    {
                        batch.push(more);
                    }
                }
                self.write(&*log, batch.drain(..)).await;
            }
            while let Ok(offered) = inbox.try_recv() {
                batch.push(offered);
            }
            self.write(&*log, batch.drain(..)).await;
        };
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WRITES).await;
        };
        tokio::select! {
            () = adjusting => {}
            () = writing => {}
            () = too_late => tracing::warn!("impressions may be lost: the log does not take them in time"),
        }
    }

    /// In the order of the queue: who is forgotten is so with what was shown before, and not with what came after.
    async fn write(&self, log: &dyn Log, batch: impl Iterator<Item = Queued>) {
        let (mut impressions, mut forgotten) = (Vec::new(), Vec::new());
        for (at, queued) in batch.enumerate() {
            // Each is read as JSON again: a whole batch takes as long as hundreds of answers, which wait for the thread.
            if at % IN_A_TURN == IN_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            match queued {
                Queued::Shown(offered) => {
                    forget(log, std::mem::take(&mut forgotten)).await;
                    impressions.extend(record(offered));
                }
                Queued::Forget(customer, done) => {
                    self.put(log, std::mem::take(&mut impressions)).await;
                    forgotten.push((customer, done));
                }
            }
        }
        self.put(log, impressions).await;
        forget(log, forgotten).await;
    }

    async fn put(&self, log: &dyn Log, impressions: Vec<Impression>) {
        if impressions.is_empty() {
            return;
        }
        let results = log.put_impressions(&impressions).await;
        let failed = results.iter().filter(|result| result.is_err()).count();
        self.count("written", results.len() - failed);
        if failed > 0 {
            self.count("failed", failed);
            if let Some(Err(e)) = results.into_iter().find(Result::is_err) {
                tracing::warn!(failed, error = %e, "impressions are lost: the log does not take them");
            }
        }
    }
}

/// Removes what was shown to these, together: an embedded log makes a commit of each that comes alone.
async fn forget(log: &dyn Log, customers: Vec<(Box<str>, Told)>) {
    join_all(customers.into_iter().map(async |(customer, done)| {
        // The request may have given up; it is done all the same.
        let _ = done.send(log.put(Table::Impressions, &customer, None).await);
    }))
    .await;
}

fn in_sample(customer: &str, halvings: u64) -> bool {
    halvings == 0 || xxh3_64_with_seed(customer.as_bytes(), SEED).trailing_zeros() as u64 >= halvings
}

/// How often to halve so many answers a second.
fn halvings_for(seen: u64) -> u64 {
    (0..MOST_HALVINGS)
        .find(|n| seen >> n <= PER_SECOND)
        .unwrap_or(MOST_HALVINGS)
}

/// The parts of an answer that are recorded.
#[derive(Deserialize)]
struct Sent {
    recommendation_id: String,
    experiment: Option<String>,
    arm: String,
    model: SentModel,
    fallback: String,
    items: Vec<ShownItem>,
}

#[derive(Deserialize)]
struct SentModel {
    algorithm: String,
    version: String,
}

/// `None` for an answer without products.
fn record(offered: Offered) -> Option<Impression> {
    let sent: Sent = serde_json::from_slice(&offered.json)
        .inspect_err(|e| tracing::error!(error = %e, "an answer of ours is not understood"))
        .ok()?;
    (!sent.items.is_empty()).then(|| Impression {
        recommendation_id: sent.recommendation_id,
        customer_id: offered.customer.into(),
        time_ms: offered.time_ms,
        experiment: sent.experiment,
        arm: sent.arm,
        placement: offered.placement.map(Into::into),
        algorithm: sent.model.algorithm,
        model_version: sent.model.version,
        fallback: sent.fallback,
        sampled: 0.5_f64.powi(i32::try_from(offered.halvings).unwrap_or(i32::MAX)),
        items: sent.items,
    })
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;
    use crate::log::embedded::{EmbeddedLog, connect};

    fn counters() -> IntCounterVec {
        IntCounterVec::new(Opts::new("impressions", "by outcome"), &["outcome"]).unwrap()
    }

    const ANSWER: &[u8] = br#"{"recommendation_id":"r1","customer_id":"ann","experiment":"e","arm":"Hybrid",
        "model":{"algorithm":"Hybrid","version":"1-a"},"fallback":"personal","items":[
        {"product_id":"cup","title":"Cup","score":1.0,"reason":{"text":"","kind":"popular","products":[]}},
        {"product_id":"mug","title":"Mug","score":0.5,"explored":true,"probability":0.01,"reason":{"text":"","kind":"popular","products":[]}}]}"#;

    #[test]
    fn a_record_says_what_the_answer_said() {
        let offered = Offered {
            customer: "ann".into(),
            placement: Some("home".into()),
            time_ms: 5,
            halvings: 2,
            json: ANSWER.into(),
        };
        let impression = record(offered).unwrap();
        assert_eq!(
            (impression.sampled, impression.placement.as_deref()),
            (0.25, Some("home"))
        );
        let items: Vec<_> = impression
            .items
            .iter()
            .map(|i| (i.explored, i.probability))
            .collect();
        assert_eq!(items, [(false, 1.0), (true, 0.01)]);
    }

    #[test]
    fn beyond_the_rate_the_same_customers_stay_in_the_sample() {
        assert_eq!(
            [0, 1_000, 1_001, 4_100, u64::MAX].map(halvings_for),
            [0, 0, 1, 3, 20]
        );
        let customers: Vec<String> = (0..4_000).map(|n| n.to_string()).collect();
        let half: Vec<_> = customers.iter().filter(|c| in_sample(c, 1)).collect();
        let quarter: Vec<_> = customers.iter().filter(|c| in_sample(c, 2)).collect();
        assert!((1_850..2_150).contains(&half.len()) && (850..1_150).contains(&quarter.len()));
        assert!(quarter.iter().all(|customer| half.contains(customer)));
    }

    #[tokio::test]
    async fn who_is_forgotten_is_so_with_what_waited_before_and_not_with_what_came_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&path).unwrap());
        let impressions = Impressions::new(counters());
        for (customer, time_ms) in [("ann", 1), ("bob", 2)] {
            impressions.shown(customer, None, time_ms, ANSWER);
        }
        let stop = CancellationToken::new();
        let asked = async {
            let later = async {
                tokio::task::yield_now().await;
                impressions.shown("ann", None, 3, ANSWER);
            };
            let (forgotten, ()) = tokio::join!(impressions.forget("ann"), later);
            stop.cancel();
            forgotten
        };
        let (forgotten, ()) = tokio::join!(asked, impressions.run(Arc::clone(&log), stop.clone()));
        assert!(forgotten.is_ok());
        log.close().await;
        let connection = connect(&path).unwrap();
        let mut rows = connection
            .prepare("SELECT customer_id, value FROM impressions ORDER BY offset")
            .unwrap();
        let left: Vec<(String, i64)> = rows
            .query_map([], |row| {
                let value: Vec<u8> = row.get(1)?;
                Ok((row.get(0)?, Impression::parse(&value).unwrap().time_ms))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(left, [("bob".to_owned(), 2), ("ann".to_owned(), 3)]);
    }

    #[tokio::test]
    async fn a_full_queue_drops_at_once_and_counts() {
        let counters = counters();
        let impressions = Impressions::new(counters.clone());
        for _ in 0..WAITING + 10 {
            impressions.shown("ann", None, 0, ANSWER);
        }
        assert_eq!(counters.with_label_values(&["dropped"]).get(), 10);
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_written_keyed_by_its_customer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.db");
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&path).unwrap());
        let counters = counters();
        let impressions = Impressions::new(counters.clone());
        impressions.shown("ann", Some("home"), 5, ANSWER);
        let stop = CancellationToken::new();
        stop.cancel();
        impressions.run(Arc::clone(&log), stop).await;
        log.close().await;
        assert_eq!(counters.with_label_values(&["written"]).get(), 1);
        let row: (String, Vec<u8>) = connect(&path)
            .unwrap()
            .query_row("SELECT customer_id, value FROM impressions", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(row.0, "ann");
        assert_eq!(Impression::parse(&row.1).unwrap().recommendation_id, "r1");
    }
}
