//! Who refuses, and who has not agreed.

use recommendation_api::pipeline::serving::Consent;
use recommender::service::embedded_state_dir;
use reqwest::Method;
use serde_json::json;

use super::{config, export, knows, put_profile, start};
use crate::support::{Running, event, eventually, files_with, send, token};

#[tokio::test]
async fn whoever_refuses_gets_what_is_popular_and_leaves_no_trace_until_they_agree() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let state = embedded_state_dir(&dir.path().join("shop.db"));
    let service = start(&config, dir.path()).await;
    send(
        &service,
        &[event("ann", "cup", "view"), event("bob", "mug", "purchase")],
    )
    .await;
    service.learned(2).await;
    let fallback = async |service: &Running| {
        let path = "/v1/recommendations/ann?explain=true";
        let answer = service
            .call(Method::GET, path, Some(&token("ann", &[])), None)
            .await;
        answer.json()["fallback"].as_str().unwrap().to_owned()
    };
    put_profile(&service, "ann", json!({"consent": false})).await;
    eventually("the refusal", async || fallback(&service).await == "consent").await;
    eventually("its effect", async || knows(&service, "ann", &[]).await).await;
    let rows = || -> i64 {
        let database = rusqlite::Connection::open(dir.path().join("shop.db")).unwrap();
        database
            .query_row("SELECT COUNT(*) FROM events", [], |row| row.get(0))
            .unwrap()
    };
    let before = rows();
    send(
        &service,
        &[event("ann", "plate", "view"), event("bob", "pot", "view")],
    )
    .await;
    service.learned(3).await;
    assert_eq!(rows(), before + 1, "acknowledged, and not written");
    put_profile(&service, "ann", json!({"consent": true})).await;
    eventually("the consent", async || fallback(&service).await != "consent").await;
    send(&service, &[event("ann", "lamp", "view")]).await;
    eventually("what follows it", async || {
        knows(&service, "ann", &["lamp"]).await
    })
    .await;
    service.stop().await;
    std::fs::remove_dir_all(&state).unwrap();
    let service = start(&config, dir.path()).await;
    assert!(
        knows(&service, "ann", &["lamp"]).await,
        "what came before the refusal stays forgotten"
    );
    service.stop().await;
}

#[tokio::test]
async fn with_opt_in_nobody_is_tracked_who_has_not_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    // A snapshot of the time before knows ann, who has agreed, and bob, who was never asked.
    let service = start(&config, dir.path()).await;
    put_profile(&service, "ann", json!({"consent": true})).await;
    send(
        &service,
        &[event("ann", "cup", "view"), event("bob", "mug", "view")],
    )
    .await;
    service.learned(2).await;
    let state = embedded_state_dir(&dir.path().join("shop.db"));
    eventually("a snapshot", async || !files_with(&state, "bob").is_empty()).await;
    service.stop().await;
    config.privacy.consent = Consent::OptIn;
    let service = start(&config, dir.path()).await;
    eventually("bob to be forgotten", async || knows(&service, "bob", &[]).await).await;
    assert!(knows(&service, "ann", &["cup"]).await);
    send(
        &service,
        &[event("bob", "pot", "view"), event("ann", "plate", "view")],
    )
    .await;
    eventually("what ann does", async || {
        knows(&service, "ann", &["cup", "plate"]).await
    })
    .await;
    assert!(knows(&service, "bob", &[]).await);
    let answer = export(&service, "bob").await;
    assert_eq!(answer["consent"], json!({"personalised": false}));
    service.stop().await;
}
