//! Reads a topic ahead: a thread of its own takes records from the client and parses them, while those before them are
//! learned. A log of millions of records is read through it at the start; live there is nothing to be ahead of.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use recommendation_api::event::EventRef;
use recommendation_api::{EventError, EventType};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::positions::Position;
use super::topic::{position, traceparent};
use super::{Record, SourceError};
use crate::log::context::Quiet;

/// Records handed over together: enough that neither thread waits for the other at each.
const RECORDS: usize = 2_000;
/// Batches that wait at most, some hundred kilobytes each.
const BATCHES: usize = 4;
/// Longest wait for the next record; bounds how late the end is noticed.
const WAIT: Duration = Duration::from_millis(50);

/// Where a text stands in a batch's own; none where the length is `u32::MAX`.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    length: u32,
}

/// A valid event, its texts in the batch's.
struct Parsed {
    event_id: Span,
    customer_id: Span,
    product_id: Span,
    event_type: EventType,
    timestamp_ms: Option<i64>,
    quantity: Option<f64>,
    price: Option<f64>,
    session_id: Span,
    recommendation_id: Span,
}

/// What the client handed over.
enum Read {
    Event {
        partition: i32,
        position: Position,
        event: Result<Parsed, EventError>,
        trace: Option<Box<str>>,
    },
    End(i32),
    Failed(KafkaError),
}

/// What was read together, in its order.
#[derive(Default)]
struct Batch {
    text: String,
    read: Vec<Read>,
}

impl Batch {
    fn keep(&mut self, text: Option<&str>) -> Span {
        let start = self.text.len() as u32;
        let Some(text) = text else {
            return Span {
                start,
                length: u32::MAX,
            };
        };
        self.text.push_str(text);
        Span {
            start,
            length: text.len() as u32,
        }
    }

    fn parsed(&mut self, event: EventRef<'_>) -> Parsed {
        Parsed {
            event_id: self.keep(event.event_id.as_deref()),
            customer_id: self.keep(Some(&event.customer_id)),
            product_id: self.keep(event.product_id.as_deref()),
            event_type: event.event_type,
            timestamp_ms: event.timestamp_ms,
            quantity: event.quantity,
            price: event.price,
            session_id: self.keep(event.session_id.as_deref()),
            recommendation_id: self.keep(event.recommendation_id.as_deref()),
        }
    }
}

/// The event again, borrowed from the batch's text.
fn event(text: &str, parsed: Parsed) -> EventRef<'_> {
    let at = |span: Span| {
        let start = span.start as usize;
        (span.length != u32::MAX).then(|| Cow::Borrowed(&text[start..start + span.length as usize]))
    };
    EventRef {
        event_id: at(parsed.event_id),
        customer_id: at(parsed.customer_id).unwrap_or_default(),
        product_id: at(parsed.product_id),
        event_type: parsed.event_type,
        timestamp_ms: parsed.timestamp_ms,
        quantity: parsed.quantity,
        price: parsed.price,
        session_id: at(parsed.session_id),
        recommendation_id: at(parsed.recommendation_id),
    }
}

/// What a batch tells its taker.
pub(super) enum Taken<'a> {
    /// A record, parsed, and where reading stands after it.
    Record(Record<'a>, Position),
    /// Everything that stands in this partition was handed over.
    End(i32),
}

/// A thread that reads ahead.
pub(super) struct Ahead {
    batches: Receiver<Batch>,
    thread: JoinHandle<()>,
    /// Ends the thread when it goes.
    stop: DropGuard,
}

impl Ahead {
    /// Starts to read what is assigned to `consumer`, which nobody else may poll until [`Ahead::finish`].
    /// `default_type` is the type of records that carry none.
    pub fn start(
        consumer: Arc<BaseConsumer<Quiet>>,
        default_type: Option<EventType>,
        traced: bool,
    ) -> Result<Self, SourceError> {
        let (to, batches) = sync_channel(BATCHES);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("kafka-ahead".into())
            .spawn(move || read(&consumer, default_type.as_ref(), traced, &to, &stopped))
            .map_err(|_| SourceError::Thread("kafka-ahead"))?;
        Ok(Self {
            batches,
            thread,
            stop: stop.drop_guard(),
        })
    }

    /// Hands over the next batch, waiting at most so long for it; how many records that were.
    pub fn next(&self, wait: Duration, take: &mut dyn FnMut(Taken<'_>)) -> Result<usize, SourceError> {
        match self.batches.recv_timeout(wait) {
            Ok(batch) => hand_over(batch, take),
            Err(RecvTimeoutError::Timeout) => Ok(0),
            // Nobody told it to end: it panicked.
            Err(RecvTimeoutError::Disconnected) => Err(SourceError::Thread("kafka-ahead")),
        }
    }

    /// Ends the thread and hands over what it has read: from then on the client may be polled again, and goes on
    /// where this ended.
    pub fn finish(self, take: &mut dyn FnMut(Taken<'_>)) -> Result<usize, SourceError> {
        drop(self.stop);
        let left: VecDeque<Batch> = self.batches.iter().collect();
        self.thread
            .join()
            .map_err(|_| SourceError::Thread("kafka-ahead"))?;
        // All of them, whatever one says: what is not taken now would be lost.
        let mut taken = Ok(0);
        for batch in left {
            let more = hand_over(batch, take);
            taken = taken.and_then(|taken| Ok(taken + more?));
        }
        taken
    }
}

fn hand_over(batch: Batch, take: &mut dyn FnMut(Taken<'_>)) -> Result<usize, SourceError> {
    let (mut taken, mut failed) = (0, Ok(()));
    for read in batch.read {
        match read {
            Read::Event {
                partition,
                position,
                event: parsed,
                trace,
            } => {
                let parsed = parsed.map(|parsed| event(&batch.text, parsed));
                let record = Record {
                    partition,
                    offset: position.last,
                    time_ms: position.last_ms,
                    key: None,
                    value: None,
                    event: Some(&parsed),
                    traceparent: trace.as_deref(),
                };
                take(Taken::Record(record, position));
                taken += 1;
            }
            Read::End(partition) => take(Taken::End(partition)),
            Read::Failed(e) => failed = Err(e.into()),
        }
    }
    failed.map(|()| taken)
}

fn read(
    consumer: &BaseConsumer<Quiet>,
    default_type: Option<&EventType>,
    traced: bool,
    to: &SyncSender<Batch>,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        let mut batch = Batch::default();
        while batch.read.len() < RECORDS && !stop.is_cancelled() {
            let wait = if batch.read.is_empty() {
                WAIT
            } else {
                Duration::ZERO
            };
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let value = message.payload().unwrap_or_default();
                    let event = EventRef::parse(value, default_type).map(|event| batch.parsed(event));
                    batch.read.push(Read::Event {
                        partition: message.partition(),
                        position: position(&message),
                        event,
                        trace: traced.then(|| traceparent(&message)).flatten().map(Into::into),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => batch.read.push(Read::End(partition)),
                Some(Err(e)) => {
                    batch.read.push(Read::Failed(e));
                    break;
                }
            }
        }
        // It fails only where the taker is gone.
        if !batch.read.is_empty() && to.send(batch).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_out_of_a_batch_as_it_went_in() {
        let values = [
            r#"{"customer_id":"c1","product_id":"p\u00e9","event_type":"purchase","quantity":2,"price":3.5,
                "event_id":"e1","session_id":"s","recommendation_id":"r","timestamp":1700000000000}"#,
            r#"{"customer_id":"c2","event_type":"email"}"#,
            r#"{"customer_id":"c3","product_id":"","event_type":"view"}"#,
        ];
        let mut batch = Batch::default();
        for (at, value) in (0i64..).zip(values) {
            let parsed = EventRef::parse(value.as_bytes(), None).map(|event| batch.parsed(event));
            batch.read.push(Read::Event {
                partition: 3,
                position: Position {
                    next: at + 1,
                    last: at,
                    last_ms: 7,
                    last_bytes: 9,
                },
                event: parsed,
                trace: (at == 1).then(|| "trace".into()),
            });
        }
        batch.read.push(Read::End(3));
        let (mut met, mut ends) = (0, 0);
        let taken = hand_over(batch, &mut |taken| match taken {
            Taken::Record(record, position) => {
                let expected = EventRef::parse(values[met].as_bytes(), None);
                assert_eq!(record.event, Some(&expected));
                assert_eq!((record.offset, record.time_ms), (met as i64, 7));
                assert_eq!(position.next, met as i64 + 1);
                assert_eq!(record.traceparent, (met == 1).then_some("trace"));
                met += 1;
            }
            Taken::End(partition) => ends += partition,
        });
        assert_eq!((taken.unwrap(), met, ends), (3, 3, 3));
    }
}
