//! Requests that keep the recommender's pods busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::progress::seconds;

/// Clients at the same time.
const CLIENTS: usize = 8;
/// Requests over one connection: the next one may reach another pod.
const PER_CONNECTION: usize = 50;
/// Between two requests of a client: enough of them for an autoscaler, and a machine that others can still use.
const PAUSE: Duration = Duration::from_millis(1);

/// Clients that ask until they are stopped.
pub(super) struct Load {
    begun: Instant,
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(api: &Api) -> Self {
        let mut load = Self {
            begun: Instant::now(),
            over: Arc::default(),
            answered: Arc::default(),
            failed: Arc::default(),
            clients: Vec::new(),
        };
        for client in 0..CLIENTS {
            let api = api.clone();
            let (over, answered, failed) = (
                Arc::clone(&load.over),
                Arc::clone(&load.answered),
                Arc::clone(&load.failed),
            );
            load.clients.push(thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let api = api.fresh();
                    for customer in 0..PER_CONNECTION {
                        let answer = api.get(&format!("/v1/recommendations/{client}-{customer}?limit=20"));
                        let ok = answer.is_ok_and(|answer| answer.status == 200);
                        let count = if ok { &answered } else { &failed };
                        count.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(PAUSE);
                    }
                }
            }));
        }
        load
    }

    /// Stops it and says what it was.
    pub(super) fn stop(self) -> String {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            // What a client panicked with stands on the terminal.
            let _ = client.join();
        }
        format!(
            "{} requests answered in {}, {} failed",
            self.answered.load(Ordering::Relaxed),
            seconds(self.begun.elapsed()),
            self.failed.load(Ordering::Relaxed)
        )
    }
}
