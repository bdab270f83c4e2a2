//! From nothing to the first recommendation by Helm alone, with the README's very commands, then an upgrade and the end of
//! it all; on a real node with the shipped images.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::charts::dir;
use super::cluster::{CRDS, Cluster, NAMESPACE, OPERATOR, on_node};
use crate::command::Cmd;
use crate::image::{self, ImageSpec};
use crate::kubectl::{Poll, condition};
use crate::progress::{Steps, seconds};
use crate::release;
use crate::stack::node;

const CRD: &str = "recommendationpipelines.recommendation.dev";
/// The release of the pipeline, and so its name.
const SHOP: &str = "shop";

/// What has the README's commands: the block of shell in which Helm installs.
const README: &str = "README.md";
/// What the README's last command must show: both others who bought a cup bought it.
const EXPECTED: &str = "saucer";

/// Installs, upgrades, tests and removes the charts.
pub(super) fn run(yes: bool, steps: &mut Steps) -> Result<()> {
    on_node(yes, false, steps, |cluster, steps| Charts(cluster).all(steps))
}

struct Charts<'a>(&'a Cluster);

impl Charts<'_> {
    fn all(&self, steps: &mut Steps) -> Result<()> {
        steps.run("the node has the images that the charts name", |_| {
            self.plain_images()
        })?;
        let begun = Instant::now();
        let said = steps.run(
            "the commands of the README, from helm install to a recommendation",
            |_| self.as_a_new_user(),
        )?;
        println!("{}", said.trim_end());
        println!(
            "from nothing to the first recommendation through Helm alone: {}",
            seconds(begun.elapsed())
        );
        self.tested(steps)?;
        self.upgraded(steps)?;
        self.remove(steps)
    }

    /// Both images by the names that the charts have for them, as a user's registry would hold them.
    fn plain_images(&self) -> Result<()> {
        let binaries = &self.0.place.binaries;
        for (program, binary) in [
            (OPERATOR, &binaries.operator),
            ("recommender", &binaries.recommender),
        ] {
            let info = image::build(&ImageSpec {
                name: format!("docker.io/library/{program}:{}", env!("CARGO_PKG_VERSION")),
                binary: binary.clone(),
                entrypoint: format!("/{program}"),
                labels: image::labels(program),
                archive: self.0.stack()?.run.dir().join(format!("{program}.tar")),
                compressed: false,
            })?;
            node::import(&info.path)?;
        }
        Ok(())
    }

    /// Runs the README's commands in a shell as they stand there, but for Kafka's address and the port of this machine.
    fn as_a_new_user(&self) -> Result<String> {
        let text = std::fs::read_to_string(release::workspace().join(README))?;
        let commands = commands(&text).context("README.md has no block of shell with `helm install`")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let commands = commands
            .replace("kafka:9092", &self.0.stack()?.kafka_pods)
            .replace("8080", &port.to_string());
        println!("{commands}");
        let bin = self.0.stack()?.run.dir().join("helm-bin");
        crate::paths::remove_all(&bin)?;
        std::fs::create_dir_all(&bin)?;
        std::os::unix::fs::symlink(&self.0.helm.program, bin.join("helm"))?;
        std::os::unix::fs::symlink(&self.0.stack()?.kubectl, bin.join("kubectl"))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(bin).chain(std::env::split_paths(&path));
        let said = Cmd::new("sh")
            .dir(release::workspace())
            // The forwarding of a port goes on in the background until the shell ends.
            .args([
                "-euc",
                &format!("trap 'kill ${{!:-}} 2> /dev/null || true' EXIT\n{commands}"),
            ])
            .env("PATH", std::env::join_paths(path)?)
            .env("KUBECONFIG", &self.0.helm.kubeconfig)
            .timeout(Duration::from_secs(420))
            .run()?;
        // curl ends no line, so the answers stand one behind the other.
        let answer = said.rsplit_once("\"items\"").map_or("", |(_, answer)| answer);
        ensure!(
            answer.contains(EXPECTED),
            "the last command was to show `{EXPECTED}`:\n{said}"
        );
        Ok(said)
    }

    fn tested(&self, steps: &mut Steps) -> Result<()> {
        // There is no DNS here, so the test is told where the operator is.
        let service = self
            .0
            .place
            .kubectl
            .json(&format!("get service {OPERATOR} -n {NAMESPACE}"))?;
        let host = service["spec"]["clusterIP"]
            .as_str()
            .context("Service without an address")?;
        self.upgrade(&format!("--reuse-values --set test.host={host}"))?;
        let said = steps.run("helm test", |_| {
            self.0
                .helm
                .cmd(&format!("test {OPERATOR} --namespace {NAMESPACE}"))
                .run()
        })?;
        // Without any test Helm is content, too.
        let results: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("TEST SUITE:") || line.starts_with("Phase:"))
            .collect();
        ensure!(
            results.iter().any(|line| line.ends_with("Succeeded")),
            "helm test ran nothing:\n{said}"
        );
        println!("{}", results.join("\n"));
        Ok(())
    }

    fn upgrade(&self, values: &str) -> Result<String> {
        self.0
            .helm
            .cmd(&format!(
                "upgrade {OPERATOR} --namespace {NAMESPACE} --wait {values}"
            ))
            .arg(dir(OPERATOR))
            .run()
    }

    /// An older version of the operator, and the upgrade to this one, under a pipeline that serves on.
    fn upgraded(&self, steps: &mut Steps) -> Result<()> {
        let kubectl = &self.0.place.kubectl;
        let version = env!("CARGO_PKG_VERSION");
        let images = format!(
            "--set image.repository={OPERATOR} --set image.tag={version} --set recommender.image=recommender:{version}"
        );
        let older = release::workspace().join("xtask/testdata/recommendation-operator-0.0.9");
        let pods = format!("get pods -l app.kubernetes.io/instance={SHOP} -o name");
        let before = kubectl.run(&pods)?;
        steps.run("an older version of the operator in its place", |_| {
            self.0
                .helm
                .cmd(&format!("uninstall {OPERATOR} --namespace {NAMESPACE} --wait"))
                .run()?;
            self.0
                .helm
                .cmd(&format!(
                    "install {OPERATOR} --namespace {NAMESPACE} --create-namespace --wait {images}"
                ))
                .arg(older)
                .run()
        })?;
        self.ready(steps)?;
        // From here on as the restricted Pod Security standard allows.
        kubectl.run(&format!(
            "label namespace {NAMESPACE} pod-security.kubernetes.io/enforce=restricted"
        ))?;
        let notes = steps.run("helm upgrade the operator to this version", |_| self.upgrade(""))?;
        println!("{notes}");
        self.ready(steps)?;
        let after = kubectl.run(&pods)?;
        ensure!(
            before == after,
            "the upgrade of the operator replaced the pipeline's pods:\n{before}\n{after}"
        );
        println!("ok: upgraded under a pipeline whose pods stayed");
        Ok(())
    }

    fn ready(&self, steps: &mut Steps) -> Result<()> {
        let kubectl = &self.0.place.kubectl;
        steps.run("the pipeline is Ready", |progress| {
            kubectl.until("the pipeline is Ready", Duration::from_secs(180), || {
                let object = kubectl.json(&format!("get recpipe {SHOP}"))?;
                Ok(match condition(&object, "Ready") {
                    Some(("True", _, _)) => Poll::Done(()),
                    other => {
                        let why =
                            other.map_or("not seen yet".to_owned(), |(s, r, m)| format!("{s} {r}: {m}"));
                        progress.message(why.clone());
                        Poll::Waiting(why)
                    }
                })
            })
        })
    }

    fn remove(&self, steps: &mut Steps) -> Result<()> {
        steps.run("helm uninstall everything", |_| {
            self.0.helm.cmd(&format!("uninstall {SHOP} --wait")).run()?;
            self.0
                .helm
                .cmd(&format!("uninstall {OPERATOR} --namespace {NAMESPACE} --wait"))
                .run()?;
            self.0.helm.cmd(&format!("uninstall {CRDS}")).run()?;
            // Pods take their time to end, and Helm waits for their Deployment only.
            let left = || {
                let get = format!("get all,secret,configmap -n {NAMESPACE} -o name");
                let left = self.0.place.kubectl.run(&get)?;
                let ours: Vec<&str> = left.lines().filter(|line| line.contains("recommend")).collect();
                Ok(match ours.is_empty() {
                    true => Poll::Done(()),
                    false => Poll::Waiting(format!("left behind: {ours:?}")),
                })
            };
            let patience = Duration::from_secs(60);
            self.0.place.kubectl.until("everything is gone", patience, left)?;
            // Every pipeline would go with it.
            self.0
                .place
                .kubectl
                .run(&format!("get crd {CRD}"))
                .context("the CRD was to be kept")?;
            Ok(())
        })
    }
}

/// The block of shell in which Helm installs something.
fn commands(document: &str) -> Option<&str> {
    document
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .find(|block| block.contains("helm install"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_way_through_helm_from_nothing_to_a_recommendation() {
        let text = std::fs::read_to_string(release::workspace().join(README)).expect("README.md");
        let commands = commands(&text).expect("a block with `helm install`");
        for (chart, _) in super::super::charts::CHARTS {
            assert!(
                commands.contains(&format!("charts/{chart}")),
                "{chart}: {commands}"
            );
        }
        assert!(
            commands.contains("kafka:9092") && commands.contains("8080"),
            "{commands}"
        );
        let last = commands.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains("/v1/recommendations/"), "{last}");
    }
}
