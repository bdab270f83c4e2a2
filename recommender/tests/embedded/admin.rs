//! The internal port, configuration while running, and the end.

use std::time::{Duration, Instant};

use recommendation_api::config::RecommenderConfig;
use recommendation_api::report::{DependencyState, Phase, StatusReport};
use reqwest::Method;
use serde_json::json;

use crate::embedded;
use crate::support::{Running, eventually, token};

#[tokio::test]
async fn an_empty_shop_is_ready_fresh_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let report: StatusReport = serde_json::from_value(service.status().await).unwrap();
    assert_eq!(
        (report.phase, report.lag_records, report.events),
        (Phase::Serving, 0, 0)
    );
    assert_eq!(
        (report.log, report.redis),
        (DependencyState::Up, DependencyState::Disabled)
    );
    assert_eq!(report.notes, Vec::<String>::new());
    for path in ["/healthz", "/startupz", "/readyz"] {
        assert_eq!(service.internal(path).await.status, 200, "{path}");
    }
    let metrics = service.internal("/metrics").await.text;
    for name in [
        "recommender_ready 1",
        "recommender_lag_records 0",
        "recommender_build_info{",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    service.stop().await;
}

#[tokio::test]
async fn every_route_of_the_internal_port_answers_there_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let routes = [
        ("/healthz", "text/plain"),
        ("/startupz", "text/plain"),
        ("/readyz", "text/plain"),
        ("/status", "application/json"),
        ("/metrics", "text/plain"),
        ("/loglevel", "text/plain"),
        ("/", "text/html"),
    ];
    for (path, kind) in routes {
        let inside = service.internal(path).await;
        let found = inside.headers["content-type"].to_str().unwrap();
        assert!(inside.status == 200 && found.starts_with(kind), "{path}: {found}");
        assert_eq!(service.get(path).await.status, 404, "{path} is public");
    }
    // Nor does the internal port answer for the shop.
    for path in ["/v1/trending", "/api/resource", "/nothing"] {
        assert_eq!(service.internal(path).await.status, 404, "{path}");
    }
    service.stop().await;
}

#[tokio::test]
async fn the_log_filter_can_be_changed_and_a_bad_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let put = async |filter: &'static str| {
        let request = service
            .client
            .request(Method::PUT, format!("http://{}/loglevel", service.internal));
        request.body(filter).send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("warn,recommender::http=debug").await, 200);
    assert_eq!(
        service.internal("/loglevel").await.text.trim(),
        "warn,recommender::http=debug"
    );
    assert_eq!(put("a=b=c").await, 400);
    service.stop().await;
}

#[tokio::test]
async fn rate_limits_and_rules_are_taken_up_from_the_file_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, "{}").unwrap();
    let mut options = embedded(dir.path(), RecommenderConfig::default());
    options.config_file = Some(file.clone());
    let service = Running::start(options).await.ready().await;
    let writer = token("shop", &["catalog:write"]);
    service
        .call(
            Method::PUT,
            "/v1/products/pinned",
            Some(&writer),
            Some(&json!({"title": "Pinned"})),
        )
        .await;
    // A mistake first: it must leave everything as it was.
    std::fs::write(&file, r#"{"rateLimits":{"resourcePerMinute":"many"}}"#).unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(service.get("/api/resource").await.headers["ratelimit-limit"], "5");
    std::fs::write(
        &file,
        r#"{"rateLimits":{"resourcePerMinute":7},"rules":{"pin":["pinned"]}}"#,
    )
    .unwrap();
    eventually("the new limit", || async {
        service.get("/api/resource").await.headers["ratelimit-limit"] == "7"
    })
    .await;
    eventually("the pinned product", || async {
        let path = "/v1/recommendations/ann";
        let answer = service
            .call(Method::GET, path, Some(&token("ann", &[])), None)
            .await
            .json();
        answer["items"][0]["product_id"] == "pinned" && answer["items"][0]["reason"]["kind"] == "pinned"
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn at_the_end_it_is_not_ready_at_once_but_serves_on_while_it_drains() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = embedded(dir.path(), RecommenderConfig::default());
    options.drain = Duration::from_secs(5);
    let service = Running::start(options).await.ready().await;
    let started = Instant::now();
    service.end();
    eventually("not ready", || async {
        service.internal("/readyz").await.status == 503
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(service.get("/v1/trending").await.status, 200);
    service.stop().await;
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn http2_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let response = client
        .get(format!("http://{}/v1/trending", service.public))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (reqwest::Version::HTTP_2, 200)
    );
    service.stop().await;
}
