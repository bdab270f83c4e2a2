//! docs/reference/pipeline.md lists every field of the resource, as its schema describes it.

use std::fmt::Write as _;
use std::path::Path;

use kube::CustomResourceExt as _;
use recommendation_api::RecommendationPipeline;
use serde_json::Value;

const HEAD: &str = "# Every field of a RecommendationPipeline

Generated from the types: `UPDATE=1 cargo test -p recommendation-api` writes it. `kubectl explain recpipe.spec --recursive` tells
the same from the cluster. What has no *required* may be left out; nothing is stored that you did not write.

";

#[test]
fn the_reference_of_fields_is_current() {
    let crd = serde_json::to_value(RecommendationPipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut text = HEAD.to_owned();
    for part in ["spec", "status"] {
        let _ = write!(text, "## {part}\n\n| field | type | what |\n|---|---|---|\n");
        rows(&schema[part], part, &mut text);
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/pipeline.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "docs/reference/pipeline.md is not what the types say: `UPDATE=1 cargo test -p recommendation-api` writes it"
    );
}

/// Types of Kubernetes' own, whose fields are documented there.
const FOREIGN: [&str; 5] = [
    "resources",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "conditions",
];

fn rows(schema: &Value, path: &str, text: &mut String) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let items = &field["items"];
        let inner = if items.is_object() { items } else { field };
        let must = if required.contains(&name.as_str()) {
            "required. "
        } else {
            ""
        };
        let description = field["description"].as_str().unwrap_or_default();
        let description = description
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .replace('\n', " ");
        let _ = writeln!(
            text,
            "| `{path}` | {} | {must}{} |",
            type_of(field),
            description.replace('|', "\\|")
        );
        if !FOREIGN.contains(&name.as_str()) {
            let path = if items.is_object() {
                format!("{path}[]")
            } else {
                path
            };
            rows(inner, &path, text);
        }
    }
}

fn type_of(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return names.join(", ");
    }
    let mut name = match field["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    };
    match (&field["minimum"], &field["maximum"]) {
        (Value::Number(low), Value::Number(high)) => {
            let _ = write!(name, " {low} … {high}");
        }
        (Value::Number(low), _) => {
            let _ = write!(name, " from {low}");
        }
        _ => {}
    }
    name
}
