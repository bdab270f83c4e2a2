//! Statements that ksqlDB refused a moment ago. What is refused is announced in the record and taken back: two writes
//! of a child, each of which wakes the reconcile that would send it again. So a refusal stands for a while, unless
//! the text or what the server lists has changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::statements::StatementsOutcome;
use crate::build::short_hash;
use crate::build::statement_plan::{StatementAction, StatementStep};
use crate::build::topic_plan::Refusal;
use crate::ksqldb::Listing;

/// How long the first refusal of a text stands; each further one twice as long.
const FIRST: Duration = Duration::from_secs(30);
/// How long a refusal stands at most: what only Kafka or an access list can mend is noticed within this time.
const LONGEST: Duration = Duration::from_secs(300);

/// The last refusal by pipeline (uid): the first statement that is refused stops those after it.
#[derive(Debug, Default)]
pub struct Refused(Mutex<HashMap<String, Standing>>);

#[derive(Clone, Debug)]
struct Standing {
    /// What was sent, and to a server with which streams and tables.
    print: String,
    refusal: Refusal,
    at: Instant,
    stands: Duration,
}

impl Refused {
    /// Puts the refusal that stands in the place of the step that would be refused again.
    pub fn hold(&self, uid: &str, plan: &mut [StatementStep], listing: &Listing) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(standing) = held.get(uid).filter(|s| s.at.elapsed() < s.stands) else {
            return;
        };
        let same = |step: &&mut StatementStep| print(step, listing).as_ref() == Some(&standing.print);
        if let Some(step) = plan.iter_mut().find(same) {
            step.action = StatementAction::Refuse(standing.refusal.clone());
        }
    }

    /// Remembers what became of a plan that was carried out.
    pub fn note(&self, uid: &str, plan: &[StatementStep], outcome: &StatementsOutcome, listing: &Listing) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rejected = outcome.rejected.as_ref();
        let step = rejected.and_then(|name| plan.iter().find(|step| step.name == *name));
        let sent = step.and_then(|step| print(step, listing));
        if let (Some(print), Some(refusal)) = (sent, &outcome.refusal) {
            let before = held.get(uid).filter(|standing| standing.print == print);
            let stands = before.map_or(FIRST, |standing| (standing.stands * 2).min(LONGEST));
            let standing = Standing {
                print,
                refusal: refusal.clone(),
                at: Instant::now(),
                stands,
            };
            held.insert(uid.to_owned(), standing);
        } else if outcome.refusal.is_none() && outcome.unreachable.is_none() {
            held.remove(uid);
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn print(step: &StatementStep, listing: &Listing) -> Option<String> {
    let (StatementAction::Create(sql) | StatementAction::Replace(sql)) = &step.action else {
        return None;
    };
    let names: Vec<&str> = listing.sources.keys().map(String::as_str).collect();
    Some(short_hash(format!("{sql}\n{}", names.join("\n")).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::statements::creates;
    use crate::ksqldb::{Source, SourceKind};

    fn create(name: &str) -> StatementStep {
        StatementStep {
            name: name.to_owned(),
            source: name.to_uppercase(),
            hash: "h".to_owned(),
            topic: None,
            query: false,
            action: StatementAction::Create(format!("CREATE STREAM {name};")),
        }
    }

    fn rejected(name: &str) -> StatementsOutcome {
        StatementsOutcome {
            rejected: Some(name.to_owned()),
            refusal: Some(Refusal::new("StatementRejected", "no such column".to_owned())),
            ..StatementsOutcome::default()
        }
    }

    #[test]
    fn a_refused_statement_is_neither_announced_nor_sent_again_at_once() {
        let (refused, listing) = (Refused::default(), Listing::default());
        let mut plan = [create("a"), create("b"), create("c")];
        refused.hold("uid", &mut plan, &listing);
        assert_eq!(creates(&plan).count(), 3);
        refused.note("uid", &plan, &rejected("b"), &listing);
        refused.hold("uid", &mut plan, &listing);
        let announced: Vec<&str> = creates(&plan).map(|step| step.name.as_str()).collect();
        assert_eq!(announced, ["a"], "nor is what comes after it");
        assert!(
            matches!(&plan[1].action, StatementAction::Refuse(refusal) if refusal.message == "no such column")
        );
        let mut other = [create("b")];
        refused.hold("another pipeline", &mut other, &listing);
        assert_eq!(other, [create("b")]);
    }

    #[test]
    fn another_text_another_listing_and_a_success_are_news() {
        let (refused, listing) = (Refused::default(), Listing::default());
        refused.note("uid", &[create("a")], &rejected("a"), &listing);
        let mut corrected = [create("a")];
        corrected[0].action = StatementAction::Create("CREATE STREAM a (x INT);".to_owned());
        refused.hold("uid", &mut corrected, &listing);
        assert!(matches!(corrected[0].action, StatementAction::Create(_)));
        let source = Source {
            kind: SourceKind::Stream,
            name: "MISSING".to_owned(),
            topic: "t".to_owned(),
        };
        let listed = Listing {
            sources: [("MISSING".to_owned(), source)].into(),
            ..Listing::default()
        };
        let mut plan = [create("a")];
        refused.hold("uid", &mut plan, &listed);
        assert_eq!(plan, [create("a")]);
        refused.note("uid", &plan, &StatementsOutcome::default(), &listed);
        refused.hold("uid", &mut plan, &listing);
        assert_eq!(plan, [create("a")]);
    }

    #[test]
    fn a_refusal_stands_longer_each_time_up_to_five_minutes() {
        let (refused, listing) = (Refused::default(), Listing::default());
        let stands = || refused.0.lock().unwrap()["uid"].stands.as_secs();
        let seconds: Vec<u64> = (0..6)
            .map(|_| {
                refused.note("uid", &[create("a")], &rejected("a"), &listing);
                stands()
            })
            .collect();
        assert_eq!(seconds, [30, 60, 120, 240, 300, 300]);
    }
}
