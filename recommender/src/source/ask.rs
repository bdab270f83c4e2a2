//! The thread that asks the cluster about a topic's partitions and their ends, because those calls block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use recommendation_api::report::DependencyState;
use tokio_util::sync::CancellationToken;

use crate::log::context::Quiet;
use crate::retry::Backoff;

/// Longest a question to the cluster may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How often end offsets are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often at most while the cluster has not answered several times in a row.
const ASK_LOST_EVERY: Duration = Duration::from_secs(4);

/// First offset that still stands in a partition, and the one that the next record will get.
pub(super) type Ends = (i64, i64);

/// What is known of the topic.
#[derive(Default)]
pub(super) struct Known {
    /// The cluster's id.
    pub cluster: Option<String>,
    /// Partitions with their ends.
    pub ends: BTreeMap<i32, Ends>,
    /// Where reading begins in partitions that are not read from their start.
    pub begins: BTreeMap<i32, i64>,
    /// Partitions without a leader now: nobody can read them or say how long they are.
    pub leaderless: BTreeSet<i32>,
    /// Whether the cluster answers; `None` before the first answer or failure.
    pub state: Option<DependencyState>,
    /// The cluster answered and has no such topic.
    pub absent: bool,
    /// When it first answered.
    pub since: Option<Instant>,
    /// What is wrong, for people.
    pub problem: Option<String>,
}

impl Known {
    /// Partitions that the topic has, as far as was ever answered.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.ends
            .keys()
            .chain(&self.leaderless)
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
    }

    /// The end of a partition, 0 where it is not known.
    pub fn end(&self, partition: i32) -> i64 {
        self.ends.get(&partition).map_or(0, |(_, end)| *end)
    }
}

struct Answer {
    cluster: Option<String>,
    ends: BTreeMap<i32, Ends>,
    begins: BTreeMap<i32, i64>,
    leaderless: BTreeSet<i32>,
}

/// Asks until stopped; with `since_ms`, also where the first record stands that is not older.
pub(super) fn ask(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    since_ms: Option<i64>,
    known: &Mutex<Known>,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new(ASK_LOST_EVERY);
    let mut cluster = None;
    while !stop.is_cancelled() {
        let pause = match ask_once(consumer, topic, since_ms, &mut cluster) {
            Ok(answer) => {
                if backoff.succeeded() {
                    tracing::info!(topic, "Kafka answers again");
                }
                consumer.context().accepted();
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if answer.leaderless != known.leaderless {
                    tracing::warn!(topic, partitions = ?answer.leaderless, "partitions without a leader");
                }
                known.problem = (!answer.leaderless.is_empty()).then(|| {
                    format!(
                        "partitions {:?} of {topic} have no leader; what stands there is missing until they do",
                        answer.leaderless
                    )
                });
                known.state = Some(DependencyState::Up);
                known.absent = answer.ends.is_empty() && answer.leaderless.is_empty();
                known.cluster = answer.cluster;
                known.ends.extend(answer.ends);
                known.begins.extend(answer.begins);
                known.leaderless = answer.leaderless;
                known.since.get_or_insert_with(Instant::now);
                ASK_EVERY
            }
            Err(e) => {
                let again = backoff.failed();
                if backoff.worth_telling() {
                    tracing::warn!(topic, error = %e, again_in = ?again, "Kafka does not answer");
                }
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.state = Some(DependencyState::Down);
                known.problem = consumer.context().refused();
                again
            }
        };
        // Short steps, so that stopping does not wait for the pause.
        let until = Instant::now() + pause;
        while !stop.is_cancelled() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn ask_once(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    since_ms: Option<i64>,
    cluster: &mut Option<String>,
) -> Result<Answer, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
    if cluster.is_none() {
        *cluster = consumer.client().fetch_cluster_id(ASK_TIMEOUT);
    }
    let mut answer = Answer {
        cluster: cluster.clone(),
        ends: BTreeMap::new(),
        begins: BTreeMap::new(),
        leaderless: BTreeSet::new(),
    };
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Ok(answer);
    };
    if let Some(error) = found.error() {
        return match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => Ok(answer),
            code => Err(KafkaError::MetadataFetch(code)),
        };
    }
    for partition in found.partitions() {
        let id = partition.id();
        if partition.leader() < 0 {
            // One partition that nobody leads must not keep the others from being read.
            answer.leaderless.insert(id);
        } else {
            answer
                .ends
                .insert(id, consumer.fetch_watermarks(topic, id, ASK_TIMEOUT)?);
        }
    }
    if let Some(since_ms) = since_ms {
        let mut asked = TopicPartitionList::new();
        for id in answer.ends.keys() {
            asked.add_partition_offset(topic, *id, Offset::Offset(since_ms))?;
        }
        for found in consumer.offsets_for_times(asked, ASK_TIMEOUT)?.elements() {
            // Nothing so young: its end.
            let begin = match found.offset() {
                Offset::Offset(begin) => Some(begin),
                _ => answer.ends.get(&found.partition()).map(|(_, end)| *end),
            };
            answer
                .begins
                .extend(begin.map(|begin| (found.partition(), begin)));
        }
    }
    Ok(answer)
}
