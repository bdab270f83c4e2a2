//! Both programs as processes of this machine, where pods are not possible: from the same ConfigMap and Secrets,
//! with no more rights.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{PIPELINE, Place};
use crate::kubectl::write_private;
use crate::paths::write;
use crate::stack::process::Daemon;

/// The public port of a recommender that runs as a process, and of a port-forward.
pub const PORT: u16 = 8080;
/// The internal port of a recommender that runs as a process.
pub const INTERNAL_PORT: u16 = 9090;
/// The internal port of an operator that runs as a process.
const OPERATOR_PORT: u16 = 9091;

impl Place {
    /// The operator as a process, with a kubeconfig that holds its ServiceAccount's token and nothing more.
    pub(super) fn start_operator_process(&self) -> Result<()> {
        let token = self
            .kubectl
            .run("create token recommendation-operator -n recommendation-system --duration=24h")?;
        let mut config = self.kubectl.json("config view --raw")?;
        config["users"] = json!([{"name": "operator", "user": {"token": token.trim()}}]);
        config["contexts"][0]["context"]["user"] = json!("operator");
        let file = self.file("operator.kubeconfig");
        write_private(&file, config.to_string().as_bytes())?;
        let mut daemon = Daemon::new("recommendation-operator", &self.binaries.operator).args([
            "run",
            "--metrics-listen",
            &format!("127.0.0.1:{OPERATOR_PORT}"),
        ]);
        daemon.env.push(("KUBECONFIG".into(), file.display().to_string()));
        self.processes().start(&daemon)?;
        Ok(())
    }

    /// The recommender as a process, from the ConfigMap and the Secrets that its Deployment names.
    pub(super) fn start_recommender_process(&self) -> Result<()> {
        let config = self.kubectl.json(&format!("get configmap {PIPELINE}-config"))?;
        let text = config
            .pointer("/data/config.json")
            .and_then(Value::as_str)
            .context("ConfigMap without config.json")?;
        let file = self.file("config.json");
        write(&file, text)?;
        for name in ["jwt", "privacy"] {
            self.secret_files(&format!("{PIPELINE}-{name}"), name)?;
        }
        let daemon = Daemon::new("recommender", &self.binaries.recommender)
            .args(["serve", "--config", &file.display().to_string()])
            .args(["--secrets-dir", &self.file("secrets").display().to_string()])
            .args(["--listen", &format!("127.0.0.1:{PORT}")])
            .args(["--internal-listen", &format!("127.0.0.1:{INTERNAL_PORT}")]);
        self.processes().start(&daemon)?;
        Ok(())
    }

    /// Writes the keys of a Secret as files below `<dir>/secrets/<name>`.
    pub(super) fn secret_files(&self, secret: &str, name: &str) -> Result<PathBuf> {
        let dir = self.file("secrets").join(name);
        self.kubectl.write_secret(secret, &dir)?;
        Ok(dir)
    }
}
