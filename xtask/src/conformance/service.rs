//! A recommender in embedded mode, as a program of its own, for suites that only need HTTP.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::Cmd;
use crate::paths::write;
use crate::progress::Steps;
use crate::release;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The key that signs webhooks of this service.
pub(super) const HMAC_SECRET: &str = "a key of conformance tests";
/// The publishable key of this service.
pub(super) const PUBLISHABLE_KEY: &str = "pk_conformance";
/// A user that may sign in.
pub(super) const USER: &str = "shop";
/// That user's password.
pub(super) const PASSWORD: &str = "conformance";

/// A running service; ends when dropped.
pub(super) struct Service {
    process: Child,
    dir: PathBuf,
    program: PathBuf,
    /// `http://127.0.0.1:<port>`
    pub url: String,
}

/// What a suite wants of the service.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// A key for webhooks, which are unsigned otherwise.
    pub signed: bool,
    /// Publishable keys; what needs one is open to everybody otherwise.
    pub keys: bool,
    /// Of `/api/resource`.
    pub resource_per_minute: u32,
}

impl Service {
    /// Builds the program and starts it on ports of its own with an empty database.
    pub(super) fn start(wanted: Wanted, steps: &mut Steps) -> Result<Self> {
        // The build that images and demos share.
        let program = steps
            .run("Build the release binaries", release::build)?
            .recommender;
        let dir = std::env::temp_dir().join(format!("recommender-conformance-{}", std::process::id()));
        crate::paths::remove_all(&dir)?;
        let hash = hash_password(&program, &dir)?;
        let user = serde_json::json!({
            "passwordHash": hash.trim(),
            "scopes": ["events:write", "catalog:write", "recommendations:read", "customers:admin", "insights:read"],
        });
        write(&dir.join("users").join(USER), &user.to_string())?;
        write(&dir.join("hmac"), HMAC_SECRET)?;
        write(&dir.join("web"), PUBLISHABLE_KEY)?;
        let mut config = serde_json::json!({
            "auth": {"usersDir": "users"},
            "rateLimits": {"resourcePerMinute": wanted.resource_per_minute},
        });
        if wanted.signed {
            config["webhooks"] = serde_json::json!({"hmacSecretFile": "hmac"});
        }
        if wanted.keys {
            config["auth"]["publishableKeys"] = serde_json::json!([{"name": "web", "keyFile": "web"}]);
        }
        write(&dir.join("config.json"), &config.to_string())?;
        let (port, internal) = (free_port()?, free_port()?);
        let log = std::fs::File::create(dir.join("log")).context("making the service's log")?;
        let process = Command::new(&program)
            .args(["serve", "--log-format", "text", "--embedded"])
            .arg(dir.join("shop.db"))
            .arg("--config")
            .arg(dir.join("config.json"))
            .arg("--secrets-dir")
            .arg(&dir)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--internal-listen", &format!("127.0.0.1:{internal}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut service = Self {
            process,
            dir,
            program,
            url: format!("http://127.0.0.1:{port}"),
        };
        service.wait_ready(internal)?;
        Ok(service)
    }

    fn wait_ready(&mut self, internal: u16) -> Result<()> {
        let started = Instant::now();
        let url = format!("http://127.0.0.1:{internal}/readyz");
        while ureq::get(&url).call().is_err() {
            let ended = self.process.try_wait()?.is_some();
            if ended || started.elapsed() > READY_TIMEOUT {
                bail!("the service did not become ready:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// A token with every scope.
    pub(super) fn token(&self) -> Result<String> {
        let token = Cmd::new(&self.program)
            .args(["token", "--embedded"])
            .arg(self.dir.join("shop.db"))
            .args(["--user", "conformance", "--lifetime", "1d"])
            .args(["--scope", "events:write,catalog:write,recommendations:read"])
            .run()?;
        Ok(token.trim().to_owned())
    }

    /// The end of what it logged.
    pub(super) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        crate::command::tail(&log, 40)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when it ended by itself, which is what is wanted.
        self.process.kill().ok();
        self.process.wait().ok();
        crate::paths::remove_all(&self.dir).ok();
    }
}

fn hash_password(program: &Path, dir: &Path) -> Result<String> {
    let file = dir.join("password");
    write(&file, PASSWORD)?;
    let typed = std::fs::File::open(&file).context("reading the password back")?;
    Cmd::new(program).arg("hash-password").stdin(typed).run()
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
