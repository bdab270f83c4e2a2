//! Live events, for people who watch them. Nothing is kept: an event goes to those who watch at that moment, and while
//! nobody does, to nobody.

use std::sync::Arc;

use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Events that a watcher may be behind before it misses some.
const BEHIND: usize = 512;
/// Watchers at once.
pub const MAX_WATCHERS: usize = 16;

/// One event as it was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub customer: Box<str>,
    /// What was done, as metrics name it.
    pub kind: &'static str,
    /// With which product.
    pub product: Box<str>,
    /// When it happened, milliseconds since 1970.
    pub time_ms: i64,
    /// When the log took it, milliseconds since 1970.
    pub produced_ms: i64,
    /// When it was learned, milliseconds since 1970.
    pub learned_ms: i64,
}

/// Hands live events to watchers.
pub struct Watching {
    sender: Sender<Arc<Seen>>,
    room: Arc<Semaphore>,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(BEHIND).0,
            room: Arc::new(Semaphore::new(MAX_WATCHERS)),
        }
    }
}

/// Somebody who watches, until dropped.
pub struct Watcher {
    receiver: Receiver<Arc<Seen>>,
    _room: OwnedSemaphorePermit,
}

impl Watching {
    /// Shows an event to whoever watches; what it is, is worked out only if somebody does.
    pub fn show(&self, seen: impl FnOnce() -> Seen) {
        if self.sender.receiver_count() > 0 {
            // It fails only if the last watcher left just now.
            let _ = self.sender.send(Arc::new(seen()));
        }
    }

    /// Watches from now on; `None` where too many do already.
    pub fn watch(&self) -> Option<Watcher> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Watcher {
            receiver: self.sender.subscribe(),
            _room: room,
        })
    }
}

impl Watcher {
    /// Waits for an event and hands over what has come until now, at most `most`, with how many were missed.
    pub async fn next(&mut self, most: usize) -> (Vec<Arc<Seen>>, u64) {
        let (mut seen, mut missed) = (Vec::new(), 0);
        match self.receiver.recv().await {
            Ok(event) => seen.push(event),
            Err(broadcast::error::RecvError::Lagged(count)) => missed += count,
            // The service outlives its watchers: it ends with them.
            Err(broadcast::error::RecvError::Closed) => return (seen, missed),
        }
        while seen.len() < most {
            match self.receiver.try_recv() {
                Ok(event) => seen.push(event),
                Err(broadcast::error::TryRecvError::Lagged(count)) => missed += count,
                Err(_) => break,
            }
        }
        (seen, missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(n: usize) -> Seen {
        Seen {
            customer: n.to_string().into(),
            kind: "view",
            product: "cup".into(),
            time_ms: 0,
            produced_ms: 0,
            learned_ms: 0,
        }
    }

    #[tokio::test]
    async fn events_go_to_those_who_watch_and_to_nobody_else() {
        let watching = Watching::default();
        watching.show(|| panic!("worked out for nobody"));
        let mut watcher = watching.watch().unwrap();
        for n in 0..3 {
            watching.show(|| seen(n));
        }
        let (events, missed) = watcher.next(2).await;
        let names: Vec<&str> = events.iter().map(|event| &*event.customer).collect();
        assert_eq!((names.as_slice(), missed), (["0", "1"].as_slice(), 0));
        assert_eq!(watcher.next(2).await.0.len(), 1);
        drop(watcher);
        watching.show(|| panic!("the last one left"));
    }

    #[tokio::test]
    async fn a_slow_watcher_misses_events_and_is_told_how_many() {
        let watching = Watching::default();
        let mut watcher = watching.watch().unwrap();
        for n in 0..BEHIND + 10 {
            watching.show(|| seen(n));
        }
        let (events, missed) = watcher.next(BEHIND).await;
        assert_eq!(missed, 10);
        assert_eq!(&*events[0].customer, "10");
    }

    #[test]
    fn there_is_room_for_so_many_watchers_and_a_place_is_given_back() {
        let watching = Watching::default();
        let mut all: Vec<Watcher> = std::iter::from_fn(|| watching.watch()).take(100).collect();
        assert_eq!(all.len(), MAX_WATCHERS);
        all.pop();
        assert!(watching.watch().is_some());
    }
}
