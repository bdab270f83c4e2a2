//! The alerts that the operator makes for a pipeline, and those of its own chart, by Prometheus' own promtool: checked, and
//! each fires on its fault and not before.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::command::{Cmd, find};
use crate::progress::Steps;
use crate::release;

/// Alerts, and their cases.
struct Rules {
    /// What they are about.
    of: &'static str,
    /// Where they are.
    file: &'static str,
    /// From the text of that file, the groups as Prometheus reads them.
    groups: fn(&str) -> Result<Value>,
    /// promtool's cases for every alert.
    cases: &'static str,
}

const ALL: [Rules; 2] = [
    Rules {
        of: "a pipeline",
        // What the operator renders for `manifests/quickstart.yaml`; a test of its own holds the file to the code.
        file: "operator/src/build/snapshots/recommendation_operator__build__tests__rules.snap",
        groups: of_snapshot,
        cases: "manifests/prometheus/rules_test.yaml",
    },
    Rules {
        of: "the operator",
        file: "charts/recommendation-operator/files/alerts.yaml",
        groups: of_chart,
        cases: "manifests/prometheus/operator_rules_test.yaml",
    },
];

/// `promtool check rules` and `promtool test rules`.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let promtool = find("promtool").context("promtool is needed: `apt-get install prometheus`")?;
    for rules in &ALL {
        let scratch = tempfile::tempdir()?;
        let groups = rules.read()?;
        let untested = untested(&groups, &rules.cases()?);
        ensure!(untested.is_empty(), "{}: {untested:?}", rules.cases);
        // The rules as Prometheus reads them: JSON is YAML.
        std::fs::write(
            scratch.path().join("rules.yaml"),
            json!({ "groups": groups }).to_string(),
        )?;
        std::fs::copy(
            release::workspace().join(rules.cases),
            scratch.path().join("rules_test.yaml"),
        )?;
        for args in [
            ["check", "rules", "rules.yaml"],
            ["test", "rules", "rules_test.yaml"],
        ] {
            let said = steps.run(
                &format!("alerts of {}: promtool {} {}", rules.of, args[0], args[1]),
                |_| Cmd::new(&promtool).dir(scratch.path()).args(args).run(),
            )?;
            print!("{said}");
        }
    }
    Ok(())
}

impl Rules {
    fn read(&self) -> Result<Value> {
        let text = std::fs::read_to_string(release::workspace().join(self.file))
            .with_context(|| self.file.to_owned())?;
        (self.groups)(&text).with_context(|| self.file.to_owned())
    }

    fn cases(&self) -> Result<Value> {
        let text = std::fs::read_to_string(release::workspace().join(self.cases))?;
        serde_saphyr::from_str(&text).context(self.cases)
    }
}

fn of_snapshot(text: &str) -> Result<Value> {
    // A snapshot begins with what it is of, between two lines of dashes.
    let body = text.splitn(3, "---\n").nth(2).context("not a snapshot")?;
    let rule: Value = serde_saphyr::from_str(body)?;
    Ok(rule["spec"]["groups"].clone())
}

fn of_chart(text: &str) -> Result<Value> {
    // As the chart renders it for the release that the cases speak of.
    let selector = r#"namespace="recommendation-system",service="recommendation-operator""#;
    Ok(serde_saphyr::from_str(&text.replace("SELECTOR", selector))?)
}

/// What alerts lack: a case in which they fire, and in that case an earlier moment at which they do not.
fn untested(groups: &Value, cases: &Value) -> BTreeMap<String, &'static str> {
    let (mut fire, mut wait) = (BTreeSet::new(), BTreeSet::new());
    for test in items(&cases["tests"]) {
        let of_test = |fires: bool| {
            items(&test["alert_rule_test"])
                .filter(move |case| items(&case["exp_alerts"]).next().is_some() == fires)
                .filter_map(|case| Some((case["alertname"].as_str()?, minutes(case)?)))
        };
        for (name, when) in of_test(true) {
            fire.insert(name);
            if of_test(false).any(|(other, before)| other == name && before < when) {
                wait.insert(name);
            }
        }
    }
    let mut lacking = BTreeMap::new();
    for rule in items(groups).flat_map(|group| items(&group["rules"])) {
        let Some(name) = rule["alert"].as_str() else {
            continue;
        };
        if !fire.contains(name) {
            lacking.insert(name.to_owned(), "has no case in which it fires");
        } else if !wait.contains(name) {
            lacking.insert(
                name.to_owned(),
                "has no moment before its fault at which it does not fire",
            );
        }
    }
    lacking
}

fn minutes(case: &Value) -> Option<u64> {
    case["eval_time"].as_str()?.strip_suffix('m')?.parse().ok()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_has_a_case_in_which_it_fires_and_a_moment_before_at_which_it_does_not() {
        for rules in &ALL {
            let untested = untested(&rules.read().expect("rules"), &rules.cases().expect("cases"));
            assert!(untested.is_empty(), "{}: {untested:?}", rules.cases);
        }
    }

    #[test]
    fn an_alert_without_its_case_or_without_the_moment_before_is_found() {
        let groups = json!([{"rules": [{"alert": "A"}, {"alert": "B"}, {"alert": "C"}]}]);
        let cases = json!({"tests": [{"alert_rule_test": [
            {"alertname": "A", "eval_time": "5m", "exp_alerts": []},
            {"alertname": "A", "eval_time": "9m", "exp_alerts": [{}]},
            {"alertname": "B", "eval_time": "9m", "exp_alerts": [{}]},
            {"alertname": "B", "eval_time": "10m", "exp_alerts": []},
        ]}]});
        let lacking: Vec<String> = untested(&groups, &cases).into_keys().collect();
        assert_eq!(lacking, ["B", "C"]);
    }

    #[test]
    fn every_alert_stands_in_the_reference_with_its_severity_and_for_how_long_and_no_other_does() {
        let page = std::fs::read_to_string(release::workspace().join("docs/reference/alerts.md"))
            .expect("docs/reference/alerts.md");
        let mut expected = BTreeSet::new();
        for rules in &ALL {
            let groups = rules.read().expect("rules");
            for rule in items(&groups).flat_map(|group| items(&group["rules"])) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                expected.insert((
                    text(&rule["alert"]),
                    text(&rule["labels"]["severity"]),
                    text(&rule["for"]),
                ));
            }
        }
        let mut written = BTreeSet::new();
        for row in page.lines().filter(|line| line.starts_with("| `Recomm")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            // One alert may have windows of several severities.
            for severity in cells[2].split(", ") {
                written.insert((
                    cells[1].trim_matches('`').to_owned(),
                    severity.to_owned(),
                    cells[3].to_owned(),
                ));
            }
            assert!(cells[4].len() > 20, "{}: what to do?", cells[1]);
        }
        assert_eq!(written, expected);
    }
}
