use proptest::prelude::*;

use super::*;

fn parse_text(text: &str) -> Result<RecommenderConfig, ConfigError> {
    parse(Path::new("config.json"), text.as_bytes())
}

#[test]
fn what_waits_for_a_restart_keeps_nothing_else_from_being_taken_up() {
    let started = parse_text(
        r#"{"model":{"algorithm":"Knowledge","knowledge":[{"customerAttribute":"skin","productAttribute":"skin","effect":"Must"}]},
            "experiments":[{"name":"e","arms":[{"algorithm":"Knowledge","percent":100}]}]}"#,
    )
    .unwrap();
    let new = parse_text(r#"{"rules":{"maxPerCategory":3}}"#).unwrap();
    let running = started.with_live_part_of(&new);
    assert!(check(&running).is_err(), "rules alone, and none of them");
    assert_eq!(model::tuning(&running).unwrap().rules.max_per_category, 3);
    let live = Live::new(&running).unwrap();
    assert!(live.experiments.assign("ann").is_some(), "it goes on");
}

#[test]
fn mistakes_are_refused_and_named() {
    for (text, name) in [
        (r#"{"model":{"neighbours":5}}"#, "neighbours"),
        (r#"{"model":{"neighbors":"five"}}"#, "model.neighbors"),
        (r#"{"model":{"algorithm":"Onnx"}}"#, "Onnx answers with a model"),
        (r#"{"model":{"algorithm":"Knowledge"}}"#, "model.knowledge"),
        (
            r#"{"model":{"algorithm":"ItemKnn"},"limits":{"neighbors":0}}"#,
            "limits.neighbors above 0",
        ),
        (r#"{"model":{"diversity":2}}"#, "diversity"),
        (r#"{"limits":{"neighbors":5}}"#, "limits.neighbors"),
        (
            r#"{"experiments":[{"name":"e","arms":[{"algorithm":"Hybrid","percent":90}]}]}"#,
            "experiments: percents of \"e\"",
        ),
        (
            r#"{"model":{"retrain":{"schedule":"at night"}}}"#,
            "model.retrain.schedule",
        ),
        (r#"{"kafka":{},"model":{"algorithm":"Ease"}}"#, "snapshots"),
        (r#"{"http":{"trustedProxies":["10.0.0.0/64"]}}"#, "trustedProxies"),
        (r#"{"telemetry":{"logFilter":"a=b=c"}}"#, "logFilter"),
        ("[", "config.json"),
    ] {
        let error = parse_text(text).unwrap_err().to_string();
        assert!(error.contains(name), "{text}: {error}");
    }
    assert!(parse_text("{}").is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_a_configuration_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), part in "[a-zA-Z]{1,12}", field in "[a-zA-Z]{1,20}", number in any::<f64>(), text in "\\PC{0,40}") {
        let _ = parse(Path::new("config.json"), &bytes);
        for value in [serde_json::json!(number), serde_json::json!(text), serde_json::json!([text])] {
            for part in [part.as_str(), "model", "http", "auth", "kafka", "rules", "telemetry"] {
                let _ = parse_text(&serde_json::json!({part: {field.as_str(): value}}).to_string());
            }
            for (part, field) in [("http", "trustedProxies"), ("telemetry", "logFilter"), ("model", "halfLife"), ("model", "eventWeights")] {
                let _ = parse_text(&serde_json::json!({part: {field: value}}).to_string());
            }
        }
    }
}
