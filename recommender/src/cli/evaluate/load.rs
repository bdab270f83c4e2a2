//! Reading the data of an evaluation.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use recommender_engine::eval::{self, Dataset, LogEvent};

use super::super::feed::{bar, open};
use super::{Args, Format};

fn read(path: &Path) -> anyhow::Result<String> {
    let progress = bar(path);
    progress.set_message(format!("reading {}", path.display()));
    let mut text = String::new();
    open(path, &progress)?
        .read_to_string(&mut text)
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    progress.finish_and_clear();
    Ok(text)
}

/// What is learned and asked.
pub(super) fn load(args: &Args) -> anyhow::Result<Dataset> {
    let mut train = read(&args.train)?;
    let test = args.test.as_deref().map(read).transpose()?;
    let path_of_test = || args.test.as_deref().unwrap_or(&args.train).display().to_string();
    let data = match (args.format, test) {
        (Format::Events, test) => {
            let split_ms = match (&test, args.split_at) {
                (_, Some(at)) => at.as_millisecond(),
                (Some(test), None) => eval::oldest_event(test).with_context(path_of_test)?,
                (None, None) => bail!("events need --split-at or --test"),
            };
            let lines = train.lines().count();
            if let Some(test) = test {
                if !train.ends_with('\n') {
                    train.push('\n');
                }
                train.push_str(&test);
            }
            eval::parse_events(&train, split_ms).with_context(|| match &args.test {
                Some(test) => format!(
                    "{}, and after its {lines} lines {}",
                    args.train.display(),
                    test.display()
                ),
                None => args.train.display().to_string(),
            })?
        }
        (_, None) => bail!("this format needs --test"),
        (Format::Interactions, Some(test)) => eval::parse_interactions(&train, &test)?,
        // Any line is a session; what may be wrong is in the test.
        (Format::Sessions, Some(test)) => eval::parse_sessions(&train, &test).with_context(path_of_test)?,
    };
    Ok(data)
}

/// All events, for a replay.
pub(super) fn log(args: &Args) -> anyhow::Result<Vec<LogEvent>> {
    if args.format != Format::Events {
        bail!("--prequential needs --format events: only those have times");
    }
    let mut text = read(&args.train)?;
    if let Some(test) = &args.test {
        text.push('\n');
        text.push_str(&read(test)?);
    }
    Ok(eval::parse_log(&text)?)
}
