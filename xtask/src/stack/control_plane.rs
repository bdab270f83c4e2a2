//! etcd, the API server, the controller manager and the scheduler.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};

use super::certs::{ADMIN, CONTROLLER_MANAGER, SCHEDULER};
use super::network;
use super::process::{Daemon, Signal};
use super::run::{Run, accepts, check_free};
use crate::command::Cmd;

/// The daemons, in the order in which they are stopped.
pub const DAEMONS: [&str; 4] = [
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
];

const AUDIT_POLICY: &str = "audit-policy.yaml";
/// Every write that the API server saw, a JSON object a line; a file of the run's folder.
pub const AUDIT_LOG: &str = "audit.log";

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Each is ready in 3 to 10 seconds on two free cores; beside a build it takes several times that.
const READY: Duration = Duration::from_secs(120);

/// Starts etcd and the API server without waiting for them.
///
/// # Errors
/// When a port is taken or a program cannot be started.
pub fn start_servers(run: &Run) -> Result<()> {
    let ports = &run.settings().ports;
    let processes = run.processes();
    if processes.alive("etcd").is_none() {
        check_free("etcd", LOOPBACK, ports.etcd)?;
        check_free("etcd", LOOPBACK, ports.etcd_peer)?;
    }
    if processes.alive("kube-apiserver").is_none() {
        check_free(
            "the Kubernetes API server",
            run.settings().server(),
            ports.apiserver,
        )?;
    }
    let policy = run.path(AUDIT_POLICY);
    std::fs::write(&policy, include_str!("audit-policy.yaml")).with_context(|| policy.clone())?;
    processes.start(&etcd(run))?;
    processes.start(&apiserver(run))?;
    Ok(())
}

/// Waits until the API server answers that it is ready.
///
/// # Errors
/// When it, or etcd, dies or takes too long.
pub fn wait_servers(run: &Run) -> Result<()> {
    let (server, port) = (run.settings().server(), run.settings().ports.apiserver);
    run.processes().wait_ready("kube-apiserver", READY, || {
        accepts(server, port) && kubectl(run).args(["get", "--raw", "/readyz"]).succeeds()
    })?;
    Ok(())
}

/// Stops the API server alone; etcd keeps what it knew. Whether it ran.
///
/// # Errors
/// When it does not end.
pub fn stop_api_server(run: &Run, signal: Signal) -> Result<bool> {
    run.processes().stop("kube-apiserver", signal)
}

/// Starts the controller manager and the scheduler without waiting for them.
///
/// # Errors
/// When a port is taken or a program cannot be started.
pub fn start_controllers(run: &Run) -> Result<()> {
    let ports = &run.settings().ports;
    let processes = run.processes();
    for (daemon, port) in [
        (controller_manager(run), ports.controller_manager),
        (scheduler(run), ports.scheduler),
    ] {
        if processes.alive(&daemon.name).is_none() {
            check_free(&daemon.name, LOOPBACK, port)?;
        }
        processes.start(&daemon)?;
    }
    Ok(())
}

/// Waits until both say that they are healthy.
///
/// # Errors
/// When one dies or takes too long.
pub fn wait_controllers(run: &Run) -> Result<()> {
    let ports = &run.settings().ports;
    for (name, port) in [
        ("kube-controller-manager", ports.controller_manager),
        ("kube-scheduler", ports.scheduler),
    ] {
        run.processes().wait_ready(name, READY, || {
            accepts(LOOPBACK, port)
                && kubectl(run)
                    .arg(format!("--server=https://127.0.0.1:{port}"))
                    .args(["get", "--raw", "/healthz"])
                    .succeeds()
        })?;
    }
    Ok(())
}

/// `kubectl` as the administrator of a run.
#[must_use]
pub fn kubectl(run: &Run) -> Cmd {
    Cmd::new(run.paths().kubernetes("kubectl"))
        .arg(format!(
            "--kubeconfig={}",
            run.path(&format!("pki/{ADMIN}.kubeconfig"))
        ))
        .arg("--request-timeout=10s")
}

fn etcd(run: &Run) -> Daemon {
    let ports = &run.settings().ports;
    let clients = format!("http://127.0.0.1:{}", ports.etcd);
    let peers = format!("http://127.0.0.1:{}", ports.etcd_peer);
    Daemon::new("etcd", run.paths().etcd_dir().join("bin/etcd")).args([
        "--name=local".to_owned(),
        format!("--data-dir={}", run.path("etcd")),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=local={peers}"),
        // A test cluster: speed matters, and what a power cut takes is rebuilt by the next run.
        "--unsafe-no-fsync".to_owned(),
    ])
}

fn apiserver(run: &Run) -> Daemon {
    let settings = run.settings();
    let pki = |file: &str| run.path(&format!("pki/{file}"));
    Daemon::new("kube-apiserver", run.paths().kubernetes("kube-apiserver")).args([
        format!("--etcd-servers=http://127.0.0.1:{}", settings.ports.etcd),
        format!("--secure-port={}", settings.ports.apiserver),
        format!("--bind-address={}", settings.server()),
        // An endpoint may not be a loopback address, even when only that is bound.
        format!("--advertise-address={}", network::HOST),
        format!("--service-cluster-ip-range={}", network::SERVICES),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            pki("service-accounts.key")
        ),
        format!(
            "--kubelet-client-certificate={}",
            pki("apiserver-kubelet-client.crt")
        ),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
        format!("--audit-policy-file={}", run.path(AUDIT_POLICY)),
        format!("--audit-log-path={}", run.path(AUDIT_LOG)),
    ])
}

fn controller_manager(run: &Run) -> Daemon {
    let pki = |file: &str| run.path(&format!("pki/{file}"));
    let daemon = Daemon::new(
        "kube-controller-manager",
        run.paths().kubernetes("kube-controller-manager"),
    );
    with_kubeconfig(
        run,
        daemon,
        CONTROLLER_MANAGER,
        run.settings().ports.controller_manager,
    )
    .args([
        format!(
            "--service-account-private-key-file={}",
            pki("service-accounts.key")
        ),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--use-service-account-credentials=true".to_owned(),
        // Its default, /usr/libexec/kubernetes, is made when it is not there.
        format!("--flex-volume-plugin-dir={}", run.path("volumeplugins")),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={}", network::PODS),
        format!("--service-cluster-ip-range={}", network::SERVICES),
    ])
}

fn scheduler(run: &Run) -> Daemon {
    let daemon = Daemon::new("kube-scheduler", run.paths().kubernetes("kube-scheduler"));
    with_kubeconfig(run, daemon, SCHEDULER, run.settings().ports.scheduler)
}

fn with_kubeconfig(run: &Run, daemon: Daemon, user: &str, port: u16) -> Daemon {
    let kubeconfig = run.path(&format!("pki/{user}.kubeconfig"));
    daemon.args([
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // The API server's, which names 127.0.0.1 too: one of its own making could not be verified by the health check.
        format!("--tls-cert-file={}", run.path("pki/apiserver.crt")),
        format!("--tls-private-key-file={}", run.path("pki/apiserver.key")),
        "--leader-elect=false".to_owned(),
    ])
}
