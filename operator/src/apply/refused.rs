//! Statements that ksqlDB refused a moment ago. What is refused is announced in the record and taken back: two writes
//! of a child, each of which wakes the reconcile that would send it again. So a refusal stands for a while, unless
//! the text or what the server lists has changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use recommendation_api::conditions::reasons;

use super::statements::StatementsOutcome;
use super::topics::TopicsOutcome;
use crate::build::short_hash;
use crate::build::statement_plan::{StatementAction, StatementStep};
use crate::build::topic_plan::{Refusal, TopicAction, TopicPlan};
use crate::ksqldb::Listing;

/// How long the first refusal of a text stands; each further one twice as long.
const FIRST: Duration = Duration::from_secs(30);
/// How long a refusal stands at most: what only Kafka or an access list can mend is noticed within this time.
const LONGEST: Duration = Duration::from_secs(300);

/// The last refusal by pipeline (uid): the first statement that is refused stops those after it.
#[derive(Debug, Default)]
pub struct Refused(
    Mutex<HashMap<String, Standing>>,
    /// Queries that were replaced, by pipeline and source.
    Mutex<HashMap<(String, String), Instant>>,
);

/// A second replacement of a query within its session timeout blocked every statement of the server for 44 s
/// (recorded).
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(60);

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
        self.space_replacements(uid, plan);
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(standing) = held.get(uid).filter(|s| s.at.elapsed() < s.stands) else {
            return;
        };
        let same = |step: &&mut StatementStep| print(step, listing).as_ref() == Some(&standing.print);
        if let Some(step) = plan.iter_mut().find(same) {
            step.action = StatementAction::Refuse(standing.refusal.clone());
        }
    }

    /// A query that was replaced a moment ago is not replaced again yet.
    fn space_replacements(&self, uid: &str, plan: &mut [StatementStep]) {
        let mut replaced = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|_, at| at.elapsed() < BETWEEN_REPLACEMENTS);
        for step in plan {
            let again = replaced.contains_key(&(uid.to_owned(), step.source.clone()));
            if again && matches!(step.action, StatementAction::Replace(_)) {
                let message = format!(
                    "statement {}: its query was replaced a moment ago; the next replacement follows within a minute",
                    step.name
                );
                step.action = StatementAction::Refuse(Refusal::new(reasons::PROGRESSING, message));
            }
        }
    }

    /// Remembers what became of a plan that was carried out.
    pub fn note(&self, uid: &str, plan: &[StatementStep], outcome: &StatementsOutcome, listing: &Listing) {
        let mut replaced = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        replaced.extend(
            outcome
                .replaced
                .iter()
                .map(|source| ((uid.to_owned(), source.clone()), now)),
        );
        drop(replaced);
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

/// Changes of topics that Kafka refused a moment ago, by pipeline (uid) and topic: sent again at every look they would
/// be refused again at every look.
#[derive(Debug, Default)]
pub struct RefusedTopics(Mutex<HashMap<String, HashMap<String, StandingTopic>>>);

#[derive(Clone, Debug)]
struct StandingTopic {
    actions: Vec<TopicAction>,
    refusal: Refusal,
    at: Instant,
    stands: Duration,
}

impl RefusedTopics {
    /// Takes the actions that would be refused again out of the plan.
    pub fn hold(&self, uid: &str, plan: &mut TopicPlan) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topics) = held.get(uid) else {
            return;
        };
        for step in &mut plan.steps {
            let standing = topics.get(&step.name).filter(|s| s.at.elapsed() < s.stands);
            if let Some(standing) = standing.filter(|s| s.actions == step.actions) {
                step.actions.clear();
                step.refusal = Some(standing.refusal.clone());
            }
        }
    }

    /// Remembers what became of a plan that was carried out.
    pub fn note(&self, uid: &str, plan: &TopicPlan, outcome: &TopicsOutcome) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = held.entry(uid.to_owned()).or_default();
        for topic in &outcome.topics {
            let step = plan.steps.iter().find(|step| step.name == topic.name);
            // What is held back has no actions left, and says nothing new.
            let Some(step) = step.filter(|step| !step.actions.is_empty()) else {
                continue;
            };
            let refusal = topic.refusal.as_ref().filter(|_| topic.refusal != step.refusal);
            let Some(refusal) = refusal else {
                topics.remove(&topic.name);
                continue;
            };
            let before = topics.get(&topic.name).filter(|s| s.actions == step.actions);
            let standing = StandingTopic {
                stands: before.map_or(FIRST, |standing| (standing.stands * 2).min(LONGEST)),
                actions: step.actions.clone(),
                refusal: refusal.clone(),
                at: Instant::now(),
            };
            topics.insert(topic.name.clone(), standing);
        }
        if topics.is_empty() {
            held.remove(uid);
        }
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn print(step: &StatementStep, listing: &Listing) -> Option<String> {
    let sql = match &step.action {
        StatementAction::Create(sql) | StatementAction::Replace(sql) => sql,
        StatementAction::Recreate => step.create.as_ref()?,
        StatementAction::Leave(_) | StatementAction::Refuse(_) => return None,
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
            insert: false,
            read_only: false,
            makes_topic: false,
            needs: Vec::new(),
            create: None,
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
        let announced: Vec<&str> = creates(&plan).map(|(_, step)| step.name.as_str()).collect();
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
    fn a_query_is_not_replaced_twice_within_its_session_timeout() {
        let (refused, listing) = (Refused::default(), Listing::default());
        let replace = || StatementStep {
            action: StatementAction::Replace("CREATE OR REPLACE STREAM a AS SELECT 1;".to_owned()),
            ..create("a")
        };
        let replaced = StatementsOutcome {
            replaced: vec!["A".to_owned()],
            ..StatementsOutcome::default()
        };
        refused.note("uid", &[replace()], &replaced, &listing);
        let mut plan = [replace()];
        refused.hold("uid", &mut plan, &listing);
        assert!(
            matches!(&plan[0].action, StatementAction::Refuse(refusal) if refusal.reason == reasons::PROGRESSING)
        );
        let mut other = [replace()];
        refused.hold("another pipeline", &mut other, &listing);
        assert_eq!(other, [replace()]);
    }

    #[test]
    fn a_refused_change_of_a_topic_is_not_sent_again_at_once_and_another_change_is() {
        use recommendation_api::pipeline::TopicRole;
        use recommendation_api::pipeline::status::TopicOrigin;

        use crate::apply::topics::TopicOutcome;
        use crate::build::topic_plan::TopicStep;

        let plan = |actions: Vec<TopicAction>| TopicPlan {
            refused: None,
            steps: vec![TopicStep {
                name: "t".to_owned(),
                role: TopicRole::Other,
                origin: TopicOrigin::Adopted,
                actions,
                refusal: None,
                note: None,
            }],
        };
        let outcome = |refusal: Option<&str>| TopicsOutcome {
            topics: vec![TopicOutcome {
                name: "t".to_owned(),
                origin: TopicOrigin::Adopted,
                refusal: refusal.map(|why| Refusal::new("TopicRejected", why.to_owned())),
                note: None,
                done: Vec::new(),
                warnings: Vec::new(),
            }],
            ..TopicsOutcome::default()
        };
        let refused = RefusedTopics::default();
        let sent = plan(vec![TopicAction::Grow(9)]);
        refused.note("uid", &sent, &outcome(Some("no")));
        let mut again = sent.clone();
        refused.hold("uid", &mut again);
        assert!(again.steps[0].actions.is_empty());
        assert_eq!(again.steps[0].refusal.as_ref().unwrap().message, "no");
        // What was held back says nothing new.
        refused.note("uid", &again, &outcome(Some("no")));
        let stands = || refused.0.lock().unwrap()["uid"]["t"].stands;
        assert_eq!(stands(), FIRST);
        refused.note("uid", &sent, &outcome(Some("no")));
        assert_eq!(stands(), FIRST * 2);
        let mut other = plan(vec![TopicAction::Grow(10)]);
        refused.hold("uid", &mut other);
        assert_eq!(other, plan(vec![TopicAction::Grow(10)]));
        refused.note("uid", &other, &outcome(None));
        let mut later = sent.clone();
        refused.hold("uid", &mut later);
        assert_eq!(later, sent);
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
