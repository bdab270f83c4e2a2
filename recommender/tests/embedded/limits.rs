//! Rate limits, authentication, errors.

use recommendation_api::config::RecommenderConfig;
use recommender::http::users::hash_password;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::json;

use crate::embedded;
use crate::support::{Running, eventually, token};

#[tokio::test]
async fn the_sixth_request_in_a_minute_is_refused_with_its_headers() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    for left in (0..5).rev() {
        let answer = service.get("/api/resource").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "This is a rate-limited resource.")
        );
        assert_eq!(answer.headers["ratelimit-remaining"], left.to_string());
    }
    let refused = service.get("/api/resource").await;
    assert_eq!(refused.status, 429);
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((30..=60).contains(&seconds), "{seconds}");
    assert_eq!(refused.headers["ratelimit-limit"], "5");
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    service.stop().await;
}

#[tokio::test]
async fn a_caller_behind_an_untrusted_proxy_cannot_escape_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let mut statuses = Vec::new();
    for i in 0..6 {
        let request = service
            .client
            .get(format!("http://{}/api/resource", service.public));
        let response = request
            .header("x-forwarded-for", format!("203.0.113.{i}"))
            .send()
            .await
            .unwrap();
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    service.stop().await;

    let mut config = RecommenderConfig::default();
    config.http.trusted_proxies = vec!["127.0.0.0/8".into()];
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    for i in 0..6 {
        let request = service
            .client
            .get(format!("http://{}/api/resource", service.public));
        let response = request
            .header("x-forwarded-for", format!("203.0.113.{i}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
    service.stop().await;
}

#[tokio::test]
async fn customers_see_their_own_recommendations_only() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    let get = async |token: Option<&str>| {
        service
            .call(Method::GET, "/v1/recommendations/ann", token, None)
            .await
    };
    assert_eq!(get(None).await.status, 401);
    assert_eq!(get(Some(&token("ann", &[]))).await.status, 200);
    assert_eq!(get(Some(&token("bob", &[]))).await.status, 403);
    assert_eq!(
        get(Some(&token("bob", &["recommendations:read"]))).await.status,
        200
    );
    let forged = get(Some("forged")).await;
    assert_eq!(
        (forged.status.as_u16(), &forged.json()["detail"]),
        (401, &json!("Invalid token"))
    );
    assert_eq!(forged.headers["www-authenticate"], "Bearer");
    for (method, path) in [(Method::POST, "/v1/events"), (Method::PUT, "/v1/products/p")] {
        let no_scope = service
            .call(method.clone(), path, Some(&token("ann", &[])), Some(&json!({})))
            .await;
        assert_eq!(no_scope.status, 403, "{path}");
        assert_eq!(
            service.call(method, path, None, Some(&json!({}))).await.status,
            401,
            "{path}"
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn users_sign_in_and_their_token_verifies() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("users")).unwrap();
    let hash = hash_password(&SecretString::from("s3cret")).unwrap();
    let user = json!({"passwordHash": hash, "customerId": "17850", "scopes": ["events:write"]});
    std::fs::write(dir.path().join("users/ann"), user.to_string()).unwrap();
    let mut config = RecommenderConfig::default();
    config.auth.users_dir = Some("users".into());
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let sign_in = async |name: &str, password: &str| {
        let body = json!({"username": name, "password": password});
        service.call(Method::POST, "/auth/token", None, Some(&body)).await
    };
    let answer = sign_in("ann", "s3cret").await.json();
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    let token = answer["token"].as_str().unwrap();
    let verified = service
        .call(Method::GET, "/auth/verify", Some(token), None)
        .await
        .json();
    assert_eq!(
        (&verified["user_id"], &verified["scopes"]),
        (&json!("17850"), &json!(["events:write"]))
    );
    for (name, password) in [("ann", "wrong"), ("nobody", "s3cret"), ("../jwt", "x")] {
        assert_eq!(sign_in(name, password).await.status, 401);
    }
    assert_eq!(
        service.call(Method::GET, "/auth/verify", None, None).await.status,
        401
    );
    service.stop().await;
}

#[tokio::test]
async fn unknown_routes_and_methods_answer_problems() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::start(embedded(dir.path(), RecommenderConfig::default()))
        .await
        .ready()
        .await;
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::DELETE, "/v1/trending", 405),
        (Method::GET, "/metrics", 404),
        (Method::GET, "/v1/products/%ff", 400),
        (Method::GET, "/v1/products/%00", 400),
    ] {
        let answer = service.call(method, path, None, None).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(
            answer.headers["x-request-id"],
            answer.json()["request_id"].as_str().unwrap()
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn browsers_of_configured_origins_only_may_read_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecommenderConfig::default();
    config.http.cors_origins = vec!["https://shop.example".into()];
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let allowed = async |origin: &str| {
        let request = service
            .client
            .get(format!("http://{}/v1/trending", service.public));
        let response = request.header("origin", origin).send().await.unwrap();
        response
            .headers()
            .get("access-control-allow-origin")
            .map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(
        allowed("https://shop.example").await.as_deref(),
        Some("https://shop.example")
    );
    assert_eq!(allowed("https://evil.example").await, None);
    service.stop().await;
}

#[tokio::test]
async fn all_other_routes_share_the_callers_rate() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecommenderConfig::default();
    config.rate_limits.requests_per_second = 3;
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let mut refused = 0;
    // More than a slow machine can spread over enough seconds for all of them to pass.
    for _ in 0..60 {
        refused += u32::from(service.get("/v1/trending").await.status == 429);
    }
    assert!(refused >= 2, "{refused}");
    eventually("the bucket to fill again", || async {
        service.get("/v1/trending").await.status == 200
    })
    .await;
    service.stop().await;
}
