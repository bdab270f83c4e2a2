//! How many neighbour lists are refreshed between two batches of events, and how long it rests between them.
//!
//! Under a stream of events that never lets up there is always another list to refresh: without a rest the thread would
//! do so all the time, and requests would wait for the processor that it holds. A customer's own history is shown with
//! each event all the same; lists say what others did, and may be seconds old.

use std::time::Duration;

/// Share of the thread's time that lists may take while events wait.
const SHARE: f64 = 0.1;
/// Lists refreshed however little time passed: at rest, all that wait are through within milliseconds.
const FEWEST: usize = 16;
/// Lists refreshed at once at most: about a hundredth of a second, for which events wait.
const MOST: usize = 500;
/// What a list is taken to cost until one was timed, in seconds.
const GUESS: f64 = 20e-6;

/// Divides the writer's time between learning and showing what was learned. Times are in seconds, of any clock.
#[derive(Debug)]
pub(crate) struct Pace {
    per_list: f64,
    ended: f64,
}

impl Pace {
    pub fn new(now: f64) -> Self {
        Self {
            per_list: GUESS,
            ended: now,
        }
    }

    /// How many lists to refresh now.
    pub fn lists(&self, now: f64) -> usize {
        let affordable = (now - self.ended) * SHARE / self.per_list;
        (affordable as usize).clamp(FEWEST, MOST)
    }

    /// How long to wait for events before the fewest lists are worth their time again.
    pub fn rest(&self, now: f64) -> Duration {
        let worth = FEWEST as f64 * self.per_list / SHARE;
        Duration::from_secs_f64((self.ended + worth - now).max(0.0))
    }

    /// Takes up what refreshing this many lists from `began` on took.
    pub fn refreshed(&mut self, lists: usize, began: f64, now: f64) {
        self.ended = now;
        if lists >= FEWEST {
            let measured = ((now - began) / lists as f64).clamp(1e-7, 1e-3);
            self.per_list += (measured - self.per_list) / 8.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_about_a_tenth_of_the_time_while_events_wait() {
        let (mut pace, mut now, mut showing) = (Pace::new(0.0), 0.0, 0.0);
        for _ in 0..1_000 {
            now += 0.005;
            let (lists, began) = (pace.lists(now), now);
            now += lists as f64 * 10e-6;
            showing += now - began;
            pace.refreshed(lists, began, now);
        }
        assert!((0.05..0.12).contains(&(showing / now)), "{}", showing / now);
    }

    #[test]
    fn while_only_lists_wait_it_rests_most_of_the_time() {
        let (mut pace, mut now, mut showing, mut shown) = (Pace::new(0.0), 0.0, 0.0, 0);
        while now < 10.0 {
            now += pace.rest(now).as_secs_f64();
            let (lists, began) = (pace.lists(now), now);
            now += lists as f64 * 20e-6;
            showing += now - began;
            shown += lists;
            pace.refreshed(lists, began, now);
        }
        assert!((0.05..0.12).contains(&(showing / now)), "{}", showing / now);
        assert!(shown > 40_000, "{shown}");
    }

    #[test]
    fn some_lists_are_refreshed_however_dear_and_not_too_many_however_cheap() {
        let mut pace = Pace::new(0.0);
        assert_eq!(pace.lists(0.0), FEWEST);
        assert_eq!(pace.lists(60.0), MOST);
        pace.refreshed(FEWEST, 0.0, 60.0);
        assert_eq!(pace.lists(60.0), FEWEST);
    }
}
