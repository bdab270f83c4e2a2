//! The parts that keep what a service has learned: snapshots, fitted models, and what is looked up beside the model.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use recommendation_api::pipeline::recommender::Switch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Mode, Options, Part, StartError};
use crate::http::App;
use crate::ingest::Command;
use crate::log::embedded::trim_covered;
use crate::model;
use crate::snapshot::keeper::Keeper;
use crate::snapshot::load::Snapshots;
use crate::trainer::follow::Follow;
use crate::trainer::schedule;
use crate::trainer::shelf::Shelf;

/// Starts what writes snapshots and takes up fitted models; in embedded mode, the trainer too.
pub(super) fn spawn(
    parts: &mut JoinSet<Part>,
    snapshots: Snapshots,
    options: &Options,
    app: &Arc<App>,
    command: &mpsc::Sender<Command>,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let config = &options.config;
    let shelf = Shelf {
        store: snapshots.store.clone(),
    };
    let follow = Follow {
        shelf: shelf.clone(),
        commands: command.clone(),
        live: Arc::clone(&app.live),
    };
    let follow_stop = stop.clone();
    parts.spawn(async move {
        follow.run(follow_stop).await;
        ("fitted models", Ok(()))
    });
    if let Mode::Embedded(_) = &options.mode {
        let cron = schedule::parse(&config.model.retrain.schedule)?;
        let (reader, engine) = (app.reader.clone(), model::engine_config(config)?);
        let watched = schedule::Watched {
            progress: Arc::clone(&app.progress),
            live: Arc::clone(&app.live),
            on_drift: config.model.retrain.on_drift == Switch::Enabled,
        };
        let trainer_stop = stop.clone();
        parts.spawn(async move {
            schedule::run(cron, reader, engine, shelf, watched, trainer_stop).await;
            ("trainer", Ok(()))
        });
    }
    let covered = match &options.mode {
        Mode::Embedded(path) => Some(trim_covered(path.clone(), config.privacy.retention.as_millis())),
        Mode::Kafka => None,
    };
    let keeper = Keeper {
        snapshots,
        interval: config.snapshots.clone().unwrap_or_default().interval.0,
        commands: command.clone(),
        progress: Arc::clone(&app.progress),
        metrics: Arc::clone(&app.metrics),
        covered,
        erasures: app.privacy.erasures.clone(),
    };
    let keeper_stop = stop.clone();
    parts.spawn(async move {
        keeper.run(keeper_stop).await;
        ("snapshots", Ok(()))
    });
    Ok(())
}

/// Once the model serves, takes up from it who bought what before, and what products are called: a model that was
/// restored was not told of each record. Of live ones has been told since.
pub(super) async fn fill_lookups(app: Arc<App>, stop: CancellationToken) {
    let serving = async {
        while !app.is_serving() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if stop.run_until_cancelled(serving).await.is_some() {
        let filled = Arc::clone(&app);
        // It ends by itself within seconds; a panic in it is one of the service.
        let filling = tokio::task::spawn_blocking(move || {
            filled
                .reader
                .each_title(|id, title| filled.directory.set_title(id, title));
            filled.baskets.fill(&filled.reader);
        });
        if let Err(e) = filling.await {
            tracing::error!(error = %e, "titles and what is bought together are known from now on only");
        }
    }
    stop.cancelled().await;
}
