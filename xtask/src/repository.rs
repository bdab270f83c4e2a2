//! What must agree within the repository and no compiler checks: links between documents, versions, and the operator's
//! rights, which stand both in a manifest and in the chart.
#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::Cmd;
use crate::release::workspace;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files that git knows or would add, by their ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let listed = Cmd::new("git")
        .dir(workspace())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .run();
    let text = listed.expect("a checkout");
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter(|line| line.ends_with(ending))
        .map(PathBuf::from)
        .filter(|path| workspace().join(path).exists())
        .collect();
    found.sort();
    found
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in files(".md") {
        let text = read(&document.to_string_lossy());
        let folder = document.parent().unwrap_or(Path::new(""));
        let mut code = false;
        for line in text.lines() {
            code ^= line.trim_start().starts_with("```");
            for target in line.split("](").skip(1).filter(|_| !code) {
                let target = target.split([')', '#', ' ']).next().unwrap_or_default();
                let outside = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
                if !outside && !workspace().join(folder).join(target).exists() {
                    broken.push(format!("{}: {target}", document.display()));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_page_is_in_the_books_summary() {
    let summary = read("docs/SUMMARY.md");
    let pages: BTreeSet<String> = files(".md")
        .into_iter()
        .filter_map(|path| path.strip_prefix("docs").ok().map(Path::to_owned))
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| path != "SUMMARY.md")
        .collect();
    let missing: Vec<&String> = pages
        .iter()
        .filter(|page| !summary.contains(&format!("]({page})")))
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .filter_map(|part| serde_saphyr::from_str::<Value>(part).ok())
        .filter(Value::is_object)
        .collect()
}

#[test]
fn the_chart_gives_the_operator_the_rights_of_the_manifest() {
    let manifest = documents(&read("manifests/operator.yaml"));
    let rules = |kind: &str| {
        let found = manifest.iter().find(|object| object["kind"] == kind);
        found.map(|object| object["rules"].clone()).unwrap_or_default()
    };
    for (kind, file) in [("ClusterRole", "rules.yaml"), ("Role", "leader-rules.yaml")] {
        let of_chart: Value =
            serde_saphyr::from_str(&read(&format!("charts/recommendation-operator/files/{file}")))
                .expect(file);
        assert_eq!(
            rules(kind),
            of_chart,
            "files/{file} of the chart and the {kind} of manifests/operator.yaml"
        );
    }
}

#[test]
fn the_chart_carries_the_operators_dashboard() {
    assert_eq!(
        read("charts/recommendation-operator/files/dashboard.json"),
        read("manifests/grafana/operator.json"),
        "files/dashboard.json of the chart is a copy of manifests/grafana/operator.json"
    );
}

#[test]
fn charts_and_manifests_carry_the_version_of_the_programs() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in [
        "recommendation-operator",
        "recommendation-operator-crds",
        "recommendation-pipeline",
    ] {
        let chart_yaml: Value =
            serde_saphyr::from_str(&read(&format!("charts/{chart}/Chart.yaml"))).expect(chart);
        assert_eq!(chart_yaml["appVersion"], version, "{chart}");
        assert_eq!(chart_yaml["version"], version, "{chart}");
    }
    assert!(read("manifests/operator.yaml").contains(&format!("image: recommendation-operator:{version}\n")));
}

/// Requests of a folder of a Postman collection, and of the folders in it.
fn requests(folder: &Value, found: &mut Vec<Value>) {
    for item in folder["item"].as_array().into_iter().flatten() {
        if item["item"].is_array() {
            requests(item, found);
        } else {
            found.push(item.clone());
        }
    }
}

#[test]
fn the_postman_collection_has_a_request_with_tests_for_every_endpoint_and_no_other() {
    let collection: Value =
        serde_json::from_str(&read("manifests/postman/recommender.postman_collection.json")).expect("JSON");
    let api: Value = serde_json::from_str(&read("recommender/openapi.json")).expect("JSON");
    let mut endpoints = BTreeSet::new();
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            if ["delete", "get", "patch", "post", "put"].contains(&method.as_str()) {
                endpoints.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let mut asked = Vec::new();
    requests(&collection, &mut asked);
    let mut missing = endpoints.clone();
    for request in &asked {
        let url = &request["request"]["url"];
        let url = url["raw"].as_str().or(url.as_str()).expect("an address");
        let path = url
            .strip_prefix("{{baseUrl}}")
            .expect("an address of the service");
        let path = path.split('?').next().unwrap_or_default();
        let method = request["request"]["method"].as_str().expect("a method");
        let of = |(other, template): &&(String, String)| other == method && stands_for(template, path);
        // `/v1/products/batch` is no product.
        let endpoint = endpoints
            .iter()
            .filter(of)
            .min_by_key(|(_, template)| template.matches('{').count());
        let endpoint = endpoint.unwrap_or_else(|| panic!("no endpoint is {method} {path}"));
        let tests = request["event"].as_array().into_iter().flatten().any(|event| {
            event["listen"] == "test" && event["script"]["exec"].to_string().contains("pm.test(")
        });
        assert!(tests, "{}: {method} {path} has no test", request["name"]);
        missing.remove(endpoint);
    }
    assert!(missing.is_empty(), "the collection asks nothing of {missing:?}");
}

/// Whether `path` is one of those that `template` (`/v1/products/{product_id}`) stands for.
fn stands_for(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template
            .iter()
            .zip(path)
            .all(|(part, given)| part.starts_with('{') || *part == given)
}
