//! Where figures are asked for: the ingest thread hands out what is kept, a thread that may block computes, and the
//! result serves everybody for a few seconds.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, oneshot};

use super::kept::{Answered, Kept};
use super::report::{Ask, Report};
use crate::config::Live;
use crate::ingest::{Command, LateReader};

/// Entries of lists that are computed.
pub const MOST: usize = 100;
/// How old figures may be.
pub const FRESH: Duration = Duration::from_secs(2);
/// Longest to wait for the ingest thread, which answers between two batches of records.
const WAIT: Duration = Duration::from_secs(5);

/// There are no figures now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ingest thread did not hand over what it keeps")]
pub struct NoFigures;

/// Computes figures, at most one set at a time.
pub struct Desk {
    commands: mpsc::Sender<Command>,
    reader: LateReader,
    found: Mutex<HashMap<u8, (Instant, Arc<Report>)>>,
}

impl Desk {
    /// `commands` lead to the ingest thread.
    pub fn new(commands: mpsc::Sender<Command>, reader: LateReader) -> Self {
        Self {
            commands,
            reader,
            found: Mutex::default(),
        }
    }

    async fn kept(&self) -> Result<Kept, NoFigures> {
        let (answer, kept) = oneshot::channel();
        self.commands
            .send(Command::Insights(answer))
            .map_err(|_| NoFigures)?;
        let kept = tokio::time::timeout(WAIT, kept).await;
        kept.map_err(|_| NoFigures)?.map_err(|_| NoFigures)
    }

    /// What was shown to whoever has one of these ids, newest first.
    pub async fn shown_to(&self, ids: &[Arc<str>]) -> Result<Vec<Answered>, NoFigures> {
        let kept = self.kept().await?;
        let of = |id: &Arc<str>| kept.shown_to(recommender_engine::owner(id));
        let mut shown: Vec<Answered> = ids.iter().flat_map(of).collect();
        shown.sort_by_key(|answer| std::cmp::Reverse(answer.time_ms));
        Ok(shown)
    }

    /// Figures about so many days, no older than `oldest`, with lists of [`MOST`].
    pub async fn report(
        &self,
        live: Arc<Live>,
        days: u8,
        oldest: Duration,
    ) -> Result<Arc<Report>, NoFigures> {
        let mut found = self.found.lock().await;
        if let Some((at, report)) = found.get(&days)
            && at.elapsed() <= oldest
        {
            return Ok(Arc::clone(report));
        }
        let kept = self.kept().await?;
        let reader = self.reader.clone();
        let computed = tokio::task::spawn_blocking(move || {
            kept.report(&Ask {
                days,
                limit: MOST,
                control: &|experiment| live.experiments.control(experiment),
                shows: &|product| !live.excluded.contains(product),
                title: &|product| reader.product(product).and_then(|meta| meta.title),
            })
        });
        let report = Arc::new(computed.await.map_err(|_| NoFigures)?);
        found.insert(days, (Instant::now(), Arc::clone(&report)));
        Ok(report)
    }
}
