//! One client per cluster: each brings threads and connections, and reconnects by itself after an outage.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::{Cluster, Connection, KafkaError};

/// A client that nobody asked for this long is closed; so is one whose password was changed.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// Clusters by the connection to them.
#[derive(Debug, Default)]
pub struct Pool {
    clusters: Mutex<HashMap<Connection, (Arc<Cluster>, Instant)>>,
    /// Requests of clients that are closed.
    before: AtomicU64,
    looks: TaskTracker,
}

impl Pool {
    /// The cluster behind a connection; its client is made when there is none. No connection is waited for.
    ///
    /// # Errors
    /// [`KafkaError::Client`] when librdkafka refuses the configuration.
    pub fn get(&self, connection: &Connection) -> Result<Arc<Cluster>, KafkaError> {
        let now = Instant::now();
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cluster, used)) = clusters.get_mut(connection) {
            *used = now;
            return Ok(Arc::clone(cluster));
        }
        let idle: Vec<Connection> = clusters
            .iter()
            .filter(|(_, (_, used))| now.duration_since(*used) >= IDLE)
            .map(|(key, _)| key.clone())
            .collect();
        let idle: Vec<_> = idle.iter().filter_map(|key| clusters.remove(key)).collect();
        if !idle.is_empty() {
            let asked = idle.iter().map(|(cluster, _)| cluster.admin().requests()).sum();
            self.before.fetch_add(asked, Ordering::Relaxed);
            // Closing a client waits for its threads.
            self.looks.spawn_blocking(move || drop(idle));
        }
        let cluster = Arc::new(Cluster::new(connection, self.looks.clone())?);
        clusters.insert(connection.clone(), (Arc::clone(&cluster), now));
        Ok(cluster)
    }

    /// Requests to all clusters so far.
    pub fn requests(&self) -> u64 {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let open: u64 = clusters
            .values()
            .map(|(cluster, _)| cluster.admin().requests())
            .sum();
        self.before.load(Ordering::Relaxed) + open
    }

    /// Waits until no look is on its way any more.
    pub async fn finish(&self) {
        self.looks.close();
        self.looks.wait().await;
    }
}
