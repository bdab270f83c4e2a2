//! When a pipeline is healthy, by those who say so: Argo CD's script, run by the Lua that Argo CD has built in, and
//! kstatus, the library that Flux judges by.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::release;
use crate::tools::catalog;

/// One object, and what Argo CD and kstatus must make of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    object: Value,
    status: String,
    message: String,
    kstatus: String,
}

/// Runs every case of `manifests/argocd/health_test.yaml`, and holds `argocd-cm.yaml` to the script.
pub(super) fn run(steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let lua = catalog::LUA.ensure(&paths, steps)?;
    let kstatus = catalog::KSTATUS.ensure(&paths, steps)?;
    let dir = release::workspace().join("manifests/argocd");
    let script = std::fs::read_to_string(dir.join("health.lua"))?;
    let cases: Vec<Case> = serde_saphyr::from_str(&std::fs::read_to_string(dir.join("health_test.yaml"))?)
        .context("health_test.yaml")?;
    ensure!(!cases.is_empty(), "health_test.yaml has no case");
    steps.run("health.lua", |_| {
        carried(&script, &std::fs::read_to_string(dir.join("argocd-cm.yaml"))?)?;
        let scratch = tempfile::tempdir()?;
        for case in &cases {
            let said =
                evaluate(&lua, &script, &case.object, scratch.path()).with_context(|| case.name.clone())?;
            let wanted = format!("{}\n{}", case.status, case.message);
            ensure!(said == wanted, "{}: expected\n{wanted}\ngot\n{said}", case.name);
            println!("ok: {}", case.name);
        }
        Ok(())
    })?;
    steps.run("kstatus", |_| judged(&kstatus, &cases))
}

/// Holds kstatus to every case.
fn judged(kstatus: &Path, cases: &[Case]) -> Result<()> {
    let mut lines = String::new();
    for case in cases {
        let mut object = case.object.clone();
        object["apiVersion"] = "recommendation.dev/v1alpha1".into();
        object["kind"] = "RecommendationPipeline".into();
        lines += &format!("{object}\n");
    }
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("objects");
    std::fs::write(&file, lines)?;
    let said = Cmd::new(kstatus).stdin(std::fs::File::open(&file)?).run()?;
    let said: Vec<&str> = said.lines().collect();
    ensure!(said.len() == cases.len(), "{} answers", said.len());
    for (case, said) in cases.iter().zip(said) {
        let status = said.split('\t').next().unwrap_or_default();
        ensure!(
            status == case.kstatus,
            "{}: kstatus was to say {}, and says {said}",
            case.name,
            case.kstatus
        );
        println!("ok: {status}: {}", case.name);
    }
    Ok(())
}

/// The script as Argo CD calls it: a chunk with the global `obj` that returns a table.
fn evaluate(lua: &Path, script: &str, object: &Value, scratch: &Path) -> Result<String> {
    let mut chunk = String::from("obj = ");
    literal(object, &mut chunk);
    let _ = write!(
        chunk,
        "\nlocal function health()\n{script}\nend\nlocal hs = health()\nprint(hs.status)\nprint(hs.message)\n"
    );
    let file = scratch.join("case.lua");
    std::fs::write(&file, chunk)?;
    Ok(Cmd::new(lua).arg(&file).run()?.trim_end().to_owned())
}

/// A JSON value as a Lua expression.
fn literal(value: &Value, into: &mut String) {
    match value {
        Value::Null => into.push_str("nil"),
        Value::Bool(_) | Value::Number(_) => into.push_str(&value.to_string()),
        Value::String(text) => quoted(text, into),
        Value::Array(items) => {
            into.push('{');
            for item in items {
                literal(item, into);
                into.push(',');
            }
            into.push('}');
        }
        Value::Object(fields) => {
            into.push('{');
            for (key, item) in fields {
                into.push('[');
                quoted(key, into);
                into.push_str("]=");
                literal(item, into);
                into.push(',');
            }
            into.push('}');
        }
    }
}

fn quoted(text: &str, into: &mut String) {
    into.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                into.push('\\');
                into.push(char::from(byte));
            }
            b' '..=b'~' => into.push(char::from(byte)),
            other => {
                let _ = write!(into, "\\{other:03}");
            }
        }
    }
    into.push('"');
}

/// argocd-cm.yaml carries the script indented.
fn carried(script: &str, config_map: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct ConfigMap {
        data: std::collections::BTreeMap<String, String>,
    }
    let map: ConfigMap = serde_saphyr::from_str(config_map).context("argocd-cm.yaml")?;
    let text = map
        .data
        .get("resource.customizations.health.recommendation.dev_RecommendationPipeline")
        .context("argocd-cm.yaml has no health script of ours")?;
    ensure!(
        text == script,
        "argocd-cm.yaml carries another script than health.lua"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_lua_with_every_odd_byte_escaped() {
        let mut text = String::new();
        literal(&serde_json::json!({"a": ["x\"\n", 1, true, null]}), &mut text);
        assert_eq!(text, r#"{["a"]={"x\"\010",1,true,nil,},}"#);
    }
}
