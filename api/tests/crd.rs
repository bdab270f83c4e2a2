//! `crds/` is generated: this holds it to the types (`UPDATE=1 cargo test -p recommendation-api` writes it).

use kube::CustomResourceExt;
use recommendation_api::RecommendationPipeline;

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crds/recommendationpipelines.yaml"
);

fn yaml() -> String {
    serde_saphyr::to_string(&RecommendationPipeline::crd()).expect("a CRD is plain data")
}

#[test]
fn the_crd_in_the_repository_is_current() {
    let now = format!(
        "# Generated from api/src/pipeline: `UPDATE=1 cargo test -p recommendation-api` writes it.\n{}",
        yaml()
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, &now).unwrap();
    }
    let there = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        there == now,
        "crds/ is stale: run `UPDATE=1 cargo test -p recommendation-api`"
    );
}

#[test]
fn the_crd_fits_into_kubectls_last_applied_annotation() {
    // 256 KiB is the limit of all annotations together; plain `kubectl apply` stores the whole object there.
    let json = serde_json::to_string(&RecommendationPipeline::crd()).unwrap();
    assert!(json.len() < 200_000, "{} bytes", json.len());
}

#[test]
fn nothing_that_git_says_has_a_default_in_the_schema() {
    fn walk(v: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        match v {
            serde_json::Value::Object(map) => {
                for (k, v) in map {
                    if k == "default" && path.ends_with(|c: char| c != '.') && !path.ends_with("properties") {
                        found.push(path.to_owned());
                    }
                    walk(v, &format!("{path}.{k}"), found);
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|v| walk(v, path, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let crd = serde_json::to_value(RecommendationPipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    walk(&schema["spec"], "", &mut found);
    assert!(found.is_empty(), "{found:?}");
    // What is not Git's to say has one: see `RecommendationPipelineStatus`.
    walk(&schema["status"], ".status", &mut found);
    assert_eq!(found, [".status"]);
    assert_eq!(schema["status"]["default"]["observedGeneration"], -1);
}

#[test]
fn no_enum_value_reads_as_a_boolean_in_yaml_1_1() {
    let text = yaml();
    for word in ["On", "Off", "Yes", "No", "True", "False"] {
        assert!(!text.lines().any(|l| l.trim() == format!("- {word}")), "{word}");
    }
}

#[test]
fn every_reason_is_explained_in_the_documents() {
    let source = include_str!("../src/conditions.rs");
    let guide = include_str!("../../docs/troubleshooting.md");
    let reasons = source.split("pub mod reasons").nth(1).unwrap();
    let names: Vec<&str> = reasons
        .lines()
        .filter(|line| line.trim_start().starts_with("pub const"))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !guide.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md lacks {missing:?}");
}

#[test]
fn the_guide_explains_no_condition_and_no_reason_that_there_is_not() {
    let source = include_str!("../src/conditions.rs");
    let (types, reasons) = source.split_once("pub mod reasons").unwrap();
    let names = |part: &str| -> Vec<String> {
        part.lines()
            .filter(|line| line.trim_start().starts_with("pub const"))
            .filter_map(|line| line.split('"').nth(1).map(str::to_owned))
            .collect()
    };
    let (types, reasons) = (names(types), names(reasons));
    let guide = include_str!("../../docs/troubleshooting.md");
    let rows = guide
        .lines()
        .skip_while(|line| !line.starts_with("| condition |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut explained: Vec<String> = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let condition = cells[1].trim_matches('`');
        assert!(
            condition.is_empty() || condition == "any" || types.iter().any(|name| name == condition),
            "no condition `{condition}`: {row}"
        );
        explained.push(condition.to_owned());
        for reason in cells[2].split('`').skip(1).step_by(2) {
            assert!(
                reasons.iter().any(|name| name == reason),
                "no reason `{reason}`: {row}"
            );
        }
    }
    for name in types {
        assert!(
            explained.contains(&name),
            "docs/troubleshooting.md has no row for condition {name}"
        );
    }
}
