//! Daemons of a run: started in sessions of their own, remembered by process id *and* start time, so that a
//! process id that the kernel has given to somebody else is never signalled.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::command::{self, Cmd, find};
use crate::paths::write;

/// How often a daemon that is starting or stopping is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A program that runs on after this one has ended.
#[derive(Clone, Debug, Default)]
pub struct Daemon {
    /// Its name: of the pid file and the log.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables added to its environment.
    pub env: Vec<(String, String)>,
    /// Configuration files to write before it starts. A change in one restarts it.
    pub configs: Vec<(PathBuf, String)>,
    /// The network namespace to run in, if not the machine's.
    pub netns: Option<String>,
}

impl Daemon {
    /// A daemon with arguments and nothing else.
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            ..Self::default()
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a configuration file.
    #[must_use]
    pub fn config(mut self, path: PathBuf, content: String) -> Self {
        self.configs.push((path, content));
        self
    }

    /// What decides whether a running daemon is the one that is wanted.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{:?}",
            (&self.program, &self.args, &self.env, &self.configs, &self.netns)
        ));
        hex::encode(&hash.finalize()[..16])
    }

    fn command(&self) -> Command {
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        // Both end in exec, so the process id is the daemon's own. `nsenter`, not `ip netns exec`: that remounts
        // /sys and hides the control groups.
        let own_session = find("setsid");
        words.extend(own_session.iter().map(Into::into));
        if let Some(netns) = &self.netns {
            words.extend(["nsenter".into(), format!("--net=/run/netns/{netns}").into()]);
        }
        words.push(self.program.clone().into());
        words.extend(self.args.iter().map(Into::into));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        #[cfg(unix)]
        if own_session.is_none() {
            // At least Ctrl-C at the terminal does not reach it.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        command
    }
}

/// What a pid file holds.
#[derive(Debug, Serialize, Deserialize)]
struct PidFile {
    pid: i32,
    /// See [`identity`].
    identity: String,
    fingerprint: String,
    program: PathBuf,
}

/// The daemons of one run, by their pid files.
#[derive(Clone, Debug)]
pub struct Processes {
    dir: PathBuf,
}

impl Processes {
    /// The daemons whose pid files and logs lie under `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where a daemon's output goes.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join("pid").join(format!("{name}.json"))
    }

    fn read(&self, name: &str) -> Option<PidFile> {
        serde_json::from_str(&fs::read_to_string(self.pid_file(name)).ok()?).ok()
    }

    /// The process id of a daemon that runs.
    #[must_use]
    pub fn alive(&self, name: &str) -> Option<i32> {
        let file = self.read(name)?;
        (identity(file.pid)? == file.identity).then_some(file.pid)
    }

    /// The names of all daemons that have a pid file, running or not.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("pid")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Starts a daemon, unless it runs with the same arguments and configuration already; one that runs with others
    /// is restarted. Returns whether it was started.
    ///
    /// # Errors
    /// When it cannot be started, or the old one cannot be stopped.
    pub fn start(&self, daemon: &Daemon) -> Result<bool> {
        let fingerprint = daemon.fingerprint();
        if self.alive(&daemon.name).is_some() {
            if self
                .read(&daemon.name)
                .is_some_and(|file| file.fingerprint == fingerprint)
            {
                return Ok(false);
            }
            self.stop(&daemon.name, Signal::TERM)?;
        }
        for (path, content) in &daemon.configs {
            write(path, content)?;
        }
        let log = self.log(&daemon.name);
        fs::create_dir_all(self.dir.join("log")).context("making the log folder")?;
        if log.exists() {
            // One log a life: what is looked for in it, and shown when it dies, is of this life.
            fs::rename(&log, log.with_extension("log.1")).context("keeping the previous log")?;
        }
        let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let child = daemon
            .command()
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("sharing the log file")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {} ({})", daemon.name, daemon.program.display()))?;
        let pid = i32::try_from(child.id()).context("process ids are positive")?;
        let Some(identity) = identity(pid) else {
            bail!(
                "{} ended at once:\n{}",
                daemon.name,
                self.last_words(&daemon.name)
            );
        };
        let file = PidFile {
            pid,
            identity,
            fingerprint,
            program: daemon.program.clone(),
        };
        write(&self.pid_file(&daemon.name), &serde_json::to_string(&file)?)?;
        Ok(true)
    }

    /// Waits until `ready` says yes.
    ///
    /// # Errors
    /// When the daemon dies or is not ready in time; the end of its log is in the error.
    pub fn wait_ready(
        &self,
        name: &str,
        timeout: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            if self.alive(name).is_none() {
                bail!(
                    "{name} died; the end of {}:\n{}",
                    self.log(name).display(),
                    self.last_words(name)
                );
            }
            if ready() {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > timeout {
                bail!(
                    "{name} is not ready after {} s; the end of {}:\n{}",
                    timeout.as_secs(),
                    self.log(name).display(),
                    self.last_words(name)
                );
            }
            std::thread::sleep(POLL);
        }
    }

    fn last_words(&self, name: &str) -> String {
        let log = fs::read(self.log(name)).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&log), 15)
    }

    /// Stops a daemon: sends `signal`, and kills it when it has not ended after 20 seconds. Returns whether it ran.
    ///
    /// # Errors
    /// When it cannot be signalled, or does not end even when killed.
    pub fn stop(&self, name: &str, signal: Signal) -> Result<bool> {
        let Some(pid) = self.alive(name) else {
            fs::remove_file(self.pid_file(name)).ok();
            return Ok(false);
        };
        let id = Pid::from_raw(pid).context("process ids are positive")?;
        for (signal, patience) in [(signal, 20), (Signal::KILL, 10)] {
            if let Err(error) = kill_process(id, signal)
                && self.alive(name).is_some()
            {
                return Err(error).with_context(|| format!("stopping {name} (process {pid})"));
            }
            let deadline = Instant::now() + Duration::from_secs(patience);
            while Instant::now() < deadline {
                // Reaps it if it is our own child; if it is not, this fails and init reaps it.
                waitpid(Some(id), WaitOptions::NOHANG).ok();
                if self.alive(name).is_none() {
                    fs::remove_file(self.pid_file(name)).ok();
                    return Ok(true);
                }
                std::thread::sleep(POLL);
            }
        }
        bail!("{name} (process {pid}) does not end, even when killed")
    }
}

/// What tells one process from a later one with the same id: the boot and the time in it at which it started.
/// `None` when there is no such process, or it has ended and only waits to be reaped.
fn identity(pid: i32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        return Some(format!("{} {}", boot.trim(), started(&stat)?));
    }
    let pid = pid.to_string();
    let shown = Cmd::new("ps")
        .args(["-o", "stat=,lstart=", "-p", pid.as_str()])
        .run()
        .ok()?;
    let (state, start) = shown.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| start.trim().to_owned())
}

/// The start time in a line of `/proc/PID/stat`, in clock ticks since boot; `None` for a process that has ended.
fn started(stat: &str) -> Option<u64> {
    // The name is in parentheses and may itself hold blanks and parentheses: count from the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22 of the whole line; the state was field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Daemon {
        Daemon::new("sleeper", "/bin/sleep").args(["60"])
    }

    #[test]
    fn the_start_time_is_read_behind_a_name_with_blanks_and_parentheses() {
        let line = |state: &str| {
            format!("42 (a ) b) {state} 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3")
        };
        assert_eq!(started(&line("S")), Some(98_765));
        assert_eq!(started(&line("Z")), None);
        assert_eq!(started("garbage"), None);
    }

    #[test]
    fn a_daemon_is_started_once_and_stopped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let processes = Processes::new(dir.path());
        assert!(processes.start(&sleeper()).expect("starts"));
        let pid = processes.alive("sleeper").expect("runs");
        assert!(!processes.start(&sleeper()).expect("runs already"));
        assert_eq!(processes.alive("sleeper"), Some(pid));
        assert_eq!(processes.names(), ["sleeper"]);
        assert!(processes.stop("sleeper", Signal::TERM).expect("stops"));
        assert!(!processes.stop("sleeper", Signal::TERM).expect("stopped already"));
        assert!(identity(pid).is_none() && processes.names().is_empty());
    }

    #[test]
    fn other_arguments_restart_a_daemon() {
        let dir = tempfile::tempdir().expect("temp dir");
        let processes = Processes::new(dir.path());
        processes.start(&sleeper()).expect("starts");
        let first = processes.alive("sleeper");
        let other = Daemon::new("sleeper", "/bin/sleep").args(["61"]);
        assert!(processes.start(&other).expect("restarts"));
        assert_ne!(processes.alive("sleeper"), first);
        processes.stop("sleeper", Signal::KILL).expect("stops");
    }

    #[test]
    fn a_process_that_got_a_reused_id_is_not_signalled() {
        let dir = tempfile::tempdir().expect("temp dir");
        let processes = Processes::new(dir.path());
        let mut other = Command::new("/bin/sleep").arg("60").spawn().expect("starts");
        let file = PidFile {
            pid: i32::try_from(other.id()).expect("positive"),
            identity: "another start time".to_owned(),
            fingerprint: String::new(),
            program: PathBuf::new(),
        };
        write(
            &processes.pid_file("ours"),
            &serde_json::to_string(&file).expect("JSON"),
        )
        .expect("writes");
        assert!(processes.alive("ours").is_none());
        assert!(!processes.stop("ours", Signal::KILL).expect("nothing to do"));
        assert!(
            other.try_wait().expect("our child").is_none(),
            "the other process must live on"
        );
        other.kill().expect("ours to kill");
        other.wait().expect("ends");
    }

    #[test]
    fn a_daemon_that_dies_while_starting_shows_its_last_words() {
        let dir = tempfile::tempdir().expect("temp dir");
        let processes = Processes::new(dir.path());
        let dying = Daemon::new("dying", "/bin/sh").args(["-c", "echo no such flag; sleep 0.1; exit 1"]);
        processes.start(&dying).expect("starts");
        let error = processes
            .wait_ready("dying", Duration::from_secs(10), || false)
            .expect_err("dies");
        assert!(error.to_string().contains("no such flag"), "{error}");
    }
}
