//! Argo CD's repository server and application controller as processes of this machine, against the local cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::cluster::Cluster;
use crate::command::find;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::release;
use crate::stack::process::Daemon;
use crate::stack::run::accepts;
use crate::tools::catalog::{ARGO_CD, ARGO_CD_CRDS, ARGO_CD_GIT, ARGO_CD_GPG, HELM};

/// Argo CD's namespace.
pub(super) const NAMESPACE: &str = "argocd";
const LOCALHOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const REPOSITORY_PORT: u16 = 9581;
const REDIS_PORT: u16 = 9582;
const REPOSITORY_METRICS_PORT: u16 = 9584;
const CONTROLLER_METRICS_PORT: u16 = 9585;
/// The names by which one program is Argo CD's several.
const PROGRAMS: [&str; 4] = [
    "argocd-repo-server",
    "argocd-application-controller",
    "argocd-git-ask-pass",
    "argocd-gpg",
];
/// Folders that both processes want to be told of.
const FOLDERS: [&str; 5] = [
    "ARGOCD_GNUPGHOME",
    "ARGOCD_GPG_DATA_PATH",
    "ARGOCD_TLS_DATA_PATH",
    "ARGOCD_SSH_DATA_PATH",
    "ARGOCD_PLUGINSOCKFILEPATH",
];

/// Builds Argo CD unless that was done, and starts it, with our health script in its ConfigMap.
pub(super) fn start(cluster: &Cluster, steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let program = ARGO_CD.ensure(&paths, steps)?;
    let helm = HELM.ensure(&paths, steps)?;
    let dir = cluster.stack()?.run.dir().join("argocd");
    let bin = dir.join("bin");
    steps.run("Argo CD's CRDs and settings", |_| {
        programs(&paths, &program, &helm, &bin)?;
        settings(cluster, &paths, &dir)
    })?;
    steps.run("Argo CD", |_| start_processes(cluster, &dir, &bin))
}

/// A folder with every program that the repository server calls by name.
fn programs(paths: &Paths, program: &Path, helm: &Path, bin: &Path) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    crate::paths::remove_all(bin)?;
    std::fs::create_dir_all(bin)?;
    for name in PROGRAMS {
        symlink(program, bin.join(name))?;
    }
    symlink(helm, bin.join("helm"))?;
    for script in [ARGO_CD_GIT, ARGO_CD_GPG] {
        let from = ARGO_CD.kept(paths, script);
        let to = bin.join(from.file_name().context("a script has a name")?);
        std::fs::copy(&from, &to)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// What Argo CD's own installation brings, as far as these two processes read it, and the local cluster as a target.
fn settings(cluster: &Cluster, paths: &Paths, dir: &Path) -> Result<()> {
    let kubectl = &cluster.place.kubectl;
    let crds = ARGO_CD.kept(paths, ARGO_CD_CRDS);
    for name in ["application", "appproject", "applicationset"] {
        kubectl
            .cmd("apply --server-side --force-conflicts -f")
            .arg(crds.join(format!("{name}-crd.yaml")))
            .run()?;
    }
    kubectl.crds_established()?;
    let named = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "argocd"}});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named("argocd-cm")},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named("argocd-rbac-cm")},
        {"apiVersion": "v1", "kind": "Secret", "metadata": named("argocd-secret"),
         "stringData": {"server.secretkey": "of-no-use-without-a-server"}},
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "default", "namespace": NAMESPACE},
         "spec": {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}],
                  "clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}},
        // What `argocd cluster add` makes.
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "argocd-manager", "namespace": "kube-system"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "argocd-manager"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
         "subjects": [{"kind": "ServiceAccount", "name": "argocd-manager", "namespace": "kube-system"}]},
    ]});
    kubectl.apply_text(&objects.to_string(), &dir.join("settings.json"))?;
    // As docs/gitops.md tells.
    kubectl
        .cmd(&format!(
            "patch configmap argocd-cm -n {NAMESPACE} --type merge --patch-file"
        ))
        .arg(release::workspace().join("manifests/argocd/argocd-cm.yaml"))
        .run()?;
    let token = kubectl.run("create token argocd-manager -n kube-system --duration=8h")?;
    let config = kubectl.json("config view --raw")?;
    let target = &config["clusters"][0]["cluster"];
    let access = json!({"bearerToken": token.trim(), "tlsClientConfig": {"caData": target["certificate-authority-data"]}});
    let mut metadata = named("local");
    metadata["labels"]["argocd.argoproj.io/secret-type"] = json!("cluster");
    let secret: Value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {
        "name": "local", "server": target["server"], "config": access.to_string()}});
    kubectl.apply_text(&secret.to_string(), &dir.join("cluster.json"))?;
    Ok(())
}

fn start_processes(cluster: &Cluster, dir: &Path, bin: &Path) -> Result<()> {
    let stack = cluster.stack()?;
    let processes = stack.run.processes();
    let redis = find("redis-server").context("redis-server is needed: `apt-get install redis-server`")?;
    processes.start(&Daemon::new("argocd-redis", redis).args([
        "--bind",
        "127.0.0.1",
        "--port",
        &REDIS_PORT.to_string(),
        "--save",
        "",
        "--appendonly",
        "no",
    ]))?;
    let repository = Daemon::new("argocd-repo-server", bin.join(PROGRAMS[0])).args([
        "--address",
        "127.0.0.1",
        "--port",
        &REPOSITORY_PORT.to_string(),
        "--metrics-address",
        "127.0.0.1",
        "--metrics-port",
        &REPOSITORY_METRICS_PORT.to_string(),
        "--redis",
        &format!("127.0.0.1:{REDIS_PORT}"),
        "--disable-tls",
        "--client-ca-path",
        "",
    ]);
    let controller = Daemon::new("argocd-application-controller", bin.join(PROGRAMS[1])).args([
        "--kubeconfig",
        &stack.kubeconfig.display().to_string(),
        "--namespace",
        NAMESPACE,
        "--repo-server",
        &format!("127.0.0.1:{REPOSITORY_PORT}"),
        "--repo-server-plaintext",
        "--redis",
        &format!("127.0.0.1:{REDIS_PORT}"),
        "--metrics-port",
        &CONTROLLER_METRICS_PORT.to_string(),
        "--app-resync",
        "10",
        // Otherwise the health of each resource is shown to people only, and stands in no Application.
        "--persist-resource-health",
    ]);
    for (mut daemon, port) in [
        (repository, REPOSITORY_PORT),
        (controller, CONTROLLER_METRICS_PORT),
    ] {
        daemon.env = environment(dir, bin, &stack.kubeconfig)?;
        processes.start(&daemon)?;
        processes.wait_ready(&daemon.name, Duration::from_secs(90), || accepts(LOCALHOST, port))?;
    }
    Ok(())
}

/// What both processes find in a pod of Argo CD's own image.
fn environment(dir: &Path, bin: &Path, kubeconfig: &Path) -> Result<Vec<(String, String)>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(bin)).chain(std::env::split_paths(&path));
    let mut all = vec![
        (
            "PATH".to_owned(),
            std::env::join_paths(folders)?.to_string_lossy().into_owned(),
        ),
        ("ARGOCD_GPG_ENABLED".to_owned(), "false".to_owned()),
        ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
    ];
    for name in FOLDERS {
        let folder = dir.join(name.to_lowercase());
        std::fs::create_dir_all(&folder)?;
        all.push((name.to_owned(), folder.display().to_string()));
    }
    Ok(all)
}
