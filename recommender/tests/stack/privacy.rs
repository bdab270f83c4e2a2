//! An erased customer, over Kafka and Redis: gone from every replica within a second, and for good.

use std::time::{Duration, Instant};

use recommendation_api::HumanDuration;
use recommendation_api::pipeline::serving::Pseudonymization;
use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{Shop, redis};
use crate::support::{
    Running, contains, event, eventually, files_with, logged, recommended, send, snapshots_in, token,
};

const ERASED: &str = "zoe-the-erased";

/// Products that a replica knows a customer for.
async fn known(service: &Running, customer: &str) -> Vec<String> {
    let path = format!("/v1/customers/{customer}");
    let token = token(customer, &[]);
    let answer = service.call(Method::GET, &path, Some(&token), None).await;
    let history = answer.json()["history"].as_array().cloned().unwrap_or_default();
    let mut known: Vec<String> = history
        .iter()
        .map(|it| it["product_id"].as_str().unwrap().to_owned())
        .collect();
    known.sort();
    known
}

async fn similar(service: &Running, product: &str) -> Vec<String> {
    let answer = service.get(&format!("/v1/products/{product}/similar")).await;
    let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|it| it["product_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Keys of this pipeline in Redis whose name or value contains a text.
async fn in_redis(pipeline: &str, text: &str) -> Vec<String> {
    let client = redis::Client::open(redis()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("*{pipeline}*"))
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut found = Vec::new();
    for key in keys {
        let value: redis::RedisResult<Vec<u8>> =
            redis::cmd("GET").arg(&key).query_async(&mut connection).await;
        if key.contains(text) || value.is_ok_and(|value| contains(&value, text)) {
            found.push(key);
        }
    }
    found
}

/// Nothing leads to the erased customer, or to what only they linked.
async fn leads_nowhere(service: &Running) {
    eventually("the lists", async || {
        let near = similar(service, "cup").await;
        near.contains(&"saucer".to_owned()) && !near.contains(&"lamp".to_owned())
    })
    .await;
    assert_eq!(known(service, ERASED).await, Vec::<String>::new());
    assert_eq!(service.status().await["model"]["customers"], 2);
    for path in ["/metrics", "/status"] {
        assert!(!service.internal(path).await.text.contains(ERASED));
    }
}

#[tokio::test]
async fn an_erased_customer_is_gone_from_replicas_caches_snapshots_and_whoever_reads_the_log_anew() {
    logged();
    let mut shop = Shop::new(3).await.with_redis(&redis());
    let stored = tempfile::tempdir().unwrap();
    shop.config.model.exploration = 0.0;
    if let Some(redis) = &mut shop.config.redis {
        redis.ttl = HumanDuration::from_secs(600);
    }
    shop.config.snapshots = snapshots_in(stored.path());
    let a = Running::start(shop.replica()).await.ready().await;
    let b = Running::start(shop.replica()).await.ready().await;
    let mut events = Vec::new();
    for (customer, product) in [
        ("ann", "cup"),
        ("ann", "saucer"),
        ("bob", "cup"),
        ("bob", "saucer"),
        (ERASED, "cup"),
        (ERASED, "lamp"),
    ] {
        let mut event = event(customer, product, "purchase");
        event["timestamp"] = json!(1_700_000_000_000_i64);
        events.push(event);
    }
    send(&a, &events).await;
    let profile = json!({"email": "zoe@example.com", "attributes": {"skin": "dry"}});
    let path = format!("/v1/customers/{ERASED}");
    let own = token(ERASED, &[]);
    let written = a
        .call(
            Method::PUT,
            &format!("{path}/profile"),
            Some(&own),
            Some(&profile),
        )
        .await;
    assert_eq!(written.status, 202);
    for replica in [&a, &b] {
        replica.learned(6).await;
        eventually("the link", async || {
            similar(replica, "cup").await.contains(&"lamp".to_owned())
        })
        .await;
        eventually("the profile", async || {
            let answer = replica.call(Method::GET, &path, Some(&own), None).await;
            answer.json()["profile"]["email"] == "zoe@example.com"
        })
        .await;
        recommended(replica, ERASED).await;
    }
    let pipeline = shop.config.pipeline.clone();
    eventually("an answer in Redis", async || {
        !in_redis(&pipeline, ERASED).await.is_empty()
    })
    .await;
    eventually("a snapshot", async || {
        !files_with(stored.path(), ERASED).is_empty()
    })
    .await;

    let begun = Instant::now();
    let answer = a.call(Method::DELETE, &path, Some(&own), None).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let answered = begun.elapsed();
    for replica in [&a, &b] {
        eventually("the erasure", async || known(replica, ERASED).await.is_empty()).await;
    }
    eventually("Redis without them", async || {
        in_redis(&pipeline, ERASED).await.is_empty()
    })
    .await;
    let gone = begun.elapsed();
    println!("erasure: answered after {answered:?}, gone from replicas and Redis after {gone:?}");
    assert!(gone - answered < Duration::from_secs(1), "{gone:?}");
    leads_nowhere(&a).await;
    leads_nowhere(&b).await;
    eventually("snapshots without them", async || {
        files_with(stored.path(), ERASED).is_empty()
    })
    .await;
    // The record of the erasure names nobody; that of the profile is a tombstone.
    let erasures = shop.records(&shop.config.topics.erasures).await;
    assert_eq!(erasures.len(), 1);
    for (key, value) in &erasures {
        assert!(!contains(key, ERASED) && !contains(value.as_deref().unwrap(), ERASED));
    }
    let profiles = shop.records(&shop.config.topics.profiles).await;
    assert_eq!(profiles.last().unwrap(), &(ERASED.as_bytes().to_vec(), None));
    a.stop().await;
    b.stop().await;

    // From a snapshot, and from the log alone: the events still stand there, as the answer said.
    let c = Running::start(shop.replica()).await.ready().await;
    leads_nowhere(&c).await;
    c.stop().await;
    std::fs::remove_dir_all(stored.path()).unwrap();
    let events = shop.records(&shop.config.topics.events).await;
    assert_eq!(events.iter().filter(|(key, _)| contains(key, ERASED)).count(), 2);
    let d = Running::start(shop.replica()).await.ready().await;
    leads_nowhere(&d).await;
    // A customer may come back, and is not forgotten then by whoever reads the log anew.
    send(&d, &[event(ERASED, "plate", "view")]).await;
    eventually("the return", async || known(&d, ERASED).await == ["plate"]).await;
    d.stop().await;
    std::fs::remove_dir_all(stored.path()).unwrap();
    let e = Running::start(shop.replica()).await.ready().await;
    assert_eq!(known(&e, ERASED).await, ["plate"]);
    e.stop().await;
    let log = logged();
    assert!(log.contains("erasures applied"), "services log");
    let named = log
        .lines()
        .filter(|line| line.contains(ERASED) && line.contains(" recommender"));
    assert_eq!(named.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[tokio::test]
async fn who_refuses_is_not_learned_from_whoever_writes_the_records() {
    let shop = Shop::new(2).await;
    let a = Running::start(shop.replica()).await.ready().await;
    send(&a, &[event("ann", "cup", "view")]).await;
    a.learned(1).await;
    let path = "/v1/customers/ann/profile";
    let refusal = json!({"consent": false});
    a.call(Method::PUT, path, Some(&token("ann", &[])), Some(&refusal))
        .await;
    // What was learned goes with the erasure, which is read on its own: the refusal may come a moment later.
    eventually("the refusal", async || {
        let path = "/v1/recommendations/ann";
        let answer = a.call(Method::GET, path, Some(&token("ann", &[])), None).await;
        answer.json()["fallback"] == "consent" && known(&a, "ann").await.is_empty()
    })
    .await;
    // Acknowledged and not written; and written by another producer, read, and not learned.
    send(&a, &[event("ann", "mug", "view")]).await;
    let foreign = event("ann", "lamp", "view").to_string();
    shop.put(None, "ann", foreign.as_bytes()).await;
    a.learned(2).await;
    assert!(known(&a, "ann").await.is_empty());
    assert_eq!(shop.records(&shop.config.topics.events).await.len(), 2);
    a.stop().await;
    let b = Running::start(shop.replica()).await.ready().await;
    assert!(known(&b, "ann").await.is_empty());
    b.stop().await;
}

#[tokio::test]
async fn replicas_that_draw_at_once_agree_on_one_pseudonym_and_an_erasure_makes_it_nobodys() {
    let mut shop = Shop::new(2).await;
    shop.config.privacy.pseudonymization = Pseudonymization::PerCustomerSalt;
    let a = Running::start(shop.replica()).await.ready().await;
    let b = Running::start(shop.replica()).await.ready().await;
    let customers: Vec<String> = (0..20).map(|n| format!("customer-{n}")).collect();
    let views = |product: &str| -> Vec<Value> {
        let view = |customer: &String| event(customer, product, "view");
        customers.iter().map(view).collect()
    };
    let (first, second) = (views("cup"), views("mug"));
    tokio::join!(send(&a, &first), send(&b, &second));
    for replica in [&a, &b] {
        replica.learned(40).await;
        for customer in &customers {
            assert_eq!(known(replica, customer).await, ["cup", "mug"], "{customer}");
        }
    }
    let events = shop.records(&shop.config.topics.events).await;
    let mut names: Vec<&[u8]> = events.iter().map(|(key, _)| &key[..]).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((events.len(), names.len()), (40, 20));
    let clear = |value: &Option<Vec<u8>>| contains(value.as_deref().unwrap_or_default(), "customer-");
    assert!(names.iter().all(|name| name.starts_with(b"pseudonym:")));
    assert!(!events.iter().any(|(_, value)| clear(value)));
    // Another producer's records are taken as they are, and reported.
    let plain = event("someone-else", "cup", "view").to_string();
    shop.put(None, "someone-else", plain.as_bytes()).await;
    a.learned(41).await;
    assert_eq!(known(&a, "someone-else").await, ["cup"]);
    assert!(
        a.status().await["notes"]
            .to_string()
            .contains("plain customer ids")
    );

    let own = token("customer-7", &[]);
    let answer = b
        .call(Method::DELETE, "/v1/customers/customer-7", Some(&own), None)
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    for replica in [&a, &b] {
        eventually("the erasure", async || {
            known(replica, "customer-7").await.is_empty()
        })
        .await;
    }
    let salts = shop.records(&shop.config.topics.salts).await;
    assert_eq!(
        salts.iter().filter(|(_, value)| value.is_none()).count(),
        1,
        "a tombstone"
    );
    // To the other replica, which has read by now that the pseudonym is nobody's.
    send(&a, &[event("customer-7", "plate", "view")]).await;
    for replica in [&a, &b] {
        eventually("the return", async || {
            known(replica, "customer-7").await == ["plate"]
        })
        .await;
    }
    a.stop().await;
    b.stop().await;
    let c = Running::start(shop.replica()).await.ready().await;
    assert_eq!(known(&c, "customer-7").await, ["plate"]);
    assert_eq!(known(&c, "customer-8").await, ["cup", "mug"]);
    c.stop().await;
}

/// What `recommender records` finds in the topics.
async fn records_of(shop: &Shop, customer: &str) -> Value {
    let folder = shop.dir.path();
    let options = shop.replica();
    let config = folder.join("records.json");
    std::fs::write(&config, serde_json::to_vec(&options.config).unwrap()).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_recommender"));
    command.args(["records", customer, "--output", "json", "--config"]);
    let output = command
        .arg(&config)
        .arg("--secrets-dir")
        .arg(folder)
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What may name the customer nowhere but in the records that the answer declared.
async fn named_nowhere(service: &Running, pipeline: &str, stored: &std::path::Path, names: &[&str]) {
    for name in names {
        eventually("snapshots without them", async || {
            files_with(stored, name).is_empty()
        })
        .await;
        eventually("Redis without them", async || {
            in_redis(pipeline, name).await.is_empty()
        })
        .await;
        for path in ["/metrics", "/status"] {
            assert!(!service.internal(path).await.text.contains(name), "{path}");
        }
        let log = logged();
        let told = log
            .lines()
            .filter(|line| line.contains(name) && line.contains(" recommender"));
        assert_eq!(told.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn neither_id_nor_pseudonym_of_an_erased_customer_stays_beyond_the_records_that_were_declared() {
    const UMA: &str = "uma-the-erased";
    logged();
    let mut shop = Shop::new(2).await.with_redis(&redis());
    let stored = tempfile::tempdir().unwrap();
    shop.config.privacy.pseudonymization = Pseudonymization::PerCustomerSalt;
    shop.config.model.exploration = 0.0;
    if let Some(redis) = &mut shop.config.redis {
        redis.ttl = HumanDuration::from_secs(600);
    }
    shop.config.snapshots = snapshots_in(stored.path());
    let pipeline = shop.config.pipeline.clone();
    let a = Running::start(shop.replica()).await.ready().await;
    let bought = ["cup", "lamp"].map(|product| {
        let mut event = event(UMA, product, "purchase");
        event["timestamp"] = json!(1_700_000_000_000_i64);
        event
    });
    send(&a, &bought).await;
    let events = shop.records(&shop.config.topics.events).await;
    let pseudonym = String::from_utf8(events[0].0.clone()).unwrap();
    assert!(pseudonym.starts_with("pseudonym:"), "{pseudonym}");
    // What the others look at is new to her: an answer without products is no impression.
    let others =
        ["ann", "bob"].map(|customer| ["cup", "plate"].map(|product| event(customer, product, "view")));
    send(&a, others.as_flattened()).await;
    a.learned(6).await;
    recommended(&a, UMA).await;
    eventually("an answer in Redis", async || {
        !in_redis(&pipeline, UMA).await.is_empty()
    })
    .await;
    eventually("a snapshot", async || {
        !files_with(stored.path(), &pseudonym).is_empty()
    })
    .await;
    let impressions = shop.config.topics.impressions.clone();
    eventually("an impression", async || {
        let shown = shop.records(&impressions).await;
        shown.iter().any(|(key, _)| contains(key, &pseudonym))
    })
    .await;

    // Whoever has the key finds all of her records by her id.
    let found = records_of(&shop, UMA).await;
    assert_eq!(found["customer_ids"], json!([pseudonym, UMA]));
    let places = |topic: &str| {
        let records = found["records"].as_array().unwrap().iter();
        let of_topic = records.filter(|record| record["place"].as_str().unwrap().starts_with(topic));
        of_topic.cloned().collect::<Vec<_>>()
    };
    let (bought, shown) = (
        places(&shop.config.topics.events),
        places(&shop.config.topics.impressions),
    );
    assert_eq!((bought.len(), shown.is_empty()), (2, false), "{found}");
    assert_eq!(bought[0]["record"]["product_id"], "cup");

    let (path, own) = (format!("/v1/customers/{UMA}"), token(UMA, &[]));
    let answer = a.call(Method::DELETE, &path, Some(&own), None).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let declared = answer.json()["remains"].to_string();
    let names = [UMA, &pseudonym];
    eventually("the erasure", async || known(&a, UMA).await.is_empty()).await;
    named_nowhere(&a, &pipeline, stored.path(), &names).await;
    a.stop().await;
    let b = Running::start(shop.replica()).await.ready().await;
    named_nowhere(&b, &pipeline, stored.path(), &names).await;
    assert_eq!(b.status().await["model"]["customers"], 2);
    b.stop().await;
    std::fs::remove_dir_all(stored.path()).unwrap();
    let c = Running::start(shop.replica()).await.ready().await;
    eventually("a snapshot of what was read anew", async || {
        !files_with(stored.path(), "pseudonym:").is_empty()
    })
    .await;
    named_nowhere(&c, &pipeline, stored.path(), &names).await;
    c.stop().await;

    // Without the salt the same key finds none of them, though they stand there.
    let found = records_of(&shop, UMA).await;
    assert_eq!(found, json!({"customer_ids": [UMA], "records": []}));

    // Topics: the pseudonym where the answer says so, the id nowhere at all.
    let topics = &shop.config.topics;
    for (topic, keeps) in [
        (&topics.events, true),
        (&topics.impressions, true),
        (&topics.profiles, false),
        (&topics.erasures, false),
        (&topics.dead_letter, false),
    ] {
        let records = shop.records(topic).await;
        let has = |name: &str| {
            records.iter().any(|(key, value)| {
                contains(key, name) || contains(value.as_deref().unwrap_or_default(), name)
            })
        };
        assert!(!has(UMA), "{topic}");
        assert_eq!(has(&pseudonym), keeps, "{topic}");
        assert!(!keeps || declared.contains(topic.as_str()), "{declared}");
    }
}
