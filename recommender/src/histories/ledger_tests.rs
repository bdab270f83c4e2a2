//! A ledger beside one that notes of every event whose it is.

use std::collections::BTreeSet;

use proptest::prelude::*;
use recommender_engine::EventKind;

use super::*;
use crate::privacy::Privacy;

const IDS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An event of an id is read and learned.
    Event { id: usize, partition: i32 },
    /// An event is read and not learned here, and kept by somebody else.
    Skip { id: usize, partition: i32 },
    /// The first turns out to be the second.
    Alias(usize, usize),
    /// An id is nobody's alias any more.
    Alone(usize),
    /// All that was learned of an id is taken back.
    Erase(usize),
    /// On with a snapshot.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (id, partition) = (0..IDS, 0..2i32);
    prop_oneof![
        6 => (id.clone(), partition.clone()).prop_map(|(id, partition)| Step::Event { id, partition }),
        1 => (id.clone(), partition).prop_map(|(id, partition)| Step::Skip { id, partition }),
        3 => (id.clone(), id.clone()).prop_map(|(from, into)| Step::Alias(from, into)),
        1 => id.clone().prop_map(Step::Alone),
        2 => id.prop_map(Step::Erase),
        1 => Just(Step::Restart),
    ]
}

/// A replica, and beside it whose each event is that it has learned.
struct Both {
    ledger: Ledger,
    subjects: Vec<Subject>,
    /// Nothing is ever taken away there.
    kept: Vec<(Subject, Kept)>,
    read: Offsets,
    alias_of: [Option<usize>; IDS],
    /// Whose what was counted of an id before it became an alias is.
    merged: [bool; IDS],
    counted: [BTreeSet<(i32, i64)>; IDS],
}

impl Both {
    fn new() -> Self {
        let privacy = Privacy::default();
        Self {
            ledger: Ledger::new(Arc::default()),
            subjects: (0..IDS).map(|id| privacy.subject(&id.to_string())).collect(),
            kept: Vec::new(),
            read: Offsets::new(),
            alias_of: [None; IDS],
            merged: [false; IDS],
            counted: Default::default(),
        }
    }

    fn canonical(&self, mut id: usize) -> usize {
        while let Some(whose) = self.alias_of[id] {
            id = whose;
        }
        id
    }

    fn leads_to(&self, id: usize, whose: usize) -> bool {
        id == whose || self.alias_of[id].is_some_and(|next| self.leads_to(next, whose))
    }

    fn keep(&mut self, id: usize, partition: i32) -> (i32, i64) {
        let offset = self.read.get(&partition).copied().unwrap_or_default();
        self.read.insert(partition, offset + 1);
        self.ledger.read(partition, offset);
        let kept = Kept {
            partition,
            offset,
            kind: EventKind::Purchase,
            units: 1,
            time_ms: offset,
            product: "p".into(),
        };
        self.kept.push((self.subjects[id], kept));
        (partition, offset)
    }

    /// As the ingest thread has it: those whose it is go with it.
    fn alone(&mut self, id: usize) {
        if self.alias_of[id].take().is_none() {
            return;
        }
        self.ledger.part(self.subjects[id], &self.read, 0);
        self.merged[id] = false;
        for alias in (0..IDS).filter(|alias| *alias != id) {
            if self.leads_to(alias, id) {
                self.ledger.part(self.subjects[alias], &self.read, 0);
                self.ledger.merge(self.subjects[alias], self.subjects[id]);
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Event { id, partition } => {
                let place = self.keep(id, partition);
                self.counted[self.canonical(id)].insert(place);
            }
            Step::Skip { id, partition } => {
                // Who refuses, or is too fast: nothing is counted of them.
                if self.counted[self.canonical(id)].is_empty() {
                    let place = self.keep(id, partition);
                    self.ledger.skip(self.subjects[id], place, 0);
                }
            }
            Step::Alias(from, into) => {
                if self.leads_to(into, from) {
                    return;
                }
                let whose = self.canonical(into);
                if self.alias_of[from].is_some() && self.canonical(from) != whose {
                    self.alone(from);
                }
                self.alias_of[from] = Some(into);
                self.ledger.merge(self.subjects[from], self.subjects[whose]);
                if !self.merged[from] {
                    self.merged[from] = true;
                    let counted = std::mem::take(&mut self.counted[from]);
                    self.counted[whose].extend(counted);
                }
            }
            Step::Alone(id) => self.alone(id),
            Step::Erase(id) => {
                self.ledger.take_back(self.subjects[id], &self.read, 0);
                self.counted[id].clear();
            }
            Step::Restart => {
                let written = self.ledger.write(0);
                let bytes = postcard::to_allocvec(&written).unwrap();
                self.ledger = Ledger::new(Arc::default());
                self.ledger.restore(postcard::from_bytes(&bytes).unwrap());
            }
        }
    }

    fn history(&self, id: usize) -> BTreeSet<(i32, i64)> {
        let parts = self.ledger.history(self.subjects[id]);
        let mut found = BTreeSet::new();
        for part in parts {
            for (subject, event) in &self.kept {
                if *subject == part.subject && part.holds(event) && self.ledger.counts(event, &self.read) {
                    let place = (event.partition, event.offset);
                    assert!(found.insert(place), "{place:?} twice");
                }
            }
        }
        found
    }
}

proptest! {
    #[test]
    fn a_history_is_what_was_learned_and_not_taken_back_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let mut both = Both::new();
        for step in steps {
            both.take(step);
            for id in 0..IDS {
                prop_assert_eq!(&both.history(id), &both.counted[id], "{} after {:?}", id, step);
            }
        }
    }
}

#[test]
fn what_stands_beyond_what_was_learned_or_before_what_was_read_first_does_not_count() {
    let mut both = Both::new();
    both.read = [(0, 5)].into();
    let (_, at) = both.keep(0, 0);
    let event = |offset| Kept {
        offset,
        ..both.kept[0].1.clone()
    };
    let counts = |offset| both.ledger.counts(&event(offset), &[(0, at + 1)].into());
    assert_eq!([at - 1, at, at + 1].map(counts), [false, true, false]);
    assert!(!both.ledger.counts(&event(at), &Offsets::new()));
}

#[test]
fn floors_of_what_cannot_be_kept_any_more_are_forgotten() {
    let mut both = Both::new();
    both.ledger.skip(both.subjects[0], (0, 5), 1_000);
    both.ledger.renew(both.subjects.iter().copied(), 1_001);
    assert_eq!(both.ledger.write(1_001).floors.len(), 1);
    assert_eq!(both.ledger.write(1_002).floors.len(), 0);
}
