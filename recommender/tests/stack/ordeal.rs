//! Everything that a replica leans on goes away for a while, one after the other, while customers read and the shop
//! writes: no read fails, and no event that was acknowledged is lost or counts twice.
//!
//! `FAULT_SECONDS` is how long each is gone: a few seconds among the other tests, a minute in
//! `cargo xtask soak recommender`. `FAULT_HISTORIES` is where histories are: `Memory`, or `Redis`, where a replica holds
//! fewer customers than there are in one row.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recommendation_api::HumanDuration;
use recommendation_api::config::{KsqldbConfig, SnapshotsConfig};
use recommendation_api::pipeline::recommender::Histories;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::brokers::{Brokers, COPIES};
use crate::cable::{Cable, Line};
use crate::load::{CUSTOMERS, Endpoints, Load, Seen, customer};
use crate::replica::Replica;
use crate::shop::{Shop, redis_address};
use crate::support::ksqldb::{Double, FUNNEL, funnel, popularity, serve};
use crate::support::token;

/// Enough customers that each of the partitions has one.
const PROBES: usize = 60;
const PARTITIONS: i32 = 6;
/// Whoever has not healed by then does not heal.
const PATIENCE: Duration = Duration::from_secs(90);

/// Requests go on to a replica that is gone for so long.
const SERVICE_LAG: Duration = Duration::from_secs(1);

/// A number that the environment sets.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Customers whom a replica holds where histories are elsewhere.
const HELD: u64 = CUSTOMERS as u64 / 2;

/// What was wrong, and how long the system then took to be whole again.
struct Fault {
    what: &'static str,
    healed: Option<Duration>,
    /// Effects of acknowledged events that are missing, and that are there twice, on any replica.
    lost: i64,
    doubled: i64,
}

struct Ordeal {
    shop: Shop,
    client: reqwest::Client,
    replicas: Vec<Replica>,
    probes: usize,
    faults: Vec<Fault>,
}

impl Ordeal {
    fn add(&mut self, what: &'static str, healed: Option<Duration>) {
        if let Some(healed) = healed {
            println!("{what}: healed after {healed:.1?}");
        }
        self.faults.push(Fault {
            what,
            healed,
            lost: 0,
            doubled: 0,
        });
    }

    /// Waits until each replica says that all is well, and an event in any partition, written to any replica, is
    /// acknowledged and known to all of them.
    async fn heal(&mut self) {
        let begun = Instant::now();
        loop {
            let problem = match self.whole().await {
                Ok(()) => return,
                Err(problem) => problem,
            };
            assert!(begun.elapsed() < PATIENCE, "not healed: {problem}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn whole(&mut self) -> Result<(), String> {
        for replica in &self.replicas {
            let url = format!("http://{}/status", replica.internal);
            let answer = self.client.get(url).send().await.map_err(|e| e.to_string())?;
            let status: Value = answer.json().await.map_err(|e| e.to_string())?;
            if status["redis"] != "Up" || status["log"] != "Up" {
                return Err(format!("{status}"));
            }
        }
        for at in 0..self.replicas.len() {
            self.probes += 1;
            let names: Vec<String> = (0..PROBES)
                .map(|n| format!("probe-{}-{n}", self.probes))
                .collect();
            let events: Vec<Value> = names
                .iter()
                .map(|name| json!({"customer_id": name, "product_id": "probe", "event_type": "view"}))
                .collect();
            let url = format!("http://{}/v1/events/batch", self.replicas[at].public);
            let sent = self
                .client
                .post(url)
                .bearer_auth(token("shop", &["events:write"]))
                .json(&events)
                .send();
            let answer: Value = sent
                .await
                .map_err(|e| e.to_string())?
                .json()
                .await
                .map_err(|e| e.to_string())?;
            if answer["accepted"] != PROBES {
                return Err(format!("{answer}"));
            }
            for replica in &self.replicas {
                for name in &names {
                    self.known(replica, name).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until a replica knows something of a customer.
    async fn known(&self, replica: &Replica, name: &str) -> Result<(), String> {
        let begun = Instant::now();
        while self.history(replica, name).await?.is_empty() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{name} is not learned"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// What a replica knows of a customer: product and purchases.
    async fn history(&self, replica: &Replica, name: &str) -> Result<Vec<(String, i64)>, String> {
        let url = format!("http://{}/v1/customers/{name}", replica.public);
        let request = self
            .client
            .get(url)
            .bearer_auth(token("shop", &["customers:admin"]));
        let answer = request.send().await.map_err(|e| e.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(answer.status().to_string());
        }
        let known: Value = answer.json().await.map_err(|e| e.to_string())?;
        let history = known["history"].as_array().unwrap().iter();
        Ok(history
            .map(|item| {
                let product = item["product_id"].as_str().unwrap().to_owned();
                (product, item["purchases"].as_i64().unwrap())
            })
            .collect())
    }

    /// Holds what every replica knows against what was bought.
    async fn compare(&mut self, rows: &[Seen]) {
        for (row, seen) in rows.iter().enumerate() {
            let (mut lost, mut doubled) = (0, 0);
            for replica in &self.replicas {
                for number in 0..CUSTOMERS {
                    let name = customer(row, number);
                    let mut known: HashMap<String, i64> =
                        self.history(replica, &name).await.unwrap().into_iter().collect();
                    for ((_, product), bought) in seen.bought.iter().filter(|((of, _), _)| *of == name) {
                        let learned = known.remove(product).unwrap_or_default();
                        lost += (bought - learned).max(0);
                        doubled += (learned - bought).max(0);
                    }
                    doubled += known.values().sum::<i64>();
                }
            }
            self.faults[row].lost = lost;
            self.faults[row].doubled = doubled;
        }
    }

    /// Asks each replica for its figures, as an analyst does; answers whether all of them have ksqlDB's totals.
    async fn figures(&self) -> bool {
        let mut totals = 0;
        for replica in &self.replicas {
            let url = format!("http://{}/v1/insights", replica.public);
            let request = self
                .client
                .get(url)
                .bearer_auth(token("analyst", &["insights:read"]));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "figures with ksqlDB or without");
            let told: Value = answer.json().await.unwrap();
            assert!(told["funnel"]["events"]["purchase"].as_u64() > Some(0), "{told}");
            totals += usize::from(told["ksqldb"]["funnel"][0]["events"] == 900);
        }
        totals == self.replicas.len()
    }

    /// Waits until the figures have ksqlDB's totals, or have not.
    async fn totals(&self, there: bool) {
        let begun = Instant::now();
        while self.figures().await != there {
            assert!(begun.elapsed() < PATIENCE, "totals of ksqlDB: not yet {there}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn table(&self, rows: &[Seen]) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header([
            "fault",
            "reads",
            "failed",
            "asked again",
            "p99 ms",
            "longest ms",
            "events acknowledged",
            "writes refused",
            "longest silence s",
            "lost",
            "doubled",
            "healed after s",
        ]);
        for (fault, seen) in self.faults.iter().zip(rows) {
            let mut took = seen.took.clone();
            took.sort_unstable();
            let milliseconds = |place: usize| {
                let took = took.get(place.min(took.len().saturating_sub(1)));
                took.map_or("-".to_owned(), |took| format!("{:.1}", took.as_secs_f64() * 1e3))
            };
            table.add_row([
                fault.what.to_owned(),
                took.len().to_string(),
                seen.failed.len().to_string(),
                seen.asked_again.to_string(),
                milliseconds(took.len() * 99 / 100),
                milliseconds(took.len()),
                seen.acknowledged.to_string(),
                seen.refused.to_string(),
                format!("{:.1}", seen.silence.as_secs_f64()),
                fault.lost.to_string(),
                fault.doubled.to_string(),
                fault
                    .healed
                    .map_or("-".to_owned(), |healed| format!("{:.1}", healed.as_secs_f64())),
            ]);
        }
        table.to_string()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_away_under_load_no_read_fails_and_no_acknowledged_event_is_lost_or_doubled() {
    let gone = Duration::from_secs(setting("FAULT_SECONDS", 3));
    let brokers = Brokers::new().await;
    let redis = Cable::to(&redis_address()).await;
    let totals = Double {
        tables: HashMap::from([(FUNNEL.to_owned(), funnel(&[json!(["view", 900])]))]),
        any_product: Some(popularity(&[])),
        ..Double::default()
    };
    let ksqldb = serve(Arc::new(totals)).await;
    let ksqldb = Cable::to(ksqldb.trim_start_matches("http://")).await;
    let mut shop = Shop::on(&brokers.direct, PARTITIONS, COPIES as i32)
        .await
        .with_redis(&format!("redis://{}", redis.address));
    let kafka = shop.config.kafka.as_mut().unwrap();
    kafka.bootstrap_servers.clone_from(&brokers.through_cables);
    let events = shop.config.topics.events.clone();
    shop.config.ksqldb = Some(KsqldbConfig {
        url: format!("http://{}", ksqldb.address),
        funnel: "event_funnel".into(),
        popularity: "product_popularity_hourly".into(),
    });
    // All of a row's events are of a hundred customers, who are no robots.
    shop.config.quality.max_events_per_minute = 1_000_000;
    shop.config.snapshots = Some(SnapshotsConfig {
        url: url::Url::from_file_path(shop.dir.path().join("snapshots"))
            .unwrap()
            .to_string(),
        interval: HumanDuration::from_secs(2),
        ..SnapshotsConfig::default()
    });
    if std::env::var("FAULT_HISTORIES").is_ok_and(|name| name == "Redis") {
        shop.config.histories = Histories::Redis;
        shop.config.limits.max_customers = HELD;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let replicas = vec![
        Replica::start(&shop, &client).await,
        Replica::start(&shop, &client).await,
    ];
    let (readers, writers) = (setting("FAULT_READERS", 3), setting("FAULT_WRITERS", 2));
    let ready: Endpoints = Arc::new(Mutex::new(
        replicas.iter().map(|replica| replica.public).collect(),
    ));
    let load = Load::start(&client, &ready, readers as usize, writers as usize);
    let mut ordeal = Ordeal {
        shop,
        client,
        replicas,
        probes: 0,
        faults: Vec::new(),
    };
    ordeal.heal().await;
    tokio::time::sleep(gone).await;
    ordeal.add("none", None);

    for (what, line) in [("Redis cut off", Line::Cut), ("Redis silent", Line::Dead)] {
        load.next_row();
        redis.is(line);
        tokio::time::sleep(gone).await;
        redis.is(Line::Whole);
        let back = Instant::now();
        ordeal.heal().await;
        ordeal.add(what, Some(back.elapsed()));
    }
    for (what, line) in [("Kafka cut off", Line::Cut), ("Kafka silent", Line::Dead)] {
        load.next_row();
        brokers.are(line);
        tokio::time::sleep(gone).await;
        for replica in &ordeal.replicas {
            let ready = ordeal
                .client
                .get(format!("http://{}/readyz", replica.internal))
                .send()
                .await;
            assert_eq!(ready.unwrap().status(), StatusCode::OK, "it answers from memory");
        }
        brokers.are(Line::Whole);
        let back = Instant::now();
        ordeal.heal().await;
        ordeal.add(what, Some(back.elapsed()));
    }

    ordeal.totals(true).await;
    for (what, line) in [("ksqlDB cut off", Line::Cut), ("ksqlDB silent", Line::Dead)] {
        load.next_row();
        ksqldb.is(line);
        ordeal.totals(false).await;
        tokio::time::sleep(gone).await;
        assert!(!ordeal.figures().await, "{what}");
        ordeal.add(what, None);
    }
    load.next_row();
    ksqldb.is(Line::Whole);
    let back = Instant::now();
    ordeal.totals(true).await;
    ordeal.add("ksqlDB back", Some(back.elapsed()));

    load.next_row();
    let node = brokers.leader(&events).await;
    let killed = Instant::now();
    brokers.kill(node).await;
    ordeal.heal().await;
    let healed = killed.elapsed();
    tokio::time::sleep(gone.saturating_sub(healed)).await;
    ordeal.add("one of three brokers killed", Some(healed));

    load.next_row();
    let back = Instant::now();
    brokers.start(node, &events).await;
    ordeal.heal().await;
    ordeal.add("that broker started again", Some(back.elapsed()));

    load.next_row();
    let victim = ordeal.replicas.remove(0);
    let (public, internal) = (victim.public, victim.internal);
    let killed = Instant::now();
    victim.kill();
    // The Service learns of it late; the kubelet starts it again, and it gets requests once it is ready.
    tokio::time::sleep(SERVICE_LAG).await;
    ready.lock().unwrap().retain(|endpoint| *endpoint != public);
    let restarted = Replica::start_on(&ordeal.shop, &ordeal.client, public, internal).await;
    ready.lock().unwrap().push(public);
    ordeal.replicas.insert(0, restarted);
    ordeal.heal().await;
    let healed = killed.elapsed();
    tokio::time::sleep(gone.saturating_sub(healed)).await;
    ordeal.add("a replica killed", Some(healed));

    let rows = load.end().await;
    ordeal.heal().await;
    ordeal.compare(&rows).await;
    println!(
        "each for {} s, {readers} readers, {writers} writers, two replicas, histories in {:?}\n{}",
        gone.as_secs(),
        ordeal.shop.config.histories,
        ordeal.table(&rows)
    );
    let records = ordeal.shop.records(&events).await;
    let ids: Vec<String> = records
        .iter()
        .filter_map(|(_, value)| {
            let event: Value = serde_json::from_slice(value.as_deref()?).ok()?;
            Some(event["event_id"].as_str()?.to_owned())
        })
        .collect();
    let different: HashSet<&String> = ids.iter().collect();
    println!(
        "the log has {} records, {} of them written again",
        ids.len(),
        ids.len() - different.len()
    );
    for (fault, seen) in ordeal.faults.iter().zip(&rows) {
        assert!(seen.took.len() > 20 && !seen.bought.is_empty(), "{}", fault.what);
        assert!(
            seen.failed.is_empty(),
            "reads failed: {}: {:?}",
            fault.what,
            seen.failed
        );
        assert_eq!(
            (fault.lost, fault.doubled),
            (0, 0),
            "lost, doubled: {}",
            fault.what
        );
    }
}
