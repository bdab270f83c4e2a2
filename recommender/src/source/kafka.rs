//! The Kafka source: catalogue, profiles and erasures first, to their end, then the events, then all as they come.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use recommendation_api::EventType;
use recommendation_api::config::RecommenderConfig;
use recommendation_api::model::ModelSource;
use recommendation_api::pipeline::serving::Pseudonymization;
use recommendation_api::report::DependencyState;
use tokio_util::sync::CancellationToken;

use super::positions::{Positions, ResumeError};
use super::topic::TopicReader;
use super::{Item, Lag, Source, SourceError, Take};
use crate::clock::now_ms;
use crate::insights::KEPT_MS;
use crate::log::dead_letters;
use crate::log::kafka::KafkaLog;
use crate::metrics::Metrics;

/// Compacted topics keep a deletion for a day by default (`delete.retention.ms`): who reads on after longer than
/// that may never hear of it.
const DELETIONS_KEPT: Duration = Duration::from_secs(20 * 3600);

/// Reads the events topic, the catalogue, the profiles, the erasures and the impressions; writes dead letters for the partitions that it owns.
pub struct KafkaSource {
    topics: [String; 2],
    impressions_topic: String,
    /// The topic of erasures.
    erased: String,
    /// The topic of profiles.
    profiled: String,
    catalog: TopicReader,
    profiles: TopicReader,
    erasures: TopicReader,
    /// Where pseudonyms are configured.
    salts: Option<TopicReader>,
    events: TopicReader,
    impressions: TopicReader,
    /// The catalogue, the profiles and the erasures, to their end.
    tables_were_read: bool,
    /// Cancelled once everything was read that stood in the log at the start.
    has_read: CancellationToken,
    stop: CancellationToken,
    dead_letters: Option<JoinHandle<()>>,
}

/// What the events of this configuration are read from, and the type of records that carry none.
pub fn events_topic(config: &RecommenderConfig) -> (&str, Option<EventType>) {
    match config.model.source {
        ModelSource::Events => (&config.topics.events, None),
        ModelSource::Purchases => (&config.topics.purchases, Some(EventType::Purchase)),
    }
}

/// The consumer group's name: the pipeline's, in characters that every tool takes.
pub fn group(config: &RecommenderConfig) -> String {
    match config.pipeline.as_str() {
        "" => "recommender".to_owned(),
        name => name.replace('/', "."),
    }
}

impl KafkaSource {
    /// Starts reading, `traced` with the traces that records belong to, and writing dead letters for the partitions that this replica owns. Kafka need not be
    /// there yet. To be called within a tokio runtime.
    pub fn start(
        client: &ClientConfig,
        config: &RecommenderConfig,
        log: &KafkaLog,
        metrics: &Arc<Metrics>,
        traced: bool,
    ) -> Result<Self, SourceError> {
        let mut source = Self::open(client, config, true, traced)?;
        let (topic, default_type) = events_topic(config);
        let work = dead_letters::Validator::new(
            client,
            topic,
            default_type,
            &group(config),
            log.clone(),
            Arc::clone(metrics),
        );
        let (begin, stop) = (source.has_read.clone(), source.stop.clone());
        let thread = std::thread::Builder::new()
            .name("dead-letters".into())
            .spawn(move || {
                if let Err(e) = work.run(&begin, &stop) {
                    tracing::error!(error = %e, "dead letters cannot be written");
                }
            })
            .map_err(|_| SourceError::Thread("dead-letters"))?;
        source.dead_letters = Some(thread);
        Ok(source)
    }

    /// Only reads: what is no replica writes neither dead letters nor offsets.
    pub fn follow(client: &ClientConfig, config: &RecommenderConfig) -> Result<Self, SourceError> {
        Self::open(client, config, false, false)
    }

    fn open(
        client: &ClientConfig,
        config: &RecommenderConfig,
        replica: bool,
        traced: bool,
    ) -> Result<Self, SourceError> {
        let group = group(config);
        let (topic, default_type) = events_topic(config);
        let table =
            |topic: &str, name: &str| TopicReader::start(client, topic, &format!("{group}-{name}"), false);
        let catalog = table(&config.topics.catalog, "catalog")?;
        let profiles = table(&config.topics.profiles, "profiles")?;
        let erasures = table(&config.topics.erasures, "erasures")?;
        let pseudonyms = config.privacy.pseudonymization == Pseudonymization::PerCustomerSalt;
        let salts = pseudonyms
            .then(|| table(&config.topics.salts, "salts"))
            .transpose()?;
        let events = TopicReader::start(client, topic, &group, replica)?
            .traced(traced)
            .of_events(default_type);
        // Figures are about the last week: what was shown before that is not even read.
        let impressions = TopicReader::start_at(
            client,
            &config.topics.impressions,
            &format!("{group}-impressions"),
            Some(now_ms() - KEPT_MS),
        )?;
        Ok(Self {
            topics: [config.topics.catalog.clone(), topic.to_owned()],
            impressions_topic: config.topics.impressions.clone(),
            erased: config.topics.erasures.clone(),
            profiled: config.topics.profiles.clone(),
            catalog,
            profiles,
            erasures,
            salts,
            events,
            impressions,
            tables_were_read: false,
            has_read: CancellationToken::new(),
            stop: CancellationToken::new(),
            dead_letters: None,
        })
    }
}

impl Source for KafkaSource {
    fn recognise(&mut self, from: &Positions) -> Result<(), ResumeError> {
        let [catalog, events] = &self.topics;
        let of = |topic: &str| {
            let missing = || ResumeError::Never(format!("it was not made from topic {topic}"));
            from.topics.get(topic).ok_or_else(missing)
        };
        let (of_catalog, of_events) = (of(catalog)?, of(events)?);
        self.events.recognise(of_events, true)?;
        match self.events.positions().0 {
            Some(cluster) if !from.log.is_empty() && cluster != from.log => {
                return Err(ResumeError::Never(format!(
                    "it was made from cluster {}, and this is {cluster}",
                    from.log
                )));
            }
            _ => {}
        }
        self.catalog.recognise(of_catalog, false)
    }

    /// Profiles and erasures are read from their start all the same: what is looked up in them is not in snapshots.
    /// How far erasures were applied to a snapshot stands in its positions.
    fn resume(&mut self, from: &Positions) {
        for (topic, reader) in self.topics.iter().zip([&mut self.catalog, &mut self.events]) {
            if let Some(partitions) = from.topics.get(topic) {
                reader.resume(partitions);
            }
        }
        // Not recognised first: nothing but figures rests on it, and a replica must start without that topic too.
        if let Some(partitions) = from.topics.get(&self.impressions_topic) {
            self.impressions.resume(partitions);
        }
    }

    fn positions(&self) -> Positions {
        let [catalog, events] = &self.topics;
        let (cluster, of_events) = self.events.positions();
        Positions {
            log: cluster.unwrap_or_default(),
            topics: [
                (catalog.clone(), self.catalog.positions().1),
                (events.clone(), of_events),
                (self.impressions_topic.clone(), self.impressions.positions().1),
                (self.erased.clone(), self.erasures.positions().1),
                (self.profiled.clone(), self.profiles.positions().1),
            ]
            .into(),
        }
    }

    fn oldest_resumable(&self) -> Option<Duration> {
        Some(DELETIONS_KEPT)
    }

    fn problem(&self) -> Option<String> {
        let tables = [&self.catalog, &self.profiles, &self.erasures];
        let tables = tables.into_iter().chain(&self.salts);
        self.events
            .problem()
            .or_else(|| tables.into_iter().find_map(TopicReader::problem))
    }

    fn poll(&mut self, wait: Duration, take: &mut Take<'_>) -> Result<usize, SourceError> {
        // Nobody told it to: it panicked.
        if self.dead_letters.as_ref().is_some_and(JoinHandle::is_finished) && !self.stop.is_cancelled() {
            return Err(SourceError::Thread("dead-letters"));
        }
        // The verdict on a record is not used here: the validator owns dead letters.
        let table_wait = if self.tables_were_read {
            Duration::ZERO
        } else {
            wait
        };
        let mut taken = self.catalog.poll(table_wait, &mut |record| {
            let _ = take(Item::Product(record));
        })?;
        // Before profiles: who was erased may have come back and written a new one.
        taken += self.erasures.poll(table_wait, &mut |record| {
            let _ = take(Item::Erasure(record));
        })?;
        if let Some(salts) = &mut self.salts {
            taken += salts.poll(table_wait, &mut |record| {
                let _ = take(Item::Salt(record));
            })?;
        }
        let read = |table: &TopicReader| table.caught_up() || table.is_absent();
        if self.tables_were_read || read(&self.erasures) {
            taken += self.profiles.poll(table_wait, &mut |record| {
                let _ = take(Item::Profile(record));
            })?;
        }
        if !self.tables_were_read {
            self.tables_were_read = read(&self.catalog)
                && read(&self.profiles)
                && read(&self.erasures)
                && self.salts.iter().all(read);
            return Ok(taken);
        }
        taken += self.events.poll(wait, &mut |record| {
            let _ = take(Item::Event(record));
        })?;
        taken += self.impressions.poll(Duration::ZERO, &mut |record| {
            let _ = take(Item::Impression(record));
        })?;
        if !self.has_read.is_cancelled() && self.events.caught_up() {
            self.has_read.cancel();
        }
        Ok(taken)
    }

    fn has_tables(&self) -> bool {
        self.tables_were_read
    }

    fn lag(&self, now_ms: i64) -> Lag {
        let mut lag = self.events.lag(now_ms);
        lag.caught_up &= self.tables_were_read;
        lag
    }

    fn state(&self) -> DependencyState {
        self.events.state()
    }

    fn close(&mut self) {
        self.stop.cancel();
        self.events.close();
        self.catalog.close();
        self.profiles.close();
        self.impressions.close();
        self.erasures.close();
        if let Some(salts) = &mut self.salts {
            salts.close();
        }
        if let Some(thread) = self.dead_letters.take() {
            let _ = thread.join();
        }
    }
}
