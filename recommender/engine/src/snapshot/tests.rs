use std::io::Read;

use proptest::prelude::*;

use super::{
    SnapshotError,
    codec::Out,
    frame::{FrameReader, FrameWriter},
    parts, read,
};
use crate::{
    Algorithm, EngineConfig, EventKind, HistoryItem, Interaction, Limits, ProductMeta, Query, Reader,
    Repeats, Scored, Stats, Writer, engine,
};

const NOW: i64 = 1_700_000_000_000;

type Event = (u8, u8, u8, i64, bool);

fn log() -> impl Strategy<Value = Vec<Event>> {
    let event = (0u8..8, 0u8..12, 0u8..6, 0i64..400, any::<bool>());
    prop::collection::vec(event, 0..120)
}

fn feed(writer: &mut Writer, events: &[Event]) {
    for (at, (customer, product, kind, minutes, session)) in events.iter().enumerate() {
        let kind = [
            EventKind::View,
            EventKind::Click,
            EventKind::Cart,
            EventKind::Purchase,
            EventKind::Return,
            EventKind::View,
        ][usize::from(*kind)];
        let (customer, product) = (format!("c{customer}"), format!("p{product}"));
        let id = format!("{customer}{product}{minutes}");
        let event = Interaction {
            session: session.then_some("tab"),
            event_id: Some(&id),
            ..Interaction::new(&customer, &product, kind, NOW - (400 - minutes) * 300_000)
        };
        writer.apply(&event, NOW);
        if at % 16 == 0 {
            writer.publish(NOW, 3);
        }
    }
}

fn tight() -> EngineConfig {
    EngineConfig {
        neighbors: 3,
        max_events_per_minute: 2,
        limits: Limits {
            learn_history: 6,
            pair_history: 4,
            row_capacity: 4,
            max_customers: 5,
            dedup_ids: 40,
            max_sessions: 10,
            ..Limits::default()
        },
        ..EngineConfig::default()
    }
}

type Seen = (Vec<Vec<Scored>>, Stats, Vec<Option<Vec<HistoryItem>>>);

/// What can be seen from outside, after a flush.
fn seen(writer: &mut Writer, reader: &Reader) -> Seen {
    writer.flush(NOW);
    let customers: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let mut answers = Vec::new();
    for algorithm in [
        Algorithm::ItemKnn,
        Algorithm::Rp3Beta,
        Algorithm::SessionKnn,
        Algorithm::Popularity,
        Algorithm::Content,
        Algorithm::Hybrid,
    ] {
        for customer in &customers {
            let query = Query {
                customer: Some(customer),
                algorithm: Some(algorithm),
                limit: 20,
                now_ms: NOW,
                ..Query::default()
            };
            answers.push(reader.recommend(&query).items);
        }
    }
    let histories = customers.iter().map(|customer| reader.customer_history(customer));
    (answers, reader.stats(), histories.collect())
}

fn written(writer: &mut Writer) -> Vec<u8> {
    let mut bytes = Vec::new();
    writer.write_snapshot(&mut bytes).unwrap();
    bytes
}

fn restored(config: EngineConfig, bytes: &[u8]) -> Result<(Writer, Reader), SnapshotError> {
    read(config, &mut &bytes[..])
}

fn catalogue(writer: &mut Writer) {
    let meta = ProductMeta {
        category: Some("cups".into()),
        tags: vec!["red".into()],
        price: Some(2.5),
        attributes: [("for_skin".to_owned(), vec!["dry".to_owned()])].into(),
        embedding: Some(vec![0.25, -1.0]),
        ..ProductMeta::titled("Red mug")
    };
    writer.set_product("p1", Some(meta));
    writer.set_product("p2", None);
    writer.set_product("p3", Some(ProductMeta::titled("Red saucer")));
    writer.set_profile("c1", Some([("skin".to_owned(), vec!["dry".to_owned()])].into()));
}

/// Some model with a bit of everything.
fn sample() -> Writer {
    let (mut writer, _) = engine(EngineConfig::default()).unwrap();
    catalogue(&mut writer);
    let events: Vec<Event> = (0..200u32)
        .map(|n| {
            (
                (n % 7) as u8,
                (n * n % 11) as u8,
                (n % 6) as u8,
                i64::from(n),
                n % 3 == 0,
            )
        })
        .collect();
    feed(&mut writer, &events);
    writer
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn restored_and_fed_the_tail_equals_fed_the_whole_log(events in log(), cut in 0usize..120, tight_caps in any::<bool>()) {
        let config = if tight_caps { tight() } else { EngineConfig::default() };
        let cut = cut.min(events.len());
        let (mut whole, whole_reader) = engine(config.clone()).unwrap();
        catalogue(&mut whole);
        feed(&mut whole, &events[..cut]);
        let (mut half, half_reader) = restored(config, &written(&mut whole)).unwrap();
        prop_assert_eq!(half_reader.product("p1"), whole_reader.product("p1"));
        prop_assert_eq!(half_reader.hit_rates(), whole_reader.hit_rates());
        feed(&mut whole, &events[cut..]);
        feed(&mut half, &events[cut..]);
        prop_assert_eq!(seen(&mut half, &half_reader), seen(&mut whole, &whole_reader));
    }
}

proptest! {
    // As many as `PROPTEST_CASES` wants.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_and_never_a_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, end in any::<prop::sample::Index>()) {
        thread_local! { static BYTES: Vec<u8> = written(&mut sample()); }
        BYTES.with(|bytes| {
            let cut = restored(EngineConfig::default(), &bytes[..end.index(bytes.len())]);
            prop_assert!(matches!(cut, Err(SnapshotError::Truncated)));
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(restored(EngineConfig::default(), &flipped).is_err());
            Ok(())
        })?;
    }

    #[test]
    fn nonsense_with_a_right_checksum_is_read_without_a_panic(name in 0usize..10, payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let name = [parts::CONF, parts::FIGS, parts::PROD, parts::HIST, parts::PAIR, parts::VISI, parts::SEEN, parts::PROF, parts::RATE, parts::SUMS][name];
        let mut products = Out::default();
        products.text("mug");
        products.unsigned(0);
        let mut bytes = Vec::new();
        let mut frame = FrameWriter::new(&mut bytes, 1, 1).unwrap();
        frame.section(parts::PROD, &products.bytes).unwrap();
        frame.section(name, &payload).unwrap();
        frame.finish().unwrap();
        let _ = restored(EngineConfig::default(), &bytes);
    }
}

#[test]
fn a_length_that_is_not_there_allocates_nothing() {
    let mut bytes = Vec::new();
    FrameWriter::new(&mut bytes, 1, 1).unwrap();
    bytes.extend_from_slice(b"HIST");
    bytes.extend_from_slice(&((1u64 << 30) - 1).to_le_bytes());
    bytes.extend_from_slice(&[0; 30]);
    assert!(matches!(
        restored(EngineConfig::default(), &bytes),
        Err(SnapshotError::Truncated)
    ));
    bytes[28..36].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(
        restored(EngineConfig::default(), &bytes),
        Err(SnapshotError::Damaged { .. })
    ));
}

/// The sections of a snapshot, apart from the last.
fn sections(bytes: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let mut input = bytes;
    let mut reader = FrameReader::new(&mut input).unwrap();
    let mut sections = Vec::new();
    while let Some((name, payload)) = reader.next().unwrap() {
        sections.push((name, payload.to_vec()));
    }
    sections
}

fn rewritten(version: u32, oldest: u32, sections: &[([u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = FrameWriter::new(&mut bytes, version, oldest).unwrap();
    for (name, payload) in sections {
        frame.section(*name, payload).unwrap();
    }
    frame.finish().unwrap();
    bytes
}

#[test]
fn a_snapshot_of_the_next_version_is_read_without_what_is_new_in_it() {
    let mut writer = sample();
    let mut newer = sections(&written(&mut writer));
    newer.insert(2, (*b"NEWS", vec![1, 2, 3]));
    let figures = newer.iter_mut().find(|(name, _)| *name == parts::FIGS).unwrap();
    let text = String::from_utf8(figures.1.clone()).unwrap();
    figures.1 = text.replacen('{', "{\"somethingNew\":7,", 1).into_bytes();
    let (mut other, reader) = restored(EngineConfig::default(), &rewritten(2, 1, &newer)).unwrap();
    let expected = writer.reader();
    assert_eq!(seen(&mut other, &reader), seen(&mut writer, &expected));
    let too_new = restored(EngineConfig::default(), &rewritten(3, 2, &newer));
    assert!(matches!(
        too_new,
        Err(SnapshotError::Version {
            found: 3,
            supported: 1
        })
    ));
}

#[test]
fn a_snapshot_of_a_version_with_fewer_sections_is_read_with_defaults() {
    let mut writer = sample();
    let mut older = sections(&written(&mut writer));
    older.retain(|(name, _)| [parts::PROD, parts::HIST].contains(name));
    let (mut other, reader) = restored(EngineConfig::default(), &rewritten(1, 1, &older)).unwrap();
    let expected = writer.reader();
    let (answers, stats, histories) = seen(&mut other, &reader);
    let (expected_answers, expected_stats, expected_histories) = seen(&mut writer, &expected);
    // Those by item and by walk; visits were not there yet.
    assert_eq!(answers[..16], expected_answers[..16]);
    assert_eq!(histories, expected_histories);
    assert_eq!((stats.events, stats.pairs), (0, expected_stats.pairs));
}

#[test]
fn a_setting_that_the_counts_depend_on_may_not_have_changed_and_others_may() {
    let bytes = written(&mut sample());
    let with = |change: fn(&mut EngineConfig)| {
        let mut config = EngineConfig::default();
        change(&mut config);
        restored(config, &bytes).map(|_| ())
    };
    let refused = |change: fn(&mut EngineConfig)| match with(change) {
        Err(SnapshotError::ConfigChanged { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(|c| c.repeats = Repeats::Binary), "repeats");
    assert_eq!(refused(|c| c.damping = false), "damping");
    assert_eq!(refused(|c| c.trend_half_life_ms *= 2), "trendHalfLife");
    assert_eq!(refused(|c| c.max_events_per_minute = 5), "maxEventsPerMinute");
    assert_eq!(refused(|c| c.non_products.push("POST".into())), "nonProducts");
    assert_eq!(refused(|c| c.limits.learn_history = 50), "limits.learnHistory");
    assert_eq!(refused(|c| c.limits.pair_history = 10), "limits.pairHistory");
    assert_eq!(refused(|c| c.limits.row_capacity = 200), "limits.rowCapacity");
    assert_eq!(refused(|c| c.limits.max_products = 3), "limits.maxProducts");
    assert_eq!(refused(|c| c.recalls = true), "histories");
    with(|c| c.neighbors = 5).unwrap();
    with(|c| c.half_life_ms *= 2).unwrap();
    with(|c| c.tuning.event_weights.view = 2.0).unwrap();
    with(|c| c.limits.max_customers = 3).unwrap();
    with(|c| c.limits.max_sessions = 2).unwrap();
    with(|c| c.limits.dedup_ids = 2).unwrap();
}

#[test]
fn what_is_no_snapshot_and_what_cannot_be_read_say_so() {
    let refused = restored(EngineConfig::default(), &[0; 64]);
    assert!(matches!(refused, Err(SnapshotError::Format)));
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let refused = read(EngineConfig::default(), &mut Broken);
    assert!(matches!(refused, Err(SnapshotError::Read(_))));
}
