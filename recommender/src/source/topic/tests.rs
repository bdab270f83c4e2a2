use std::collections::BTreeMap;

use rdkafka::consumer::CommitMode;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::*;

#[test]
fn ending_does_not_wait_long_for_a_kafka_that_has_gone_away() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    let mut reader = TopicReader::start(&config, "events", "group", true).unwrap();
    let started = Instant::now();
    while !reader.caught_up() {
        reader.poll(Duration::from_millis(50), &mut |_| {}).unwrap();
        assert!(started.elapsed() < Duration::from_secs(30), "no topic");
    }
    let offset = |next| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("events", 0, Offset::Offset(next))
            .unwrap();
        list
    };
    // The group's coordinator is known from now on, and then lost with a commit on its way.
    reader.consumer.commit(&offset(1), CommitMode::Sync).unwrap();
    cluster.broker_down(-1).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    reader.consumer.commit(&offset(2), CommitMode::Async).unwrap();
    let ending = Instant::now();
    reader.close();
    drop(reader);
    assert!(
        ending.elapsed() < Duration::from_secs(20),
        "{:?}",
        ending.elapsed()
    );
}

/// Writes events number `from` to `to`, each partition's in their order.
fn write(config: &ClientConfig, from: usize, to: usize) {
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    for n in from..to {
        let value = format!(r#"{{"customer_id":"c{n}","product_id":"p","event_type":"view"}}"#);
        let partition = (n % 3) as i32;
        let record = BaseRecord::<(), _>::to("events")
            .partition(partition)
            .payload(&value);
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

#[test]
fn what_stood_in_the_log_is_parsed_ahead_and_handed_over_once_and_in_order_and_what_comes_later_as_it_comes()
{
    const STOOD: usize = 9_001;
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", 3, 1).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    write(&config, 0, STOOD);
    let mut reader = TopicReader::start(&config, "events", "group", false)
        .unwrap()
        .of_events(None);
    let started = Instant::now();
    let (mut customers, mut next, mut parsed) = (BTreeMap::new(), BTreeMap::new(), 0);
    let mut poll_until = |reader: &mut TopicReader, all: usize| {
        while customers.len() < all || !reader.caught_up() || reader.ahead.is_some() {
            let mut take = |record: Record<'_>| {
                let next = next.entry(record.partition).or_insert(0);
                assert_eq!(record.offset, *next, "in order, and none twice");
                *next += 1;
                let customer = match record.event {
                    Some(event) => {
                        parsed += 1;
                        event.as_ref().unwrap().customer_id.to_string()
                    }
                    None => String::from_utf8_lossy(record.value.unwrap())[16..]
                        .split('"')
                        .next()
                        .unwrap()
                        .to_owned(),
                };
                *customers.entry(customer).or_insert(0) += 1;
            };
            reader.poll(Duration::from_millis(50), &mut take).unwrap();
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "{}",
                customers.len()
            );
        }
        (customers.len(), parsed)
    };
    assert_eq!(poll_until(&mut reader, STOOD), (STOOD, STOOD));
    let positions = |reader: &TopicReader| {
        let (_, places) = reader.positions();
        places.values().map(|place| place.next).sum::<i64>()
    };
    assert_eq!(positions(&reader), STOOD as i64);
    write(&config, STOOD, STOOD + 30);
    assert_eq!(poll_until(&mut reader, STOOD + 30), (STOOD + 30, STOOD));
    assert_eq!(positions(&reader), STOOD as i64 + 30);
    reader.close();
}
