//! The alerts that the operator makes, by Prometheus' own promtool: checked, and each fires on its fault and not before.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::command::{Cmd, find};
use crate::progress::Steps;
use crate::release;

/// What the operator renders for `manifests/quickstart.yaml`; a test of its own holds the file to the code.
const RENDERED: &str = "operator/src/build/snapshots/recommendation_operator__build__tests__rules.snap";
/// Cases for every alert.
const CASES: &str = "manifests/prometheus/rules_test.yaml";

/// `promtool check rules` and `promtool test rules`.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let promtool = find("promtool").context("promtool is needed: `apt-get install prometheus`")?;
    let scratch = tempfile::tempdir()?;
    let rules = rendered()?;
    let untested = untested(&rules)?;
    ensure!(untested.is_empty(), "{CASES} has no case for {untested:?}");
    // The rules as Prometheus reads them: JSON is YAML.
    std::fs::write(
        scratch.path().join("rules.yaml"),
        json!({"groups": rules["spec"]["groups"]}).to_string(),
    )?;
    std::fs::copy(
        release::workspace().join(CASES),
        scratch.path().join("rules_test.yaml"),
    )?;
    for args in [
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "rules_test.yaml"],
    ] {
        let said = steps.run(&format!("promtool {} {}", args[0], args[1]), |_| {
            Cmd::new(&promtool).dir(scratch.path()).args(args).run()
        })?;
        print!("{said}");
    }
    Ok(())
}

fn rendered() -> Result<Value> {
    let path = release::workspace().join(RENDERED);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // A snapshot begins with what it is of, between two lines of dashes.
    let body = text.splitn(3, "---\n").nth(2).context("not a snapshot")?;
    serde_saphyr::from_str(body).with_context(|| path.display().to_string())
}

/// Alerts that no case names as expected.
fn untested(rules: &Value) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(release::workspace().join(Path::new(CASES)))?;
    let cases: Value = serde_saphyr::from_str(&text).context(CASES)?;
    let fired: BTreeSet<&str> = items(&cases["tests"])
        .flat_map(|test| items(&test["alert_rule_test"]))
        .filter(|case| items(&case["exp_alerts"]).next().is_some())
        .filter_map(|case| case["alertname"].as_str())
        .collect();
    let alerts = items(&rules["spec"]["groups"])
        .flat_map(|group| items(&group["rules"]))
        .filter_map(|rule| rule["alert"].as_str());
    Ok(alerts
        .filter(|name| !fired.contains(name))
        .map(str::to_owned)
        .collect())
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
