//! What `replay` and `import` share: the file (plain, gzipped, standard input), the progress bar, and the
//! report on lines that were not understood.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Output, print};

/// Bad lines that are reported one by one; the rest are only counted.
const REPORTED: usize = 10;

/// Opens a file for reading line by line; `-` is standard input, and gzip is recognised by its first bytes.
pub(super) fn open(path: &Path, bar: &ProgressBar) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        return unpack(BufReader::new(std::io::stdin()));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    unpack(BufReader::with_capacity(1 << 18, bar.wrap_read(file)))
}

fn unpack<R: Read + Send + 'static>(mut reader: BufReader<R>) -> anyhow::Result<Box<dyn BufRead + Send>> {
    let gzipped = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    if gzipped {
        let unpacked = flate2::bufread::MultiGzDecoder::new(reader);
        return Ok(Box::new(BufReader::with_capacity(1 << 18, unpacked)));
    }
    Ok(Box::new(reader))
}

/// A bar over the file's bytes; it draws only on a terminal.
pub(super) fn bar(path: &Path) -> ProgressBar {
    let bytes = std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
    let bar = if bytes > 0 {
        ProgressBar::new(bytes)
    } else {
        ProgressBar::new_spinner()
    };
    let template = "{bar:40} {percent:>3} %  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Counts while a file is sent.
pub(super) struct Tally {
    what: &'static str,
    file: PathBuf,
    started: Instant,
    shown: Instant,
    bar: ProgressBar,
    pub sent: usize,
    malformed: usize,
}

#[derive(Serialize)]
struct Summary {
    sent: usize,
    malformed: usize,
    seconds: f64,
    per_second: f64,
}

impl Tally {
    /// `what` is counted: events, products.
    pub fn new(what: &'static str, file: &Path, bar: ProgressBar) -> Self {
        let now = Instant::now();
        Self {
            what,
            file: file.to_owned(),
            started: now,
            shown: now,
            bar,
            sent: 0,
            malformed: 0,
        }
    }

    /// A line was not understood.
    pub fn malformed(&mut self, line: usize, problem: &dyn std::fmt::Display) {
        self.malformed += 1;
        if self.malformed <= REPORTED {
            self.bar
                .suspend(|| eprintln!("{}:{line}: {problem}", self.file.display()));
        }
    }

    /// So many more were acknowledged.
    pub fn acknowledged(&mut self, n: usize) {
        self.sent += n;
        if self.shown.elapsed() >= Duration::from_millis(100) {
            self.shown = Instant::now();
            self.bar
                .set_message(format!("{} {} ({:.0}/s)", self.sent, self.what, self.rate()));
        }
    }

    fn rate(&self) -> f64 {
        self.sent as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Prints the summary; with `strict`, malformed lines make the exit code 1.
    pub fn finish(self, output: Output, strict: bool) -> anyhow::Result<ExitCode> {
        self.bar.finish_and_clear();
        if self.malformed > REPORTED {
            eprintln!(
                "{}: {} more lines are malformed",
                self.file.display(),
                self.malformed - REPORTED
            );
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let summary = Summary {
            sent: self.sent,
            malformed: self.malformed,
            seconds,
            per_second: self.rate(),
        };
        match output {
            Output::Json => print(format!("{}\n", serde_json::to_string(&summary)?).as_bytes())?,
            Output::Text => print(
                format!(
                    "{} {} in {:.1} s ({:.0}/s), {} malformed\n",
                    summary.sent, self.what, seconds, summary.per_second, summary.malformed
                )
                .as_bytes(),
            )?,
        };
        Ok(if strict && self.malformed > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, zipped) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&plain, "one\ntwo\n").unwrap();
        let mut gz =
            flate2::write::GzEncoder::new(File::create(&zipped).unwrap(), flate2::Compression::fast());
        gz.write_all(b"one\ntwo\n").unwrap();
        gz.finish().unwrap();
        for path in [plain, zipped] {
            let lines: Vec<String> = open(&path, &ProgressBar::hidden())
                .unwrap()
                .lines()
                .map(Result::unwrap)
                .collect();
            assert_eq!(lines, ["one", "two"]);
        }
    }
}
