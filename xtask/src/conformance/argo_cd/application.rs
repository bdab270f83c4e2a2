//! The Application that we ship, and what Argo CD says about it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::repository::Repository;
use super::servers::NAMESPACE;
use crate::kubectl::{Kubectl, Poll};
use crate::release;

const NAME: &str = "recommendation";

/// The Application in the cluster.
pub(super) struct Application {
    kubectl: Kubectl,
}

/// One look at it.
pub(super) struct Seen(Value);

impl Application {
    /// Applies `manifests/argocd/application.yaml` with this place's repository, cluster and images.
    pub(super) fn apply(cluster: &Cluster, repository: &Repository) -> Result<Self> {
        let kubectl = cluster.place.kubectl.clone();
        let text = std::fs::read_to_string(release::workspace().join("manifests/argocd/application.yaml"))?;
        let mut object: Value = serde_saphyr::from_str(&text).context("application.yaml")?;
        let config = kubectl.json("config view --raw")?;
        object["spec"]["destination"]["server"] = config["clusters"][0]["cluster"]["server"].clone();
        let (image, tag) = cluster
            .images
            .operator
            .rsplit_once(':')
            .context("an image without a tag")?;
        for source in object["spec"]["sources"].as_array_mut().into_iter().flatten() {
            source["repoURL"] = json!(repository.url());
            if source["helm"].is_object() {
                source["helm"]["parameters"] = json!([
                    {"name": "image.repository", "value": image},
                    {"name": "image.tag", "value": tag, "forceString": true},
                    {"name": "recommender.image", "value": cluster.images.recommender},
                ]);
            }
        }
        kubectl.apply_text(
            &object.to_string(),
            &cluster.stack()?.run.dir().join("argocd/application.json"),
        )?;
        Ok(Self { kubectl })
    }

    pub(super) fn get(&self) -> Result<Seen> {
        Ok(Seen(self.kubectl.json(&format!(
            "get applications.argoproj.io {NAME} -n {NAMESPACE}"
        ))?))
    }

    /// Has Argo CD look at the repository now, as a webhook of the Git server would.
    pub(super) fn refresh(&self) -> Result<()> {
        self.kubectl.run(&format!(
            "annotate applications.argoproj.io {NAME} -n {NAMESPACE} argocd.argoproj.io/refresh=hard --overwrite"
        ))?;
        Ok(())
    }

    /// Waits until `done`.
    pub(super) fn until(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Seen) -> bool,
    ) -> Result<()> {
        self.kubectl
            .until(&format!("the application is {what}"), limit, || {
                let seen = self.get()?;
                Ok(if done(&seen) {
                    Poll::Done(())
                } else {
                    Poll::Waiting(seen.summary())
                })
            })
    }

    /// For `lasting` it is Synced at every look, and Argo CD syncs nothing.
    pub(super) fn left_alone(&self, lasting: Duration) -> Result<()> {
        let begun = Instant::now();
        let before = self.get()?.last_sync();
        while begun.elapsed() < lasting {
            let seen = self.get()?;
            ensure!(seen.sync() == "Synced", "not left alone: {}", seen.summary());
            ensure!(
                seen.last_sync() == before,
                "Argo CD synced again: {}",
                seen.summary()
            );
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}

impl Seen {
    fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(super) fn sync(&self) -> &str {
        self.text("/status/sync/status")
    }

    pub(super) fn health(&self) -> &str {
        self.text("/status/health/status")
    }

    /// In both respects, with nothing under way.
    pub(super) fn is(&self, sync: &str, health: &str) -> bool {
        self.sync() == sync
            && self.health() == health
            && self.text("/status/operationState/phase") == "Succeeded"
    }

    /// When the last sync began.
    fn last_sync(&self) -> String {
        self.text("/status/operationState/startedAt").to_owned()
    }

    /// Health and message of the first resource of a kind.
    pub(super) fn health_of(&self, kind: &str) -> Option<(String, String)> {
        let resources = self.0.pointer("/status/resources")?.as_array()?;
        let found = resources.iter().find(|one| one["kind"] == kind)?;
        let text = |key: &str| found["health"][key].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("message")))
    }

    /// For people.
    pub(super) fn summary(&self) -> String {
        let conditions: Vec<&str> = self.0["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["message"].as_str())
            .collect();
        let waiting: Vec<String> = self.0["status"]["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| {
                one["status"] != "Synced"
                    || !matches!(one["health"]["status"].as_str(), None | Some("Healthy"))
            })
            .map(|one| {
                format!(
                    "{}/{} {} {}",
                    one["kind"], one["name"], one["status"], one["health"]
                )
            })
            .collect();
        format!(
            "{}, {}, {}: {} {} {}",
            self.sync(),
            self.health(),
            self.text("/status/operationState/phase"),
            self.text("/status/operationState/message"),
            conditions.join("; "),
            waiting.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_under_way_is_not_done_however_healthy() {
        let seen = |phase: &str| {
            Seen(
                json!({"status": {"sync": {"status": "Synced"}, "health": {"status": "Healthy"},
                "operationState": {"phase": phase},
                "resources": [{"kind": "K", "health": {"status": "Degraded", "message": "why"}}]}}),
            )
        };
        assert!(seen("Succeeded").is("Synced", "Healthy"));
        assert!(!seen("Running").is("Synced", "Healthy"));
        assert_eq!(
            seen("Running").health_of("K"),
            Some(("Degraded".to_owned(), "why".to_owned()))
        );
    }
}
