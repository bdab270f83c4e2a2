//! The tables that say which test shows what: of every field of the resource, and of every behaviour of ksqlDB that a
//! declarative client must handle. A line without a test fails, and so does a test that is not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kube::CustomResourceExt as _;
use recommendation_api::RecommendationPipeline;
use serde_json::Value;

/// Types of Kubernetes' own are one field each here.
const FOREIGN: [&str; 4] = [
    "resources",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
];

/// The text of a file of this crate.
fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of a table's rows, without its head.
fn rows(file: &str) -> Vec<Vec<String>> {
    let text = read(file);
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The body of the test `file::name`, helpers of its file included; panics when there is no such test.
fn test(name: &str) -> String {
    let (file, function) = name
        .split_once("::")
        .unwrap_or_else(|| panic!("{name} is no `file::test`"));
    let text = read(file);
    let at = text
        .find(&format!("fn {function}("))
        .unwrap_or_else(|| panic!("there is no test {name}"));
    let before: Vec<&str> = text[..at].lines().rev().take(3).collect();
    assert!(
        before
            .iter()
            .any(|line| line.trim().starts_with("#[test]") || line.trim().starts_with("#[tokio::test")),
        "{name} is no test"
    );
    assert!(
        !before.iter().any(|line| line.contains("#[ignore")),
        "{name} does not run"
    );
    text
}

fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let items = &schema["items"];
    let (inner, path) = match items["properties"].is_object() {
        true => (items, format!("{path}[]")),
        false => (schema, path.to_owned()),
    };
    let name = path.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
    match inner["properties"].as_object() {
        Some(fields) if !FOREIGN.contains(&name) => {
            for (field, schema) in fields {
                let path = if path.is_empty() {
                    field.clone()
                } else {
                    format!("{path}.{field}")
                };
                leaves(schema, &path, found);
            }
        }
        _ => {
            found.insert(path.trim_end_matches("[]").to_owned());
        }
    }
}

#[test]
fn every_field_of_the_resource_has_a_test_that_names_it() {
    let crd = serde_json::to_value(RecommendationPipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    leaves(schema, "", &mut fields);
    assert!(fields.len() > 100, "{}", fields.len());
    let table: BTreeMap<String, String> = rows("tests/fields.md")
        .iter()
        .map(|row| (quoted(&row[0])[0].to_owned(), row[1].clone()))
        .collect();
    let untested: Vec<&String> = fields
        .iter()
        .filter(|field| !table.contains_key(*field))
        .collect();
    assert!(untested.is_empty(), "no row in tests/fields.md: {untested:?}");
    for (field, tests) in &table {
        assert!(fields.contains(field), "{field} is no field any more");
        let tests = quoted(tests);
        assert!(!tests.is_empty(), "{field} has no test");
        let name = field.rsplit('.').next().unwrap_or(field);
        for name_of_test in tests {
            // As a key of YAML or JSON, or as the last part of a path.
            let text = test(name_of_test);
            let named = text
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| word == name);
            assert!(named, "{name_of_test} does not name {name} of {field}");
        }
    }
}

#[test]
fn every_behaviour_of_ksqldb_has_a_test() {
    let table = rows("tests/ksqldb/behaviours.md");
    let numbers: Vec<String> = table.iter().map(|row| row[0].clone()).collect();
    let all: Vec<String> = (1..=23).map(|number| number.to_string()).collect();
    assert_eq!(numbers, all);
    for row in &table {
        let tests = quoted(row.last().unwrap());
        assert!(!tests.is_empty(), "{row:?}");
        for name in tests {
            test(name);
        }
    }
}
