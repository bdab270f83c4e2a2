//! The catalogue and a year of real events, into Kafka.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Place;
use crate::command::Cmd;
use crate::kubectl::Poll;
use crate::progress::Steps;
use crate::release;

/// Events of the Online Retail data set.
pub const EVENTS: u64 = 406_829;

/// Imports the catalogue and replays the events, unless an earlier demo did.
pub fn feed(place: &Place, steps: &mut Steps) -> Result<()> {
    let there = learned(&place.statuses()?);
    if there >= EVENTS {
        println!(
            "Kafka holds {there} events of an earlier demo already (`cargo xtask down --wipe` starts afresh)"
        );
        return Ok(());
    }
    let data = release::workspace().join("data/online-retail");
    let recommender = |args: &[&str]| {
        Cmd::new(&place.binaries.recommender)
            .args(args)
            .args(["--kafka", &place.kafka])
            .timeout(Duration::from_secs(300))
            .stderr_inherited()
    };
    let catalogue = data.join("products.csv").display().to_string();
    steps.run("Catalogue imported", |_| {
        recommender(&["import", &catalogue]).run()
    })?;
    let events = data.join("events.jsonl.gz").display().to_string();
    let said = steps.run("A year of events replayed", |_| {
        recommender(&["replay", &events, "--shift-to-now"]).run()
    })?;
    print!("{said}");
    Ok(())
}

/// Waits until every replica has read everything.
pub fn wait_learned(place: &Place, steps: &mut Steps) -> Result<()> {
    steps.run("Every replica has learned them", |progress| {
        progress.length(EVENTS, "events");
        place.kubectl.until(
            "every replica has learned the events",
            Duration::from_secs(120),
            || {
                let all = place.statuses()?;
                let (events, lag) = (
                    learned(&all),
                    all.iter().filter_map(|s| s["lagRecords"].as_u64()).max(),
                );
                progress.position(events);
                Ok(if events >= EVENTS && lag == Some(0) {
                    Poll::Done(())
                } else {
                    Poll::Waiting(format!(
                        "{events} events learned, {} to go",
                        lag.unwrap_or_default()
                    ))
                })
            },
        )
    })?;
    let first = place
        .statuses()?
        .into_iter()
        .next()
        .context("no replica answers")?;
    let model = &first["model"];
    println!(
        "learned: {} events, {} customers, {} products, model {}",
        first["events"], model["customers"], model["products"], model["algorithm"]
    );
    Ok(())
}

/// Events that the slowest replica has learned.
fn learned(all: &[Value]) -> u64 {
    all.iter()
        .filter_map(|status| status["events"].as_u64())
        .min()
        .unwrap_or_default()
}
