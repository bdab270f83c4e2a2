//! Takes answers that were made for an erased customer out of the caches: those of this process and those that
//! replicas share in Redis. Every replica does so, and once again a moment later: another one may have written an
//! answer before it heard of the erasure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Tag;
use crate::cache::AnswerCache;

/// When to look again.
const AGAIN: Duration = Duration::from_secs(2);

/// Works until stopped.
pub async fn run(
    mut erased: UnboundedReceiver<Tag>,
    cache: Option<Arc<AnswerCache>>,
    stop: CancellationToken,
) {
    let mut again: VecDeque<(Instant, Vec<Tag>)> = VecDeque::new();
    let mut tags = Vec::new();
    loop {
        let due = again.front().map(|(at, _)| *at);
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            received = erased.recv_many(&mut tags, 1_000) => {
                if received == 0 {
                    // The ingest thread has ended, and with it the service.
                    stop.cancelled().await;
                    return;
                }
                again.push_back((Instant::now() + AGAIN, tags.clone()));
            }
            () = wait => tags.extend(again.pop_front().into_iter().flat_map(|(_, tags)| tags)),
        }
        if let Some(cache) = &cache {
            stop.run_until_cancelled(cache.forget(&tags)).await;
        }
        tags.clear();
    }
}
