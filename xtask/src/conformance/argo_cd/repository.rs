//! The Git repository that Argo CD reads: our charts and manifests as a team would have them, on this machine's disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::cluster::Cluster;
use crate::command::Cmd;
use crate::demo::PIPELINE;
use crate::paths::{remove_all, write};
use crate::release;

/// The ConfigMap of the wave after the pipeline.
pub(super) const AFTER: &str = "after-the-pipeline";
/// Where the pipeline lies, in our repository and in this one.
const FOLDER: &str = "manifests/argocd/pipeline";

pub(super) struct Repository {
    dir: PathBuf,
}

impl Repository {
    /// A repository with one commit: charts, the pipeline with this place's Kafka, and something in the wave after it.
    pub(super) fn create(cluster: &Cluster) -> Result<Self> {
        let dir = cluster.stack()?.run.dir().join("argocd/repository");
        remove_all(&dir)?;
        std::fs::create_dir_all(dir.join("charts"))?;
        // The chart of the CRD has a link to it, which Argo CD follows within the repository.
        for (from, to) in [
            ("charts/recommendation-operator", "charts"),
            ("charts/recommendation-operator-crds", "charts"),
            ("crds", ""),
        ] {
            Cmd::new("cp")
                .arg("-r")
                .arg(release::workspace().join(from))
                .arg(dir.join(to))
                .run()?;
        }
        let repository = Self { dir };
        let text = std::fs::read_to_string(release::workspace().join(FOLDER).join("pipeline.yaml"))?;
        let mut pipeline: Value = serde_saphyr::from_str(&text).context("pipeline.yaml")?;
        pipeline["spec"]["kafka"]["bootstrapServers"] = json!([cluster.stack()?.kafka_pods]);
        pipeline["spec"]["deletionPolicy"] = json!("Delete");
        repository.write("pipeline.yaml", &pipeline)?;
        let after = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": AFTER, "annotations": {"argocd.argoproj.io/sync-wave": "2"}}, "data": {"pipeline": PIPELINE}});
        repository.write("after.yaml", &after)?;
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        repository.commit("charts and a pipeline")?;
        Ok(repository)
    }

    /// As Argo CD knows it.
    pub(super) fn url(&self) -> String {
        format!("file://{}", self.dir.display())
    }

    /// Commits the pipeline with a changed spec.
    pub(super) fn commit_pipeline(&self, message: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let file = self.folder().join("pipeline.yaml");
        let mut pipeline: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        change(&mut pipeline["spec"]);
        self.write("pipeline.yaml", &pipeline)?;
        self.commit(message)
    }

    /// Commits that the pipeline is no more.
    pub(super) fn remove_pipeline(&self) -> Result<()> {
        std::fs::remove_file(self.folder().join("pipeline.yaml"))?;
        self.commit("no pipeline")
    }

    /// Undoes the last commit by another.
    pub(super) fn revert(&self) -> Result<()> {
        self.git(&["revert", "--no-edit", "HEAD"])
    }

    fn folder(&self) -> PathBuf {
        self.dir.join(FOLDER)
    }

    fn write(&self, name: &str, object: &Value) -> Result<()> {
        // JSON is YAML.
        write(&self.folder().join(name), &format!("{object:#}\n"))
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])
    }

    fn git(&self, args: &[&str]) -> Result<()> {
        // Whoever runs this may have signing, hooks or another branch name in a configuration of their own.
        Cmd::new("git")
            .dir(&self.dir)
            .env("GIT_CONFIG_GLOBAL", Path::new("/dev/null"))
            .env("GIT_CONFIG_SYSTEM", Path::new("/dev/null"))
            .args(["-c", "user.name=A team", "-c", "user.email=team@example.com"])
            .args(args)
            .run()
            .map(drop)
    }
}
