//! What an erased, a refusing and a returning customer leaves, and where: in embedded mode.

use std::path::Path;

use recommendation_api::HumanDuration;
use recommendation_api::config::RecommenderConfig;
use recommendation_api::pipeline::serving::Pseudonymization;
use recommender::service::embedded_state_dir;
use reqwest::Method;
use serde_json::{Value, json};

use crate::embedded;
use crate::support::{Running, event, eventually, files_with, logged, send, snapshots_in, token};

mod consent;

fn config(dir: &Path) -> RecommenderConfig {
    let mut config = RecommenderConfig::default();
    config.model.exploration = 0.0;
    config.snapshots = snapshots_in(&embedded_state_dir(&dir.join("shop.db")));
    config
}

async fn start(config: &RecommenderConfig, dir: &Path) -> Running {
    Running::start(embedded(dir, config.clone())).await.ready().await
}

async fn export(service: &Running, customer: &str) -> Value {
    let path = format!("/v1/customers/{customer}");
    let token = token(customer, &[]);
    let answer = service.call(Method::GET, &path, Some(&token), None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn knows(service: &Running, customer: &str, products: &[&str]) -> bool {
    let export = export(service, customer).await;
    let history = export["history"].as_array().unwrap().clone();
    let mut known: Vec<&str> = history
        .iter()
        .map(|it| it["product_id"].as_str().unwrap())
        .collect();
    known.sort_unstable();
    known == products
}

async fn put_profile(service: &Running, customer: &str, profile: Value) {
    let path = format!("/v1/customers/{customer}/profile");
    let answer = service
        .call(Method::PUT, &path, Some(&token(customer, &[])), Some(&profile))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

async fn erase(service: &Running, customer: &str) -> Value {
    let path = format!("/v1/customers/{customer}");
    let answer = service
        .call(Method::DELETE, &path, Some(&token(customer, &[])), None)
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()
}

async fn similar(service: &Running, product: &str) -> Vec<String> {
    let answer = service.get(&format!("/v1/products/{product}/similar")).await;
    let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .map(|it| it["product_id"].as_str().unwrap().to_owned())
        .collect()
}

const ERASED: &str = "zoe-the-erased";

/// Two others bought cup and saucer; only the erased customer links the cup with the lamp.
async fn shop_with_one_to_erase(service: &Running) {
    let mut events = Vec::new();
    for customer in ["ann", "bob"] {
        events.extend([
            event(customer, "cup", "purchase"),
            event(customer, "saucer", "purchase"),
        ]);
    }
    events.extend([
        event(ERASED, "cup", "purchase"),
        event(ERASED, "lamp", "purchase"),
    ]);
    send(service, &events).await;
    put_profile(
        service,
        ERASED,
        json!({"email": "zoe@example.com", "attributes": {"skin": "dry"}}),
    )
    .await;
    service.learned(6).await;
    eventually("the neighbours", async || {
        similar(service, "cup").await.contains(&"lamp".to_owned())
    })
    .await;
    eventually("the profile", async || {
        export(service, ERASED).await["profile"]["email"] == "zoe@example.com"
    })
    .await;
}

/// Nothing that the service shows leads to the erased customer or their link between products.
async fn leads_nowhere(service: &Running) {
    assert_eq!(
        similar(service, "cup").await.first().map(String::as_str),
        Some("saucer")
    );
    assert!(!similar(service, "cup").await.contains(&"lamp".to_owned()));
    let export = export(service, ERASED).await;
    assert_eq!(export["history"], json!([]));
    assert_eq!(export["profile"], Value::Null);
    assert_eq!(export["derived"]["recommendations"], json!([]));
    let since: jiff::Timestamp = export["shown_since"].as_str().unwrap().parse().unwrap();
    let back = jiff::Timestamp::now().duration_since(since);
    assert_eq!(
        back.as_hours(),
        8 * 24,
        "what is shown of it goes back eight days: {export}"
    );
    assert_eq!(
        service.status().await["model"]["customers"],
        2,
        "{}",
        service.status().await
    );
    for path in ["/metrics", "/status"] {
        assert!(!service.internal(path).await.text.contains(ERASED));
    }
}

#[tokio::test]
async fn an_erased_customer_is_gone_at_once_after_a_restart_from_the_log_and_from_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let state = embedded_state_dir(&dir.path().join("shop.db"));
    logged();
    let service = start(&config, dir.path()).await;
    shop_with_one_to_erase(&service).await;
    let shown = format!("/v1/recommendations/{ERASED}");
    service
        .call(Method::GET, &shown, Some(&token(ERASED, &[])), None)
        .await;
    eventually("an impression", async || {
        let database = rusqlite::Connection::open(dir.path().join("shop.db")).unwrap();
        let sql = "SELECT COUNT(*) FROM impressions WHERE customer_id = ?1";
        database
            .query_row(sql, [ERASED], |row| row.get::<_, i64>(0))
            .unwrap()
            == 1
    })
    .await;
    eventually("a snapshot that knows them", async || {
        !files_with(&state, ERASED).is_empty()
    })
    .await;
    let answer = erase(&service, ERASED).await;
    assert_eq!(
        (&answer["customer_id"], &answer["aliases"]),
        (&json!(ERASED), &json!([]))
    );
    assert_eq!(answer["remains"][0]["place"], "events");
    assert!(
        answer["later"].as_array().unwrap().len() == 2 && answer["at_once"].as_array().unwrap().len() == 4
    );
    let asked = std::time::Instant::now();
    eventually("the erasure", async || knows(&service, ERASED, &[]).await).await;
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    eventually("the lists", async || {
        !similar(&service, "cup").await.contains(&"lamp".to_owned())
    })
    .await;
    leads_nowhere(&service).await;
    eventually("snapshots without them", async || {
        files_with(&state, ERASED).is_empty()
    })
    .await;
    service.stop().await;

    // From a snapshot.
    let service = start(&config, dir.path()).await;
    leads_nowhere(&service).await;
    service.stop().await;
    // From the log alone.
    std::fs::remove_dir_all(&state).unwrap();
    let service = start(&config, dir.path()).await;
    leads_nowhere(&service).await;
    // They may come back, and are known from then on, also after another restart.
    send(&service, &[event(ERASED, "plate", "purchase")]).await;
    eventually("the return", async || knows(&service, ERASED, &["plate"]).await).await;
    service.stop().await;
    std::fs::remove_dir_all(&state).unwrap();
    let service = start(&config, dir.path()).await;
    assert!(knows(&service, ERASED, &["plate"]).await);
    service.stop().await;
    let log = logged();
    assert!(log.contains("erasures applied"), "services log");
    // Their own requests, by path, are the client's log and not the service's.
    let lines = log
        .lines()
        .filter(|line| line.contains(ERASED) && line.contains("recommender"));
    assert_eq!(lines.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_snapshot_from_before_an_erasure_is_brought_up_to_date_when_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let service = start(&config, dir.path()).await;
    shop_with_one_to_erase(&service).await;
    let state = embedded_state_dir(&dir.path().join("shop.db"));
    eventually("a snapshot", async || !files_with(&state, ERASED).is_empty()).await;
    service.stop().await;
    // No further snapshot is written.
    if let Some(snapshots) = &mut config.snapshots {
        snapshots.interval = HumanDuration::from_secs(3_600);
    }
    let service = start(&config, dir.path()).await;
    erase(&service, ERASED).await;
    eventually("the erasure", async || knows(&service, ERASED, &[]).await).await;
    service.stop().await;
    assert!(
        !files_with(&state, ERASED).is_empty(),
        "the old snapshot is still there"
    );
    let service = start(&config, dir.path()).await;
    eventually("the lists", async || {
        !similar(&service, "cup").await.contains(&"lamp".to_owned())
    })
    .await;
    leads_nowhere(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn a_visit_is_folded_into_its_customer_and_erased_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let state = embedded_state_dir(&dir.path().join("shop.db"));
    let service = start(&config, dir.path()).await;
    send(
        &service,
        &[event("session:v1", "cup", "view"), event("ann", "mug", "view")],
    )
    .await;
    service.learned(2).await;
    let ann = token("ann", &[]);
    let fold = async |service: &Running, whose: &str, body: Value, token: &str| {
        let path = format!("/v1/customers/{whose}/aliases");
        service.call(Method::POST, &path, Some(token), Some(&body)).await
    };
    let answer = fold(&service, "ann", json!({"session_id": "v1"}), &ann).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["alias"]),
        (202, &json!("session:v1"))
    );
    eventually("the fold", async || knows(&service, "ann", &["cup", "mug"]).await).await;
    // What is done in the visit later counts too; and nobody else can have it.
    send(&service, &[event("session:v1", "plate", "view")]).await;
    eventually("later events", async || {
        knows(&service, "ann", &["cup", "mug", "plate"]).await
    })
    .await;
    let other = fold(&service, "bob", json!({"session_id": "v1"}), &token("bob", &[])).await;
    assert_eq!(other.status, 409, "{}", other.text);
    let own = fold(
        &service,
        "ann",
        json!({"alias": "ann"}),
        &token("shop", &["events:write"]),
    )
    .await;
    assert_eq!(own.status, 400, "{}", own.text);
    service.stop().await;
    std::fs::remove_dir_all(&state).unwrap();
    let service = start(&config, dir.path()).await;
    assert!(
        knows(&service, "ann", &["cup", "mug", "plate"]).await,
        "from the log too"
    );
    let answer = erase(&service, "ann").await;
    assert_eq!(answer["aliases"], json!(["session:v1"]));
    eventually("the erasure", async || knows(&service, "ann", &[]).await).await;
    service.stop().await;
    std::fs::remove_dir_all(&state).unwrap();
    let service = start(&config, dir.path()).await;
    assert!(knows(&service, "ann", &[]).await);
    assert_eq!(service.status().await["model"]["customers"], 0);
    service.stop().await;
}

#[tokio::test]
async fn with_salts_the_log_knows_nobody_by_id_and_after_an_erasure_nobody_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.privacy.pseudonymization = Pseudonymization::PerCustomerSalt;
    let state = embedded_state_dir(&dir.path().join("shop.db"));
    let service = start(&config, dir.path()).await;
    shop_with_one_to_erase(&service).await;
    let mut visit = event("session:a-secret-visit", "vase", "view");
    visit["session_id"] = json!("a-secret-visit");
    send(&service, &[visit]).await;
    service.learned(7).await;
    let path = format!("/v1/customers/{ERASED}/aliases");
    let body = json!({"session_id": "a-secret-visit"});
    let own = token(ERASED, &[]);
    let folded = service.call(Method::POST, &path, Some(&own), Some(&body)).await;
    assert_eq!(folded.status, 202, "{}", folded.text);
    let all = ["cup", "lamp", "vase"];
    eventually("the visit", async || knows(&service, ERASED, &all).await).await;
    let asked = "/v1/recommendations/ann";
    let answer = service
        .call(Method::GET, asked, Some(&token("ann", &[])), None)
        .await;
    assert_eq!(
        (&answer.json()["fallback"], &answer.json()["customer_id"]),
        (&json!("personal"), &json!("ann"))
    );
    eventually("a snapshot", async || {
        !files_with(&state, "pseudonym:").is_empty()
    })
    .await;
    service.stop().await;
    let query = |sql: &str| -> Vec<String> {
        let database = rusqlite::Connection::open(dir.path().join("shop.db")).unwrap();
        let mut found = database.prepare(sql).unwrap();
        let rows = found.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(|row| String::from_utf8(row.unwrap()).unwrap()).collect()
    };
    let events = "SELECT value FROM events";
    for id in [ERASED, "ann", "bob", "a-secret-visit"] {
        let quoted = format!("\"{id}\"");
        assert!(!query(events).iter().any(|value| value.contains(&quoted)), "{id}");
        assert!(!query("SELECT CAST(customer_id AS BLOB) FROM profiles").contains(&id.to_owned()));
        assert_eq!(files_with(&state, ERASED), Vec::<String>::new());
    }
    let pseudonym = |product: &str| -> String {
        let value = query(events)
            .into_iter()
            .find(|value| value.contains(product))
            .unwrap();
        let value: Value = serde_json::from_str(&value).unwrap();
        value["customer_id"].as_str().unwrap().to_owned()
    };
    let (lamp, vase) = (pseudonym("lamp"), pseudonym("vase"));
    assert!(lamp.starts_with("pseudonym:") && vase.starts_with("pseudonym:") && lamp != vase);

    let service = start(&config, dir.path()).await;
    assert!(knows(&service, ERASED, &all).await, "after a restart too");
    erase(&service, ERASED).await;
    eventually("the erasure", async || knows(&service, ERASED, &[]).await).await;
    eventually("snapshots without them", async || {
        files_with(&state, &lamp).is_empty() && files_with(&state, &vase).is_empty()
    })
    .await;
    let salts = query("SELECT value FROM salts");
    assert_eq!(salts.len(), 2, "ann's and bob's");
    assert!(
        salts
            .iter()
            .all(|salt| !salt.contains(&lamp) && !salt.contains(&vase))
    );
    // Whoever comes back is somebody else.
    send(&service, &[event(ERASED, "plate", "view")]).await;
    eventually("the return", async || knows(&service, ERASED, &["plate"]).await).await;
    service.stop().await;
    assert_ne!(pseudonym("plate"), lamp);
    std::fs::remove_dir_all(&state).unwrap();
    let service = start(&config, dir.path()).await;
    assert!(knows(&service, ERASED, &["plate"]).await);
    assert!(
        service
            .internal("/metrics")
            .await
            .text
            .contains("recommender_events_plain_total 0")
    );
    service.stop().await;
}
