//! The operator as a process, which can be frozen and killed.

use std::process::Stdio;

use crate::harness::Harness;

/// A running operator of a test's namespace.
pub struct Process {
    /// The process; it ends with this.
    pub child: tokio::process::Child,
    /// What stands for the name of its pod.
    pub name: &'static str,
}

impl Process {
    /// Starts it; with `elect`, it leads only while it holds the Lease of the test's namespace.
    pub fn start(harness: &Harness, name: &'static str, elect: bool) -> Self {
        let lease = ["--lease-namespace", &harness.namespace];
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_recommendation-operator"))
            .args(["run", "--metrics-listen", "127.0.0.1:0", "--resync", "2"])
            .args(["--watch-namespaces", &harness.namespace])
            .args(if elect { &lease[..] } else { &[] })
            .env("KUBECONFIG", std::env::var("TEST_KUBECONFIG").unwrap())
            .env("POD_NAME", name)
            .env("RUST_LOG", "error")
            .env_remove("POD_NAMESPACE")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, name }
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let process = self.child.id().expect("it still runs").to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &process])
            .status();
        assert!(sent.unwrap().success());
    }
}
