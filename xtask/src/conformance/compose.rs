//! `docker-compose.yml` by the library that `docker compose config` reads it with.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::release;
use crate::tools::catalog::COMPOSE;

/// Reads the file, and holds what it names on this disk to be there.
pub(super) fn run(steps: &mut Steps) -> Result<()> {
    let compose = COMPOSE.ensure(&Paths::from_env()?, steps)?;
    let file = release::workspace().join("docker-compose.yml");
    let project: Value = steps.run("docker-compose.yml, as `docker compose config` prints it", |_| {
        let said = Cmd::new(&compose)
            .arg(&file)
            .env("JWT_SECRET", "a")
            .env("PRIVACY_SECRET", "b")
            .run()?;
        Ok(serde_saphyr::from_str(&said)?)
    })?;
    steps.run("what is misspelt is refused", |_| {
        refuses_misspelt(&compose, &file)
    })?;
    let services = project["services"].as_object();
    let services: Vec<&str> = services
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(services.len() >= 6, "services: {services:?}");
    let missing: Vec<String> = on_disk(&project)
        .into_iter()
        .filter(|path| !Path::new(path).exists())
        .collect();
    ensure!(missing.is_empty(), "not there: {missing:?}");
    println!("ok: {} services: {}", services.len(), services.join(", "));
    Ok(())
}

/// A key that the schema does not know, and a service that nothing describes.
fn refuses_misspelt(compose: &Path, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let scratch = tempfile::tempdir()?;
    for (right, wrong) in [
        ("restart:", "restrat:"),
        ("{kafka: {condition:", "{kafak: {condition:"),
    ] {
        let misspelt = text.replace(right, wrong);
        let copy = scratch.path().join("docker-compose.yml");
        std::fs::write(&copy, &misspelt)?;
        ensure!(
            misspelt != text && !Cmd::new(compose).arg(&copy).succeeds(),
            "`{wrong}` was let through"
        );
    }
    Ok(())
}

/// Paths of this disk that the project builds from or mounts.
fn on_disk(project: &Value) -> Vec<String> {
    let services = project["services"].as_object();
    let mut paths = Vec::new();
    for (_, service) in services.into_iter().flatten() {
        if let Some(context) = service["build"]["context"].as_str() {
            paths.push(context.to_owned());
            let dockerfile = service["build"]["dockerfile"].as_str().unwrap_or("Dockerfile");
            paths.push(format!("{context}/{dockerfile}"));
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            if volume["type"] == "bind" {
                paths.extend(volume["source"].as_str().map(str::to_owned));
            }
        }
    }
    paths
}
