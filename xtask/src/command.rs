//! Running other programs: always with a time limit, and with their last words in the error.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many lines of a failed program's output go into the error.
const TAIL_LINES: usize = 25;

/// One run of another program.
pub struct Cmd {
    program: OsString,
    command: Command,
    shown: String,
    timeout: Duration,
    stderr_inherited: bool,
}

/// What a program printed, and how it ended.
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Cmd {
    /// Prepares `program`; it may take 30 seconds unless [`Cmd::timeout`] says otherwise.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        let mut command = Command::new(&program);
        command.stdin(Stdio::null());
        let shown = program.to_string_lossy().into_owned();
        Self {
            program,
            command,
            shown,
            timeout: Duration::from_secs(30),
            stderr_inherited: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        for arg in args {
            self = self.arg(arg);
        }
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// The cargo that runs this task, as a person would start it. `cargo run` describes the running package in
    /// variables that build scripts watch (ring's does): inherited, they would have half of the dependencies built
    /// anew at each change between cargo and this task.
    #[must_use]
    pub fn cargo() -> Self {
        let mut cmd = Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
            if of_package.iter().any(|prefix| name.starts_with(prefix)) {
                cmd.command.env_remove(&key);
            }
        }
        cmd.dir(crate::release::workspace())
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Gives the program a file as its standard input.
    #[must_use]
    pub fn stdin(mut self, file: std::fs::File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Lets the program write to this process's standard error (cargo's and apt's own progress).
    #[must_use]
    pub fn stderr_inherited(mut self) -> Self {
        self.stderr_inherited = true;
        self
    }

    /// Runs to the end and returns what was printed, whatever the exit status.
    ///
    /// # Errors
    /// When the program cannot be started or takes too long.
    pub fn output(mut self) -> Result<Output> {
        let mut child = self.spawn()?;
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let status = self.wait(&mut child)?;
        let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
        };
        Ok(Output {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// Runs to the end and returns standard output.
    ///
    /// # Errors
    /// Also when the exit status is not zero; the end of its output is in the error.
    pub fn run(self) -> Result<String> {
        let shown = self.shown.clone();
        let output = self.output()?;
        if !output.status.success() {
            let said = if output.stderr.trim().is_empty() {
                &output.stdout
            } else {
                &output.stderr
            };
            bail!(
                "`{shown}` failed ({}):\n{}",
                output.status,
                tail(said, TAIL_LINES)
            );
        }
        Ok(output.stdout)
    }

    /// Whether the program could be run and ended well.
    #[must_use]
    pub fn succeeds(self) -> bool {
        self.output().is_ok_and(|output| output.status.success())
    }

    /// Runs to the end, handing every line of its output to `each` as it comes: those of standard error too, unless
    /// it is inherited.
    ///
    /// # Errors
    /// As [`Cmd::run`].
    pub fn lines(mut self, mut each: impl FnMut(&str)) -> Result<()> {
        let mut child = self.spawn()?;
        let (sender, lines) = mpsc::channel();
        let readers = [
            send_lines(child.stdout.take(), false, sender.clone()),
            send_lines(child.stderr.take(), true, sender),
        ];
        let deadline = Instant::now() + self.timeout;
        let (mut said, mut complained) = (Tail::default(), Tail::default());
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((is_stderr, line)) => {
                    each(&line);
                    if is_stderr { &mut complained } else { &mut said }.push(line);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    end(&mut child);
                    bail!("`{}` took longer than {} s", self.shown, self.timeout.as_secs());
                }
            }
        }
        let status = self.wait(&mut child)?;
        for reader in readers {
            // A reader that panicked lost lines only; the exit status decides.
            reader.join().ok();
        }
        if !status.success() {
            let last = if complained.0.is_empty() { said } else { complained };
            bail!(
                "`{}` failed ({status}):\n{}",
                self.shown,
                Vec::from(last.0).join("\n")
            );
        }
        Ok(())
    }

    /// As [`Cmd::lines`], but standard error goes straight to the terminal.
    ///
    /// # Errors
    /// As [`Cmd::run`].
    pub fn stdout_lines(self, each: impl FnMut(&str)) -> Result<()> {
        self.stderr_inherited().lines(each)
    }

    fn spawn(&mut self) -> Result<Child> {
        let stderr = if self.stderr_inherited {
            Stdio::inherit()
        } else {
            Stdio::piped()
        };
        self.command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot run `{}`", self.program.to_string_lossy()))
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("waiting for `{}`", self.shown))?
            {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                end(child);
                bail!("`{}` took longer than {} s", self.shown, self.timeout.as_secs());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Kills a child that is out of time and reaps it.
fn end(child: &mut Child) {
    // Both fail only when it ended by itself in the meantime, which is what is wanted.
    child.kill().ok();
    child.wait().ok();
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read up to an error is still worth showing.
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

/// The last lines of an output.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: String) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }
}

fn send_lines(
    pipe: Option<impl Read + Send + 'static>,
    is_stderr: bool,
    sender: mpsc::Sender<(bool, String)>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if sender
                .send((is_stderr, String::from_utf8_lossy(&line).trim_end().to_owned()))
                .is_err()
            {
                return;
            }
        }
    })
}

/// The last `count` lines of a text.
#[must_use]
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Where `program` lies: in `PATH`, or in the system folders that a plain user's `PATH` may lack.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_shows_its_last_words() {
        let error = Cmd::new("sh")
            .args(["-c", "echo why >&2; exit 3"])
            .run()
            .expect_err("exit 3");
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_its_time_limit() {
        let begun = Instant::now();
        let error = Cmd::new("sleep")
            .arg("30")
            .timeout(Duration::from_millis(50))
            .run()
            .expect_err("too slow");
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn lines_arrive_from_both_outputs() {
        let mut seen = Vec::new();
        Cmd::new("sh")
            .args(["-c", "echo one; echo two >&2"])
            .lines(|line| seen.push(line.to_owned()))
            .expect("runs");
        seen.sort();
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn the_tail_of_a_short_text_is_the_text() {
        assert_eq!(tail("a\nb\n", 5), "a\nb");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
    }
}
