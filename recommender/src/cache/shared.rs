//! Answers in Redis. A request asks once, within a short deadline; what it computed is written by a task of its
//! own, so that no request waits for that. The same task asks whether Redis is back once calls have failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use redis::aio::ConnectionManager;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Key, Stored};
use crate::clock::now_ms;
use crate::resilience::breaker::Breaker;

/// Longest a request waits for Redis; computing the answer takes about a millisecond.
const GET_WITHIN: Duration = Duration::from_millis(10);
/// Longest a write may take.
const PUT_WITHIN: Duration = Duration::from_millis(500);
/// How often Redis is asked whether it is back.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest such a question may take: it may have to connect first.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// Answers that wait to be written; further ones are not.
const WAITING: usize = 1_024;
/// Answers written in one round trip at most.
const AT_ONCE: usize = 64;

type Entry = (Key, Arc<Stored>);

/// Answers in Redis.
pub struct SharedAnswers {
    pub(super) connection: ConnectionManager,
    pub(super) prefix: String,
    breaker: Breaker,
    errors: IntCounter,
    put: mpsc::Sender<Entry>,
    to_write: Mutex<Option<mpsc::Receiver<Entry>>>,
}

impl SharedAnswers {
    /// Keys begin with the pipeline's name. `errors` counts calls that failed.
    pub fn new(connection: ConnectionManager, pipeline: &str, breaker: Breaker, errors: IntCounter) -> Self {
        let (put, to_write) = mpsc::channel(WAITING);
        Self {
            connection,
            prefix: format!("recommender:{pipeline}:answer:"),
            breaker,
            errors,
            put,
            to_write: Mutex::new(Some(to_write)),
        }
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{}", self.prefix, key.shared())
    }

    /// Whether Redis is left alone because it fails.
    pub fn is_cut_off(&self) -> bool {
        self.breaker.is_open()
    }

    /// Asks Redis once.
    pub async fn get(&self, key: &Key) -> Option<Stored> {
        let mut connection = self.connection.clone();
        let mut call = redis::cmd("GET");
        call.arg(self.name(key));
        let found: Option<Vec<u8>> = self.call(GET_WITHIN, call.query_async(&mut connection)).await?;
        found.and_then(Stored::from_bytes)
    }

    /// Has an answer written; it is dropped where too many wait.
    pub fn put(&self, key: Key, stored: Arc<Stored>) {
        let _ = self.put.try_send((key, stored));
    }

    pub(super) async fn call<T>(
        &self,
        within: Duration,
        call: impl Future<Output = redis::RedisResult<T>>,
    ) -> Option<T> {
        let permit = self.breaker.admit()?;
        match tokio::time::timeout(within, call).await {
            Ok(Ok(value)) => {
                permit.succeeded();
                Some(value)
            }
            failed => {
                permit.failed();
                self.errors.inc();
                if let Ok(Err(error)) = failed {
                    tracing::debug!(%error, "cached answers: Redis");
                }
                None
            }
        }
    }

    /// Writes until stopped. One caller only; further ones wait to be stopped.
    pub async fn run(&self, stop: CancellationToken) {
        let to_write = self
            .to_write
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut to_write) = to_write else {
            stop.cancelled().await;
            return;
        };
        let writing = async {
            let mut batch = Vec::with_capacity(AT_ONCE);
            while to_write.recv_many(&mut batch, AT_ONCE).await > 0 {
                self.write(&mut batch).await;
            }
        };
        let asking = async {
            loop {
                tokio::time::sleep(ASK_AGAIN).await;
                if self.breaker.is_open() && self.is_back().await {
                    self.breaker.answers();
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = writing => {}
            () = asking => {}
        }
    }

    /// Whether Redis answers, and as soon as requests need it: the first question may have to connect.
    async fn is_back(&self) -> bool {
        for within in [BACK_WITHIN, GET_WITHIN] {
            let mut connection = self.connection.clone();
            let pong = redis::cmd("PING");
            let pong = pong.query_async::<String>(&mut connection);
            if !matches!(tokio::time::timeout(within, pong).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }

    async fn write(&self, batch: &mut Vec<Entry>) {
        let mut pipe = redis::pipe();
        let now = now_ms();
        for (key, stored) in batch.drain(..) {
            let left_ms = stored.expires_ms - now;
            if left_ms > 0 {
                pipe.cmd("SET")
                    .arg(self.name(&key))
                    .arg(stored.to_bytes())
                    .arg("PX")
                    .arg(left_ms)
                    .ignore();
            }
        }
        if pipe.is_empty() {
            return;
        }
        let mut connection = self.connection.clone();
        let _: Option<()> = self.call(PUT_WITHIN, pipe.query_async(&mut connection)).await;
    }
}
