//! One look at a cluster for all its pipelines. A pipeline that comes within the interval gets what another one saw,
//! and nobody waits long for a cluster that does not answer: few pipelines are looked at at the same time, and those on
//! a dead Kafka must not take the places of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{Admin, ClusterView, Connection, KafkaError};

/// A failed look stands this long.
const FAILURE: Duration = Duration::from_secs(2);
/// How long the first ones wait for a look that is on its way, when there is something older to go on with.
const SHORT: Duration = Duration::from_secs(1);
/// The same when there is nothing else.
const LONG: Duration = Duration::from_secs(3);
/// A topic that nobody asked about for this long is looked at no more.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// What a look brought.
type Answer = Result<Arc<ClusterView>, KafkaError>;

/// A cluster, its client and what was last seen of it.
#[derive(Debug)]
pub struct Cluster {
    admin: Arc<Admin>,
    state: Arc<Mutex<State>>,
    looks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    seen: Option<Seen>,
    /// Topics whose configuration somebody needs, and when that was last said.
    wanted: BTreeMap<String, Instant>,
    /// A look that is on its way; its end is told here.
    flight: Option<watch::Receiver<()>>,
    /// It was waited for in vain.
    slow: bool,
}

#[derive(Clone, Debug)]
struct Seen {
    /// When the look began.
    at: Instant,
    /// Topics whose configuration was asked for.
    names: BTreeSet<String>,
    answer: Answer,
}

impl Seen {
    fn covers(&self, names: &BTreeSet<String>) -> bool {
        names.is_subset(&self.names)
    }
}

impl State {
    /// Keeps what was seen, unless something newer is known.
    fn keep(&mut self, seen: Seen) {
        if self.seen.as_ref().is_none_or(|before| before.at <= seen.at) {
            self.seen = Some(seen);
        }
    }
}

impl Cluster {
    pub(super) fn new(connection: &Connection, looks: TaskTracker) -> Result<Self, KafkaError> {
        Ok(Self {
            admin: Arc::new(Admin::new(connection)?),
            state: Arc::default(),
            looks,
        })
    }

    /// The client.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The cluster as it was at most `max_age` ago, with the configuration of `names`; older while a newer look takes
    /// its time.
    ///
    /// # Errors
    /// What the last look brought, or [`KafkaError::Pending`] while the first one is on its way.
    pub async fn look(&self, names: &BTreeSet<String>, max_age: Duration) -> Answer {
        // A look that was on its way already may not hold these names: then there is one more.
        for _ in 0..2 {
            let (mut flight, patience) = match self.known_or_flight(names, max_age) {
                Ok(answer) => return answer,
                Err(flight) => flight,
            };
            if tokio::time::timeout(patience, flight.changed()).await.is_err() {
                self.lock().slow = true;
                break;
            }
            let state = self.lock();
            if let Some(seen) = state
                .seen
                .as_ref()
                .filter(|seen| seen.answer.is_err() || seen.covers(names))
            {
                return seen.answer.clone();
            }
        }
        self.whatever_is_known(names)
    }

    /// What is known, or a look to wait for and how long to wait.
    fn known_or_flight(
        &self,
        names: &BTreeSet<String>,
        max_age: Duration,
    ) -> Result<Answer, (watch::Receiver<()>, Duration)> {
        let now = Instant::now();
        let mut state = self.lock();
        for name in names {
            match state.wanted.get_mut(name) {
                Some(asked) => *asked = now,
                None => {
                    state.wanted.insert(name.clone(), now);
                }
            }
        }
        let seen = state.seen.as_ref();
        let fresh = seen.is_some_and(|seen| {
            let age = now.saturating_duration_since(seen.at);
            match seen.answer {
                Ok(_) => age < max_age && seen.covers(names),
                Err(_) => age < FAILURE,
            }
        });
        if fresh && let Some(seen) = seen {
            return Ok(seen.answer.clone());
        }
        let standing = seen.is_some_and(|seen| seen.answer.is_err() || seen.covers(names));
        let known = seen.map(|seen| seen.answer.clone());
        let (flight, mine) = match &state.flight {
            Some(flight) => (flight.clone(), false),
            None => (self.take_off(&mut state, now), true),
        };
        if let Some(answer) = known.filter(|_| standing) {
            // Of those on a cluster that fails, the one that asks again waits, for a moment.
            if state.slow || (answer.is_err() && !mine) {
                return Ok(answer);
            }
            return Err((flight, SHORT));
        }
        if state.slow {
            return Ok(self.pending());
        }
        Err((flight, LONG))
    }

    fn take_off(&self, state: &mut State, now: Instant) -> watch::Receiver<()> {
        state
            .wanted
            .retain(|_, asked| now.saturating_duration_since(*asked) < FORGET);
        state.slow = false;
        let names: BTreeSet<String> = state.wanted.keys().cloned().collect();
        let (done, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        let (admin, shared) = (Arc::clone(&self.admin), Arc::clone(&self.state));
        self.looks.spawn(async move {
            let answer = admin.observe(&names).await.map(Arc::new);
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            // A failure counts from its end: it took its time.
            let at = if answer.is_ok() { now } else { Instant::now() };
            state.keep(Seen { at, names, answer });
            state.flight = None;
            state.slow = false;
            drop(done);
        });
        flight
    }

    /// The cluster as it is now, after a change: the configuration of `names` is read again, that of others is what it
    /// was.
    ///
    /// # Errors
    /// Any [`KafkaError`].
    pub async fn look_again(&self, names: &BTreeSet<String>) -> Answer {
        let at = Instant::now();
        let mut view = self.admin.observe(names).await?;
        let mut state = self.lock();
        let mut all = names.clone();
        if let Some(before) = &state.seen
            && let Ok(known) = &before.answer
        {
            all.extend(before.names.iter().cloned());
            for (name, topic) in view.topics.iter_mut().filter(|(name, _)| !names.contains(*name)) {
                if let Some(known) = known.topics.get(name) {
                    topic.config.clone_from(&known.config);
                    topic.overridden.clone_from(&known.overridden);
                }
            }
        }
        let view = Arc::new(view);
        state.keep(Seen {
            at,
            names: all,
            answer: Ok(Arc::clone(&view)),
        });
        Ok(view)
    }

    fn whatever_is_known(&self, names: &BTreeSet<String>) -> Answer {
        let state = self.lock();
        let seen = state.seen.as_ref();
        seen.filter(|seen| seen.answer.is_err() || seen.covers(names))
            .map_or_else(|| self.pending(), |seen| seen.answer.clone())
    }

    fn pending(&self) -> Answer {
        Err(KafkaError::Pending {
            servers: self.admin.servers().to_owned(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Pool;

    fn nowhere() -> Connection {
        Connection::plain(&["127.0.0.1:1".to_owned()])
    }

    #[tokio::test]
    async fn a_dead_cluster_is_waited_for_by_few_and_for_a_moment_only() {
        let pool = Pool::default();
        let cluster = pool.get(&nowhere()).unwrap();
        let names = BTreeSet::from(["a".to_owned()]);
        let begun = Instant::now();
        let first = cluster.look(&names, Duration::from_secs(30)).await;
        // A broker that is slow looks the same so far.
        assert!(matches!(first, Err(KafkaError::Pending { .. })), "{first:?}");
        assert!(begun.elapsed() < LONG + Duration::from_secs(1));
        let begun = Instant::now();
        for _ in 0..200 {
            assert!(cluster.look(&names, Duration::from_secs(30)).await.is_err());
        }
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "two hundred more pipelines took {:?}",
            begun.elapsed()
        );
        assert_eq!(cluster.admin().requests(), 1);
        pool.finish().await;
        let told = cluster.look(&names, Duration::from_secs(30)).await;
        assert!(matches!(told, Err(KafkaError::Unreachable { .. })), "{told:?}");
    }

    #[test]
    fn a_look_that_began_earlier_does_not_replace_a_newer_one() {
        let mut state = State::default();
        let at = Instant::now();
        let seen = |at, id: &str| Seen {
            at,
            names: BTreeSet::new(),
            answer: Ok(Arc::new(ClusterView {
                cluster_id: Some(id.to_owned()),
                ..ClusterView::default()
            })),
        };
        state.keep(seen(at, "newer"));
        state.keep(seen(at.checked_sub(Duration::from_millis(5)).unwrap(), "older"));
        let kept = state.seen.unwrap().answer.unwrap();
        assert_eq!(kept.cluster_id.as_deref(), Some("newer"));
    }
}
