//! `kubectl` against one cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use serde_json::Value;

use crate::command::Cmd;

/// A `kubectl` with its kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    /// `None`: the user's own kubeconfig and current context.
    kubeconfig: Option<PathBuf>,
}

impl Kubectl {
    /// A `kubectl` that uses `kubeconfig`, or the user's own.
    pub fn new(program: impl Into<PathBuf>, kubeconfig: Option<PathBuf>) -> Self {
        Self {
            program: program.into(),
            kubeconfig,
        }
    }

    /// How a person would type it.
    pub fn shown(&self) -> String {
        match &self.kubeconfig {
            Some(file) => format!("{} --kubeconfig {}", self.program.display(), file.display()),
            None => "kubectl".to_owned(),
        }
    }

    /// A command with these arguments (split at spaces), not yet started.
    pub fn cmd(&self, args: &str) -> Cmd {
        let mut cmd = Cmd::new(&self.program);
        if let Some(file) = &self.kubeconfig {
            cmd = cmd.arg("--kubeconfig").arg(file);
        }
        cmd.args(args.split_whitespace()).timeout(Duration::from_secs(60))
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub fn run(&self, args: &str) -> Result<String> {
        self.cmd(args).run()
    }

    /// As [`Kubectl::run`] with `-o json`, parsed.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub fn json(&self, args: &str) -> Result<Value> {
        let text = self.run(&format!("{args} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {args}: not JSON"))
    }

    /// Writes the keys of a Secret as files that only their owner may read.
    ///
    /// # Errors
    /// When there is no such Secret, or a file cannot be written.
    pub fn write_secret(&self, secret: &str, into: &Path) -> Result<()> {
        let object = self.json(&format!("get secret {secret}"))?;
        std::fs::create_dir_all(into)?;
        for (key, value) in object["data"].as_object().into_iter().flatten() {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(value.as_str().unwrap_or_default())
                .with_context(|| format!("Secret {secret}, key {key}"))?;
            write_private(&into.join(key), &bytes)?;
        }
        Ok(())
    }

    /// Applies a file or folder.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, path: &Path) -> Result<String> {
        self.cmd("apply -f").arg(path).run()
    }

    /// Applies a text: written to `scratch` first, because a person who looks for the cause of an error wants the file.
    ///
    /// # Errors
    /// When the file cannot be written or the API server refuses it.
    pub fn apply_text(&self, text: &str, scratch: &Path) -> Result<String> {
        std::fs::write(scratch, text).with_context(|| format!("writing {}", scratch.display()))?;
        self.apply(scratch)
    }

    /// Waits until every CRD is established. One that was made this moment has no conditions yet, which `kubectl wait` ends
    /// with an error for.
    ///
    /// # Errors
    /// When one is not after a minute.
    pub fn crds_established(&self) -> Result<()> {
        self.until("every CRD is established", Duration::from_secs(60), || {
            self.run("wait --for=condition=Established --timeout=10s crd --all")?;
            Ok(Poll::Done(()))
        })
    }

    /// Asks again every `pause` until `done` returns something, for `limit` at most.
    ///
    /// # Errors
    /// When time is over: the last thing that `done` said is in the message.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> Result<Poll<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let last = match done() {
                Ok(Poll::Done(value)) => return Ok(value),
                Ok(Poll::Waiting(why)) => why,
                Err(error) => format!("{error:#}"),
            };
            if begun.elapsed() > limit {
                bail!(
                    "{what}: not within {} s; the last answer was: {last}",
                    limit.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What one look found.
pub enum Poll<T> {
    /// It is so.
    Done(T),
    /// Not yet, and why.
    Waiting(String),
}

/// Status, reason and message of a condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let all = object.pointer("/status/conditions")?.as_array()?;
    let found = all.iter().find(|c| c["type"] == kind)?;
    Some((
        found["status"].as_str()?,
        found["reason"].as_str().unwrap_or(""),
        found["message"].as_str().unwrap_or(""),
    ))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // Made anew, because the mode of a file that exists would stay as it is.
    std::fs::remove_file(path).ok();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_found_by_its_type() {
        let object = serde_json::json!({"status": {"conditions": [
            {"type": "A", "status": "False", "reason": "R", "message": "m"},
            {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]}});
        assert_eq!(condition(&object, "A"), Some(("False", "R", "m")));
        assert_eq!(condition(&object, "Ready").map(|c| c.0), Some("True"));
        assert_eq!(condition(&object, "B"), None);
    }
}
