//! One admin client per cluster: each brings threads and connections, and reconnects by itself after an outage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Admin, KafkaError};

/// A client that nobody asked for this long is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Admin clients by bootstrap servers.
#[derive(Debug, Default)]
pub struct Pool {
    clients: Mutex<HashMap<String, (Arc<Admin>, Instant)>>,
}

impl Pool {
    /// The client of these bootstrap servers (`host:port` each), made when there is none. No connection is waited
    /// for.
    ///
    /// # Errors
    /// [`KafkaError::Client`] when librdkafka refuses the configuration.
    pub fn get(&self, bootstrap_servers: &[String]) -> Result<Arc<Admin>, KafkaError> {
        let servers = bootstrap_servers.join(",");
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|key, (_, used)| *key == servers || now.duration_since(*used) < IDLE);
        if let Some((admin, used)) = clients.get_mut(&servers) {
            *used = now;
            return Ok(Arc::clone(admin));
        }
        let admin = Arc::new(Admin::new(&servers)?);
        clients.insert(servers, (Arc::clone(&admin), now));
        Ok(admin)
    }
}
