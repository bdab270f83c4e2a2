//! A replica in a process of its own, which can be killed.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::shop::Shop;
use crate::support::{KEY, eventually};

/// A replica in a process of its own. It ends when dropped.
pub struct Replica {
    process: Child,
    pub public: SocketAddr,
    pub internal: SocketAddr,
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// The program: what is shipped, where that is named; else what was built with the tests.
fn program() -> String {
    std::env::var("FAULTS_RECOMMENDER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_recommender").to_owned())
}

impl Replica {
    /// On free ports, until it is ready.
    pub async fn start(shop: &Shop, client: &reqwest::Client) -> Self {
        Self::start_on(shop, client, free(), free()).await
    }

    /// On these ports: those of a replica before it, that clients know.
    pub async fn start_on(
        shop: &Shop,
        client: &reqwest::Client,
        public: SocketAddr,
        internal: SocketAddr,
    ) -> Self {
        let (config, secrets) = (shop.dir.path().join("config.json"), shop.dir.path());
        let mut rendered = shop.config.clone();
        rendered.auth.jwt_secret_file = Some("jwt".into());
        rendered.privacy.key_file = Some("privacy".into());
        std::fs::write(secrets.join("jwt"), KEY).unwrap();
        std::fs::write(secrets.join("privacy"), "the key of erasures").unwrap();
        std::fs::write(&config, serde_json::to_vec(&rendered).unwrap()).unwrap();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(secrets.join(format!("log-{}", public.port())))
            .unwrap();
        let process = Command::new(program())
            .args(["serve", "--drain-seconds", "0", "--config"])
            .arg(config)
            .arg("--secrets-dir")
            .arg(secrets)
            .args([
                "--listen",
                &public.to_string(),
                "--internal-listen",
                &internal.to_string(),
            ])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let replica = Self {
            process,
            public,
            internal,
        };
        eventually("the replica", || async {
            let ready = client.get(format!("http://{internal}/readyz")).send().await;
            ready.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        replica
    }

    pub async fn status(&self, client: &reqwest::Client) -> Value {
        let answer = client
            .get(format!("http://{}/status", self.internal))
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
