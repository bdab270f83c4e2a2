//! Which events of a log say nothing as visits.
//!
//! A visit of one event is forgotten once its customer comes again after a pause. Where a whole log is learned at once such
//! events can be told beforehand, and are left out: following them costs more than all the rest where customers look at one
//! product at a time. (Where [`crate::Limits::max_sessions`] binds, the result may differ: they would have taken room from
//! others for a while.)

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::{event::EventKind, sessions::GAP_MS, shared::BulkEvent};

/// A set of events, by their places in the log; several threads may add to it.
pub(crate) struct Passing(Option<Vec<AtomicBool>>);

impl Passing {
    /// For so many events; without effect unless they are all that the visits are made of.
    pub fn new(events: usize, from_nothing: bool) -> Self {
        Passing(from_nothing.then(|| (0..events).map(|_| AtomicBool::new(false)).collect()))
    }

    /// Adds those of one customer, all of whose events were learned. None if they are not in the order of time: a late
    /// one would join the visit of another.
    pub fn mark(&self, events: &[BulkEvent], of_customer: &[u32]) {
        let Some(passing) = &self.0 else { return };
        // Visits with an id of their own are followed apart.
        let own = of_customer.iter().filter_map(|&at| {
            let event = &events[at as usize];
            (event.session == 0 && event.kind != EventKind::Return).then_some((at as usize, event.time_ms))
        });
        if !own.clone().is_sorted_by_key(|(_, time_ms)| time_ms) {
            return;
        }
        // The one before, and whether it began a visit.
        let mut before: Option<(usize, i64, bool)> = None;
        for (at, time_ms) in own {
            let begins = before.is_none_or(|(_, before_ms, _)| time_ms - before_ms > GAP_MS);
            if begins && let Some((before, _, true)) = before {
                passing[before].store(true, Relaxed);
            }
            before = Some((at, time_ms, begins));
        }
    }

    pub fn contains(&self, at: usize) -> bool {
        self.0.as_ref().is_some_and(|passing| passing[at].load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions of those that are passed over.
    fn passed(events: &[(i64, u64, EventKind)]) -> Vec<usize> {
        let event = |&(time_ms, session, kind): &(i64, u64, EventKind)| BulkEvent {
            session,
            time_ms,
            customer: 0,
            product: 0,
            units: 1,
            kind,
        };
        let events: Vec<BulkEvent> = events.iter().map(event).collect();
        let all: Vec<u32> = (0..events.len() as u32).collect();
        let passing = Passing::new(events.len(), true);
        passing.mark(&events, &all);
        (0..events.len()).filter(|at| passing.contains(*at)).collect()
    }

    #[test]
    fn only_visits_of_one_event_with_pauses_around_them_and_something_after_are_passed_over() {
        let view = |time_ms| (time_ms, 0, EventKind::View);
        let far = GAP_MS + 1;
        assert_eq!(passed(&[view(0), view(far), view(2 * far)]), [0, 1]);
        assert_eq!(passed(&[view(0)]), [0usize; 0]);
        // As long as a visit may pause.
        assert_eq!(passed(&[view(0), view(GAP_MS), view(GAP_MS + far)]), [0usize; 0]);
        assert_eq!(passed(&[view(0), view(0), view(far), view(2 * far)]), [2]);
        // A tab is a visit of its own, and what is given back is no visit.
        let (tab, back) = ((far, 7, EventKind::View), (far, 0, EventKind::Return));
        assert_eq!(passed(&[view(0), tab, view(GAP_MS)]), [0usize; 0]);
        assert_eq!(passed(&[view(0), back, view(2 * far)]), [0]);
        // One that comes late.
        assert_eq!(passed(&[view(0), view(2 * far), view(far)]), [0usize; 0]);
    }
}
