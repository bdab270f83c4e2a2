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

/// A file with its text.
type Named<'a> = (&'a Path, String);

fn test(args: &Args) -> anyhow::Result<Option<Named<'_>>> {
    let test = args.test.as_deref();
    test.map(|path| Ok((path, read(path)?))).transpose()
}

/// Lines of the test after those of training, and where a line stands by its number.
fn joined((path, mut lines): Named<'_>, test: Option<Named<'_>>) -> (String, String) {
    let Some((after, test)) = test else {
        return (lines, path.display().to_string());
    };
    let place = format!(
        "{}, and after its {} lines {}",
        path.display(),
        lines.lines().count(),
        after.display()
    );
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
    // A byte order mark means nothing at the beginning of a file, and is no JSON in the midst of one.
    lines.push_str(test.trim_start_matches('\u{feff}'));
    (lines, place)
}

/// What is learned and asked.
pub(super) fn load(args: &Args) -> anyhow::Result<Dataset> {
    let train = read(&args.train)?;
    let data = match (args.format, test(args)?) {
        (Format::Events, test) => {
            let split_ms = match (&test, args.split_at) {
                (_, Some(at)) => at.as_millisecond(),
                (Some((path, test)), None) => {
                    eval::oldest_event(test).with_context(|| path.display().to_string())?
                }
                (None, None) => bail!("events need --split-at or --test"),
            };
            let (lines, place) = joined((&args.train, train), test);
            eval::parse_events(&lines, split_ms).context(place)?
        }
        (_, None) => bail!("this format needs --test"),
        (Format::Interactions, Some((_, test))) => eval::parse_interactions(&train, &test)?,
        // Any line is a session; what may be wrong is in the test.
        (Format::Sessions, Some((path, test))) => {
            eval::parse_sessions(&train, &test).with_context(|| path.display().to_string())?
        }
    };
    Ok(data)
}

/// All events, for a replay.
pub(super) fn log(args: &Args) -> anyhow::Result<Vec<LogEvent>> {
    if args.format != Format::Events {
        bail!("--prequential needs --format events: only those have times");
    }
    let (lines, place) = joined((&args.train, read(&args.train)?), test(args)?);
    eval::parse_log(&lines).context(place)
}
