use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::Opts;

use super::*;

fn cache(ttl: Duration) -> AnswerCache {
    let requests = IntCounterVec::new(Opts::new("requests", "requests"), &["result"]).unwrap();
    AnswerCache::new(ttl, None, &requests)
}

fn key(revision: u64) -> Key {
    let mut key = KeyBuilder::new("test");
    key.number(revision);
    key.finish()
}

fn body(text: &str) -> Result<Body, Infallible> {
    Ok(
        Body::new(format!(r#"{{"recommendation_id":"{}","n":"{text}"}}"#, stored::NO_ID).into_bytes())
            .unwrap(),
    )
}

fn text(stored: &Stored) -> String {
    let json: serde_json::Value =
        serde_json::from_slice(&stored.body.with_id(&uuid::Uuid::new_v4())).unwrap();
    json["n"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_is_computed_once_and_another_revision_computes_its_own() {
    let cache = cache(Duration::from_secs(30));
    for (revision, expected) in [(1, "before"), (1, "before"), (2, "after"), (1, "before")] {
        let computed = if revision == 1 { "before" } else { "after" };
        let found = cache
            .answer(&key(revision), Keep::Yes, || body(computed))
            .await
            .unwrap();
        assert_eq!(text(&found), expected);
    }
    assert_eq!((cache.found.local.get(), cache.found.miss.get()), (2, 2));
}

#[tokio::test]
async fn what_may_not_be_kept_is_not_found_again() {
    let cache = cache(Duration::from_secs(30));
    for n in ["1", "2"] {
        let found = cache.answer(&key(1), Keep::No, || body(n)).await.unwrap();
        assert_eq!(text(&found), n);
    }
    cache.answer(&key(1), Keep::Yes, || body("3")).await.unwrap();
    let found = cache.answer(&key(1), Keep::No, || body("4")).await.unwrap();
    assert_eq!(text(&found), "3", "what others kept is good enough");
}

#[tokio::test]
async fn an_answer_past_its_time_is_computed_again() {
    let cache = cache(Duration::from_millis(30));
    cache.answer(&key(1), Keep::Yes, || body("old")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let found = cache.answer(&key(1), Keep::Yes, || body("new")).await.unwrap();
    assert_eq!(text(&found), "new");
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let cache = cache(Duration::from_secs(30));
    assert!(cache.answer(&key(1), Keep::Yes, || Err("no")).await.is_err());
    let found = cache.answer(&key(1), Keep::Yes, || body("yes")).await.unwrap();
    assert_eq!(text(&found), "yes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stampede_computes_one_answer() {
    let (cache, computed) = (
        Arc::new(cache(Duration::from_secs(30))),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (cache, computed) = (Arc::clone(&cache), Arc::clone(&computed));
        requests.spawn(async move {
            let key = key(1);
            let answer = cache.answer(&key, Keep::Yes, || {
                computed.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
                body("once")
            });
            text(&answer.await.unwrap())
        });
    }
    assert!(requests.join_all().await.iter().all(|text| text == "once"));
    assert_eq!(computed.load(Ordering::Relaxed), 1);
}
