//! Sliding windows in Redis, shared by all replicas: one script, one round trip.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{AsyncCommands as _, IntoConnectionInfo as _, Script};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Decision, WINDOW};

/// Longest a request waits for Redis before a local count stands in.
const TIMEOUT: Duration = Duration::from_millis(250);
/// Longest a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// What was sent and is not acknowledged for so long ends the connection: TCP by itself sends again ever more seldom, and
/// notices only minutes after the network is back.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

/// Why Redis could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The URL cannot be used. It is not repeated: it may carry a password.
    #[error("redis.url is not a Redis URL: {0}")]
    Url(redis::RedisError),
    /// Redis refused or is not there.
    #[error("Redis: {0}")]
    Call(redis::RedisError),
    /// No answer in time.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
}

/// Sliding windows by caller, in Redis.
#[derive(Clone)]
pub struct RedisWindows {
    connection: ConnectionManager,
    /// Begins every key: pipelines may share one Redis, but not their counts.
    prefix: std::sync::Arc<str>,
    once: std::sync::Arc<str>,
    script: std::sync::Arc<Script>,
}

/// A connection that is made when it is first needed, and again after it was lost. Whoever asks waits so long for an
/// answer.
pub fn connect(
    url: &str,
    password: Option<&SecretString>,
    answer_within: Duration,
) -> Result<ConnectionManager, RedisError> {
    let mut info = url.into_connection_info().map_err(RedisError::Url)?;
    if let Some(password) = password {
        let settings = info
            .redis_settings()
            .clone()
            .set_password(password.expose_secret());
        info = info.set_redis_settings(settings);
    }
    // Nothing waits to be sent along with more: a request is there in whole.
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(UNACKNOWLEDGED);
    let client = redis::Client::open(info.set_tcp_settings(tcp)).map_err(RedisError::Url)?;
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(answer_within))
        // Whoever asks meanwhile waits for all attempts together: the next question begins new ones.
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(200));
    ConnectionManager::new_lazy_with_config(client, config).map_err(RedisError::Call)
}

/// What a call answers within a time.
pub async fn answered<T>(
    within: Duration,
    call: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, RedisError> {
    let answer = tokio::time::timeout(within, call).await;
    answer
        .map_err(|_| RedisError::Timeout(within))?
        .map_err(RedisError::Call)
}

impl RedisWindows {
    /// Connects lazily: Redis need not be there yet, and one that went away is connected to again. Services of
    /// the same `pipeline` count together.
    pub fn new(url: &str, pipeline: &str, password: Option<&SecretString>) -> Result<Self, RedisError> {
        Ok(Self {
            connection: connect(url, password, TIMEOUT)?,
            prefix: format!("recommender:{pipeline}:rate:").into(),
            once: format!("recommender:{pipeline}:once:").into(),
            script: std::sync::Arc::new(Script::new(include_str!("window.lua"))),
        })
    }

    /// Counts one request of `caller`, if it may pass.
    pub async fn check(&self, caller: &str, limit: u32) -> Result<Decision, RedisError> {
        let mut connection = self.connection.clone();
        let mut call = self.script.key(format!("{}{caller}", self.prefix));
        call.arg(limit)
            .arg(u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX))
            .arg(uuid::Uuid::new_v4().to_string());
        let call = call.invoke_async::<(u8, u32, i64)>(&mut connection);
        let (allowed, remaining, reset) = answered(TIMEOUT, call).await?;
        Ok(Decision {
            allowed: allowed == 1,
            limit,
            remaining,
            reset_ms: u64::try_from(reset).unwrap_or(0),
        })
    }

    /// Whether `name` was not seen within `lifetime` by any replica; remembers it.
    pub async fn first(&self, name: &str, lifetime: Duration) -> Result<bool, RedisError> {
        let mut connection = self.connection.clone();
        let mut call = redis::cmd("SET");
        call.arg(format!("{}{name}", self.once))
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        let set = answered(TIMEOUT, call.query_async::<Option<String>>(&mut connection)).await?;
        Ok(set.is_some())
    }

    /// Forgets a name of [`RedisWindows::first`].
    pub async fn forget(&self, name: &str) -> Result<(), RedisError> {
        let mut connection = self.connection.clone();
        let key = format!("{}{name}", self.once);
        answered(TIMEOUT, connection.del::<_, ()>(key)).await
    }

    /// The connection, for what else is kept in the same Redis: calls of all users share it.
    pub fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> bool {
        let mut connection = self.connection.clone();
        matches!(
            tokio::time::timeout(Duration::from_secs(2), connection.ping::<String>()).await,
            Ok(Ok(_))
        )
    }
}
