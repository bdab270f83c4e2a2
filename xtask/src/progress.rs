//! Progress for every long step, and a table of how long each took.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal: how often a step that goes on says so.
const REMINDER: Duration = Duration::from_secs(30);

/// Records the steps of a task: their names, how long each took and whether it succeeded.
#[derive(Debug, Default)]
pub struct Steps {
    done: Vec<Step>,
}

/// One finished step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Whether it succeeded.
    pub succeeded: bool,
}

impl Steps {
    /// An empty record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs one step with progress shown, and records it.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce(&Progress) -> Result<T>) -> Result<T> {
        let progress = Progress::start(name);
        let begun = Instant::now();
        let result = work(&progress);
        let took = begun.elapsed();
        progress.finish(took, result.is_ok());
        self.done.push(Step {
            name: name.to_owned(),
            took,
            succeeded: result.is_ok(),
        });
        result
    }

    /// The finished steps, in order.
    #[must_use]
    pub fn done(&self) -> &[Step] {
        &self.done
    }

    /// The table of times, ready to print.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self
            .done
            .iter()
            .map(|step| step.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        let mut table = String::new();
        let mut total = Duration::ZERO;
        for step in &self.done {
            let mark = if step.succeeded { "" } else { "  failed" };
            table += &format!("{:<width$}  {:>8}{mark}\n", step.name, seconds(step.took));
            total += step.took;
        }
        table += &format!("{:<width$}  {:>8}\n", "total", seconds(total));
        table
    }
}

/// A duration as people read it: `0.4 s`, `12.3 s`, `7 min 05 s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 100 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// The step that is running now: on a terminal a spinner or a bar with the elapsed time, elsewhere plain lines.
pub struct Progress {
    name: String,
    shown: Shown,
}

enum Shown {
    Terminal(ProgressBar),
    Plain {
        now: Arc<Mutex<Count>>,
        stop: mpsc::Sender<()>,
        reminder: JoinHandle<()>,
    },
}

#[derive(Default)]
struct Count {
    message: String,
    position: u64,
    length: Option<u64>,
}

impl Count {
    fn describe(&self) -> String {
        match (self.length, self.position, self.message.as_str()) {
            (Some(length), position, message) => format!(": {position} of {length} {message}"),
            (None, _, "") => String::new(),
            (None, _, message) => format!(": {message}"),
        }
    }
}

impl Progress {
    fn start(name: &str) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
            bar.set_style(style("{spinner} {prefix}  {elapsed}  {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            Shown::Terminal(bar)
        } else {
            eprintln!("… {name}");
            let now = Arc::new(Mutex::new(Count::default()));
            let (stop, stopped) = mpsc::channel();
            let (name, count) = (name.to_owned(), Arc::clone(&now));
            let reminder = std::thread::spawn(move || {
                let begun = Instant::now();
                while stopped.recv_timeout(REMINDER) == Err(RecvTimeoutError::Timeout) {
                    let count = count.lock().unwrap_or_else(PoisonError::into_inner).describe();
                    eprintln!("… {name}{count} (still running, {})", seconds(begun.elapsed()));
                }
            });
            Shown::Plain { now, stop, reminder }
        };
        Self {
            name: name.to_owned(),
            shown,
        }
    }

    /// Says what the step is doing now.
    pub fn message(&self, message: impl Into<String>) {
        match &self.shown {
            Shown::Terminal(bar) => bar.set_message(message.into()),
            Shown::Plain { now, .. } => {
                now.lock().unwrap_or_else(PoisonError::into_inner).message = message.into();
            }
        }
    }

    /// Says how many units there are in all: from here on a bar instead of a spinner.
    pub fn length(&self, length: u64, unit: &str) {
        match &self.shown {
            Shown::Terminal(bar) => {
                bar.set_style(style(
                    "{spinner} {prefix}  {elapsed}  {bar:30} {pos}/{len} {wide_msg}",
                ));
                bar.set_length(length);
                bar.set_message(unit.to_owned());
            }
            Shown::Plain { now, .. } => {
                let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
                now.length = Some(length);
                unit.clone_into(&mut now.message);
            }
        }
    }

    /// Says how many units are done.
    pub fn position(&self, position: u64) {
        match &self.shown {
            Shown::Terminal(bar) => bar.set_position(position),
            Shown::Plain { now, .. } => {
                now.lock().unwrap_or_else(PoisonError::into_inner).position = position;
            }
        }
    }

    /// Prints a line that stays, above the progress.
    pub fn line(&self, line: &str) {
        match &self.shown {
            Shown::Terminal(bar) => bar.suspend(|| eprintln!("{line}")),
            Shown::Plain { .. } => eprintln!("{line}"),
        }
    }

    fn finish(self, took: Duration, succeeded: bool) {
        match self.shown {
            Shown::Terminal(bar) => bar.finish_and_clear(),
            Shown::Plain { stop, reminder, .. } => {
                drop(stop);
                // It only prints: a panic there (standard error closed) must not fail the step.
                reminder.join().ok();
            }
        }
        let mark = if succeeded { '✓' } else { '✗' };
        eprintln!("{mark} {}  {}", self.name, seconds(took));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_step_and_the_failed_one() {
        let mut steps = Steps::new();
        steps.run("first", |_| Ok(())).expect("succeeds");
        assert!(
            steps
                .run("second step", |_| -> Result<()> { anyhow::bail!("no") })
                .is_err()
        );
        let table = steps.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0].starts_with("first") && !lines[0].contains("failed"),
            "{table}"
        );
        assert!(
            lines[1].starts_with("second step") && lines[1].ends_with("failed"),
            "{table}"
        );
        assert!(lines[2].starts_with("total"), "{table}");
    }

    #[test]
    fn durations_read_as_seconds_then_as_minutes() {
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(425)), "7 min 05 s");
    }
}
