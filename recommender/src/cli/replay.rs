//! `recommender replay`.

use std::io::{BufRead, Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::ProgressBar;
use recommendation_api::Event;
use tokio::sync::mpsc;

use super::Output;
use super::feed::{Tally, bar, open};
use super::target::{Batch, CHUNK, TargetArgs};
use crate::clock::now_ms;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    recommender replay events.jsonl.gz --kafka localhost:9092 --shift-to-now\n  \
    recommender replay events.jsonl --embedded ./shop.db\n  \
    zcat events.jsonl.gz | recommender replay - --url http://localhost:8080 --token \"$TOKEN\"")]
pub(super) struct Args {
    /// Events, a JSON object a line, plain or gzipped; - is standard input
    file: PathBuf,
    #[command(flatten)]
    target: TargetArgs,
    /// Shift all times by the same amount, so that the last event is now
    #[arg(long)]
    shift_to_now: bool,
    /// Exit code 1 if a line is malformed (such lines are reported and left out either way)
    #[arg(long)]
    strict: bool,
    /// How to print the summary
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// What the reading thread hands over.
enum Read {
    Events(Vec<Event>),
    Malformed(usize, String),
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut target = args.target.open(|topics| topics.events).await?;
    let progress = bar(&args.file);
    let (sender, mut receiver) = mpsc::channel(16);
    let (file, shown, shift) = (args.file.clone(), progress.clone(), args.shift_to_now);
    // Parsing on its own thread: the other core sends meanwhile.
    let reading = tokio::task::spawn_blocking(move || read(&file, &shown, shift, &sender));
    let mut tally = Tally::new("events", &args.file, progress);
    while let Some(item) = receiver.recv().await {
        match item {
            Read::Events(events) => tally.acknowledged(target.send(Batch::Events(events)).await?),
            Read::Malformed(line, problem) => tally.malformed(line, &problem),
        }
    }
    reading.await??;
    let rest = target.finish().await?;
    tally.acknowledged(rest);
    tally.finish(args.output, args.strict)
}

fn read(file: &Path, progress: &ProgressBar, shift: bool, sender: &mpsc::Sender<Read>) -> anyhow::Result<()> {
    let mut reader = open(file, progress)?;
    let mut delta = 0;
    if shift {
        // Twice over the same text: once for the last time, once to send. A pipe can be read only once.
        if file == Path::new("-") {
            let mut text = Vec::new();
            reader.read_to_end(&mut text)?;
            delta = shift_by(&mut Cursor::new(&text))?;
            reader = Box::new(Cursor::new(text));
        } else {
            delta = shift_by(&mut *open(file, &ProgressBar::hidden())?)?;
        }
    }
    let mut events = Vec::with_capacity(CHUNK);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader
            .read_until(b'\n', &mut line)
            .with_context(|| format!("reading line {number}"))?
            == 0
        {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let item = match Event::parse(&line, None) {
            Ok(mut event) => {
                event.timestamp_ms = event.timestamp_ms.map(|ms| ms.saturating_add(delta));
                events.push(event);
                if events.len() < CHUNK {
                    continue;
                }
                Read::Events(std::mem::replace(&mut events, Vec::with_capacity(CHUNK)))
            }
            Err(e) => Read::Malformed(number, e.to_string()),
        };
        if sender.blocking_send(item).is_err() {
            return Ok(()); // sending failed, and says why
        }
    }
    if !events.is_empty() {
        let _ = sender.blocking_send(Read::Events(events));
    }
    Ok(())
}

/// By how many milliseconds to shift, so that the last event is now; 0 if no event has a time.
fn shift_by(reader: &mut dyn BufRead) -> anyhow::Result<i64> {
    let mut last = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(last.map_or(0, |last| now_ms() - last));
        }
        last = last.max(Event::parse(&line, None).ok().and_then(|e| e.timestamp_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(text: &str, shift: bool) -> (Vec<Event>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        std::fs::write(&path, text).unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        read(&path, &ProgressBar::hidden(), shift, &sender).unwrap();
        drop(sender);
        let (mut events, mut bad) = (Vec::new(), Vec::new());
        while let Some(item) = receiver.blocking_recv() {
            match item {
                Read::Events(more) => events.extend(more),
                Read::Malformed(line, _) => bad.push(line),
            }
        }
        (events, bad)
    }

    #[test]
    fn malformed_lines_are_left_out_and_told_by_their_number() {
        let good = r#"{"customer_id":"c","product_id":"p","event_type":"click"}"#;
        let (events, bad) = collect(&format!("{good}\n\nnot json\n{good}\n{{}}"), false);
        assert_eq!((events.len(), bad), (2, vec![3, 5]));
    }

    #[test]
    fn shifting_keeps_distances_and_ends_now() {
        let event = |t: &str| {
            format!(r#"{{"customer_id":"c","product_id":"p","event_type":"click","timestamp":"{t}"}}"#)
        };
        let text = [event("2010-12-02T00:00:00Z"), event("2010-12-01T00:00:00Z")].join("\n");
        let (events, _) = collect(&text, true);
        let times: Vec<i64> = events.iter().filter_map(|e| e.timestamp_ms).collect();
        assert_eq!(times[0] - times[1], 86_400_000);
        assert!((now_ms() - times[0]).abs() < 10_000);
    }
}
