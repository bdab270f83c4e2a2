//! `plan` and `validate` as people and CI run them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use recommendation_operator::kafka::{Admin, Connection};
use serde_json::{Value, json};

use crate::harness::Harness;

/// Runs the program with this on its standard input.
fn program(args: &[&str], input: &Value) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_recommendation-operator"))
        .args(args)
        .env("KUBECONFIG", std::env::var("TEST_KUBECONFIG").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // JSON is YAML.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Runs `plan` and returns its changes and its exit code.
async fn plan(harness: &Harness, manifest: &Value) -> (Vec<Value>, i32) {
    let (namespace, manifest) = (harness.namespace.clone(), manifest.clone());
    let asked = tokio::task::spawn_blocking(move || {
        program(
            &["plan", "-n", &namespace, "--output", "json", "--exit-code"],
            &manifest,
        )
    });
    let output = asked.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (
        json["changes"].as_array().unwrap().clone(),
        output.status.code().unwrap(),
    )
}

fn of<'a>(changes: &'a [Value], action: &str) -> BTreeSet<&'a str> {
    let found = changes.iter().filter(|change| change["action"] == action);
    found.map(|change| change["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_plan_shows_everything_before_nothing_after_and_touches_neither() {
    let harness = Harness::new().await;
    let manifest = harness.manifest("shop", json!({}));
    let (before, code) = plan(&harness, &manifest).await;
    assert_eq!(code, 2, "{before:#?}");
    let kinds = of(&before, "create");
    assert!(
        kinds.contains("topic") && kinds.contains("Deployment"),
        "{kinds:?}"
    );
    let kafka = Admin::new(&Connection::plain(std::slice::from_ref(&harness.kafka))).unwrap();
    let view = kafka.observe(&BTreeSet::new()).await.unwrap();
    assert!(!view.topics.keys().any(|name| name.starts_with(&harness.prefix)));

    let operator = harness.operator().await;
    harness.apply("shop", json!({})).await.unwrap();
    harness
        .condition("shop", "TopicsReady", "True", "AsDeclared")
        .await;
    operator.settled().await;
    let (after, code) = plan(&harness, &manifest).await;
    assert_eq!(code, 0, "{after:#?}");

    let grown = harness.manifest(
        "shop",
        json!({"topics": [{"name": "customer_behavior", "partitions": 5}], "recommender": {"replicas": 3}}),
    );
    let (changed, code) = plan(&harness, &grown).await;
    assert_eq!(code, 2);
    let kinds = of(&changed, "change");
    assert_eq!(kinds, BTreeSet::from(["Deployment", "topic"]), "{changed:#?}");
    let deployment = changed
        .iter()
        .find(|change| change["kind"] == "Deployment")
        .unwrap();
    assert!(
        deployment["detail"].as_str().unwrap().contains("spec.replicas"),
        "{deployment}"
    );
    harness.end(operator).await;
}

#[tokio::test]
async fn validate_tells_by_its_exit_code_what_is_wrong_and_names_the_field() {
    let harness = Harness::new().await;
    let run = |spec: Value| {
        let output = program(&["validate", "-f", "-"], &harness.manifest("shop", spec));
        let told = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(told).unwrap())
    };
    assert_eq!(run(json!({})).0, 0);
    let twice = json!({"topics": [{"name": "a", "role": "Events"}, {"name": "b", "role": "Events"}]});
    let (code, told) = run(twice);
    assert!(code == 2 && told.contains("spec.topics[1].role"), "{code} {told}");
    let (code, told) = run(json!({"kafka": {"bootstrapServers": ["k:1"], "clusterid": "x"}}));
    assert!(
        code == 1 && told.contains("spec.kafka.clusterid"),
        "{code} {told}"
    );
    // Nothing was made: this test has no operator to end.
    drop(harness);
}
