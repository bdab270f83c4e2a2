//! Why a secured cluster cannot be reached. To its caller librdkafka tells a wrong password, an unknown authority and
//! a broker that is away alike: as no answer. The cause comes through the error callback only, which an admin client
//! never calls: a producer that lives for the question is asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::Connection;

/// How long the cause is waited for: a handshake and a login, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// The cause, in librdkafka's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The brokers refuse the login.
    Login(String),
    /// No TLS connection comes about.
    Tls(String),
}

/// Keeps the first cause that is one.
#[derive(Default)]
struct Listener(Mutex<Option<Cause>>);

impl Listener {
    fn heard(&self) -> Option<Cause> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Listener {
    fn error(&self, error: RdError, reason: &str) {
        if let Some(cause) = cause(error.rdkafka_error_code(), reason) {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(cause);
        }
    }

    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// What an error of the callback means. Reasons begin with the broker's address and end with how long it took:
/// neither belongs in a condition.
fn cause(code: Option<Code>, reason: &str) -> Option<Cause> {
    let words = reason
        .split_once(": ")
        .map_or(reason, |(_, rest)| rest)
        .split(" (after ")
        .next()
        .unwrap_or(reason)
        .trim()
        .to_owned();
    match code? {
        Code::Authentication | Code::SaslAuthenticationFailed => Some(Cause::Login(words)),
        Code::SSL => Some(Cause::Tls(words)),
        // A broker that asks for a client certificate takes the connection first and refuses it with an alert then.
        _ if reason.contains("SSL") || reason.contains("tlsv1") => Some(Cause::Tls(words)),
        _ => None,
    }
}

/// Tries the connection once more and listens. Blocks for up to [`PATIENCE`].
pub(super) fn diagnose(connection: &Connection) -> Option<Cause> {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "recommendation-operator")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "500")
        .set_log_level(RDKafkaLogLevel::Emerg);
    connection.configure(&mut config);
    let producer: BaseProducer<Listener> = config.create_with_context(Listener::default()).ok()?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        // Asking is what makes it connect.
        let _ = producer.client().fetch_metadata(None, Duration::from_millis(200));
        producer.poll(Duration::from_millis(50));
        if let Some(cause) = producer.client().context().heard() {
            return Some(cause);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_and_a_strange_authority_are_told_apart_without_what_moves() {
        let reason = "sasl_ssl://k:9095/bootstrap: SASL authentication error: Authentication failed during \
                      authentication due to invalid credentials (after 312ms in state AUTH_REQ)";
        let login = cause(Some(Code::Authentication), reason).unwrap();
        assert_eq!(
            login,
            Cause::Login(
                "SASL authentication error: Authentication failed during authentication due to invalid credentials"
                    .to_owned()
            )
        );
        let reason = "ssl://k:9096/bootstrap: SSL handshake failed: certificate verify failed (after 12ms in state \
                      SSL_HANDSHAKE)";
        let tls = cause(Some(Code::SSL), reason).unwrap();
        assert_eq!(
            tls,
            Cause::Tls("SSL handshake failed: certificate verify failed".to_owned())
        );
        assert_eq!(
            cause(Some(Code::BrokerTransportFailure), "k:1: Connection refused"),
            None
        );
        assert_eq!(cause(Some(Code::AllBrokersDown), "1/1 brokers are down"), None);
    }
}
