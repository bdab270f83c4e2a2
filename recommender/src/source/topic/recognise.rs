//! Whether a topic is the one that a snapshot was made from.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{TopicReader, position};
use crate::log::context::Quiet;
use crate::source::positions::{Partitions, ResumeError, within};

/// Longest to wait for the records by which a log is recognised.
const RECOGNISE_TIMEOUT: Duration = Duration::from_secs(10);

impl TopicReader {
    /// Whether this topic is the one that positions were read from. With `exact`, the last records that were
    /// read must still be what they were; a compacted topic may have removed them.
    pub fn recognise(&self, from: &Partitions, exact: bool) -> Result<(), ResumeError> {
        let mut asked = TopicPartitionList::new();
        {
            let known = self.known();
            if known.since.is_none() {
                return Err(ResumeError::NotYet);
            }
            for (&partition, position) in from {
                let Some(&ends) = known.ends.get(&partition) else {
                    if known.leaderless.contains(&partition) {
                        continue;
                    }
                    let topic = &self.topic;
                    return Err(ResumeError::Never(format!(
                        "{topic} has no partition {partition}"
                    )));
                };
                within(&self.topic, partition, position, ends)?;
                if exact && position.next > 0 && position.last >= ends.0 {
                    // Cannot fail: partition numbers come from the cluster and the offset is absolute.
                    let _ = asked.add_partition_offset(&self.topic, partition, Offset::Offset(position.last));
                }
            }
        }
        if asked.count() == 0 {
            return Ok(());
        }
        self.compare_last(from, &asked)
    }

    /// Reads one record of each partition again and compares it with what a snapshot tells of it.
    fn compare_last(&self, from: &Partitions, asked: &TopicPartitionList) -> Result<(), ResumeError> {
        let not_yet = |_: KafkaError| ResumeError::NotYet;
        let mut config = self.config.clone();
        config
            .set("statistics.interval.ms", "0")
            .set("queued.max.messages.kbytes", "1024");
        let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet::default()).map_err(not_yet)?;
        consumer.assign(asked).map_err(not_yet)?;
        let mut open: Vec<i32> = asked.elements().iter().map(|e| e.partition()).collect();
        let until = Instant::now() + RECOGNISE_TIMEOUT;
        while !open.is_empty() {
            if Instant::now() >= until || self.stop.is_cancelled() {
                return Err(ResumeError::NotYet);
            }
            match consumer.poll(Duration::from_millis(100)) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(e)) => return Err(not_yet(e)),
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let Some(at) = open.iter().position(|id| *id == partition) else {
                        continue; // another record of a partition that was compared
                    };
                    open.swap_remove(at);
                    let found = position(&message);
                    let told = from.get(&partition).copied().unwrap_or_default();
                    let same = (found.last, found.last_ms, found.last_bytes)
                        == (told.last, told.last_ms, told.last_bytes);
                    if !same {
                        return Err(ResumeError::Never(format!(
                            "{}/{partition} has another record at {}: the topic was made anew",
                            self.topic, told.last
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}
