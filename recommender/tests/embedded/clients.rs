//! The examples for shops that are written in Python or Node.js, run as they stand against a service.

use std::path::Path;

use recommendation_api::config::RecommenderConfig;
use reqwest::Method;

use crate::embedded;
use crate::support::{Running, eventually, token};

/// Runs an example against a new service, and looks at what it did there.
async fn run(program: &str, example: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RecommenderConfig::default();
    config.model.exploration = 0.0;
    let service = Running::start(embedded(dir.path(), config)).await.ready().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(example);
    let scopes = ["events:write", "catalog:write", "recommendations:read"];
    let ran = tokio::process::Command::new(program)
        .arg(script)
        .env("RECOMMENDER_URL", format!("http://{}", service.public))
        .env("RECOMMENDER_TOKEN", token("my-shop", &scopes))
        .output()
        .await
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("Blue mug: ") && said.contains("Red mug"), "{said}");
    // Seven events, and the click that names the answer it followed.
    service.learned(8).await;
    let analyst = token("analyst", &["insights:read"]);
    eventually("the answer's click", async || {
        let figures = service
            .call(Method::GET, "/v1/insights", Some(&analyst), None)
            .await;
        figures.json()["experiments"][0]["arms"][0]["clicked_answers"] == 1
    })
    .await;
    // What is refused is told with the field at fault.
    let refused = tokio::process::Command::new(program)
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../examples")
                .join(example),
        )
        .env("RECOMMENDER_URL", format!("http://{}", service.public))
        .env("RECOMMENDER_TOKEN", token("my-shop", &["recommendations:read"]))
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && told.contains("403") && told.contains("catalog:write"),
        "{told}"
    );
    service.stop().await;
}

#[tokio::test]
async fn the_client_in_python_does_what_it_says() {
    run("python3", "python/shop.py").await;
}

#[tokio::test]
async fn the_client_in_node_does_what_it_says() {
    run("node", "node/shop.mjs").await;
}
