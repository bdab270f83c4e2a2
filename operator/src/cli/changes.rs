//! What would change, as data: made from the same plans that the controller carries out, and printed for people or as
//! JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::apply::drops::Drop;
use crate::build::statement_plan::{StatementAction, StatementStep};
use crate::build::topic_plan::{TopicAction, TopicPlan, TopicStep};
use crate::kafka::ClusterView;
use crate::ksqldb::Listing;

/// What would be done to one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where it is.
    pub place: Place,
    /// What would be done.
    pub action: Action,
    /// What kind of thing it is.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// More about it: what it would be, or why not. May have several lines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Where a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On the Kafka cluster.
    Kafka,
    /// On the ksqlDB server.
    Ksqldb,
    /// In Kubernetes.
    Kubernetes,
}

/// What would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It would be made.
    Create,
    /// It would be changed.
    Change,
    /// It would be dropped and made again.
    Recreate,
    /// It would be removed.
    Remove,
    /// It is as declared, or left as it is.
    Leave,
    /// It is asked for and would not be done.
    Refuse,
}

impl Action {
    fn mark(self) -> char {
        match self {
            Self::Create => '+',
            Self::Change => '~',
            Self::Recreate => '±',
            Self::Remove => '-',
            Self::Leave => ' ',
            Self::Refuse => '!',
        }
    }
}

/// Everything that would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// By thing.
    pub changes: Vec<Change>,
    /// What could not be looked at, and what people should know.
    pub notes: Vec<String>,
}

impl Changes {
    fn push(&mut self, place: Place, action: Action, kind: &str, name: &str, detail: impl Into<String>) {
        self.changes.push(Change {
            place,
            action,
            kind: kind.to_owned(),
            name: name.to_owned(),
            detail: detail.into(),
        });
    }

    /// How many there are of an action.
    pub fn count(&self, action: Action) -> usize {
        self.changes
            .iter()
            .filter(|change| change.action == action)
            .count()
    }

    /// Whether anything would be written.
    pub fn any(&self) -> bool {
        self.changes
            .iter()
            .any(|change| !matches!(change.action, Action::Leave | Action::Refuse))
    }

    /// Adds what would be done to topics.
    pub fn topics(&mut self, plan: &TopicPlan, view: &ClusterView) {
        if let Some(refusal) = &plan.refused {
            let detail = format!("{} ({})", refusal.message, refusal.reason);
            self.push(Place::Kafka, Action::Refuse, "cluster", "all topics", detail);
        }
        for step in &plan.steps {
            self.topic(step, view);
        }
    }

    fn topic(&mut self, step: &TopicStep, view: &ClusterView) {
        let live = view.topics.get(&step.name);
        for action in &step.actions {
            let (done, detail) = match action {
                TopicAction::Create(spec) => {
                    let replicas = spec
                        .replication_factor
                        .map_or("the broker's default".to_owned(), |n| n.to_string());
                    let mut detail = format!("partitions {}\nreplicas {replicas}", spec.partitions);
                    for (key, value) in &spec.config {
                        let _ = write!(detail, "\n{key} = {value}");
                    }
                    (Action::Create, detail)
                }
                TopicAction::Grow(total) => {
                    let before = live.map_or(0, |live| live.partitions);
                    let detail = format!("partitions {before} -> {total}: keys move to other partitions");
                    (Action::Change, detail)
                }
                TopicAction::Configure(config) => {
                    let live = live.map(|live| &live.config);
                    let changed = config.iter().filter_map(|(key, value)| {
                        let before = live.and_then(|live| live.get(key));
                        let shown = before.map_or("(unset)", String::as_str);
                        (before != Some(value)).then(|| format!("{key} = {shown} -> {value}"))
                    });
                    (Action::Change, changed.collect::<Vec<_>>().join("\n"))
                }
            };
            self.push(Place::Kafka, done, "topic", &step.name, detail);
        }
        if let Some(refusal) = &step.refusal {
            let detail = format!("{} ({})", refusal.message, refusal.reason);
            self.push(Place::Kafka, Action::Refuse, "topic", &step.name, detail);
        } else if step.actions.is_empty() {
            let detail = format!("{:?}", step.origin);
            self.push(Place::Kafka, Action::Leave, "topic", &step.name, detail);
        }
        self.notes.extend(step.note.clone());
    }

    /// Adds what would be done to statements, and what would be dropped.
    pub fn statements(&mut self, plan: &[StatementStep], removed: &[Drop], listing: &Listing) {
        for drop in removed {
            if let Some(statement) = drop.statement(listing) {
                self.push(Place::Ksqldb, Action::Remove, "source", &drop.key, statement);
            }
        }
        for step in plan {
            let (action, detail) = match &step.action {
                StatementAction::Create(sql) => (Action::Create, sql.clone()),
                StatementAction::Replace(sql) => (Action::Change, sql.clone()),
                StatementAction::Recreate => (Action::Recreate, step.create.clone().unwrap_or_default()),
                StatementAction::Leave(Some((id, state))) => {
                    (Action::Leave, format!("query {id} is {state}"))
                }
                StatementAction::Leave(None) => (Action::Leave, String::new()),
                StatementAction::Refuse(refusal) => (
                    Action::Refuse,
                    format!("{} ({})", refusal.message, refusal.reason),
                ),
            };
            self.push(Place::Ksqldb, action, "statement", &step.name, detail);
        }
    }

    /// Adds a child object; `live`: what is there. The paths of what differs are the detail.
    pub fn child(
        &mut self,
        kind: &str,
        name: &str,
        live: Option<&serde_json::Value>,
        wanted: &serde_json::Value,
    ) {
        let Some(live) = live else {
            return self.push(Place::Kubernetes, Action::Create, kind, name, "");
        };
        if crate::apply::subset::contains(live, wanted) {
            return self.push(Place::Kubernetes, Action::Leave, kind, name, "");
        }
        let mut paths = Vec::new();
        differing("", live, wanted, &mut paths);
        self.push(Place::Kubernetes, Action::Change, kind, name, paths.join("\n"));
    }

    /// For people: one line a thing, its details indented below. What stays is told only with `all`.
    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        for place in [Place::Kafka, Place::Ksqldb, Place::Kubernetes] {
            for change in self.changes.iter().filter(|change| change.place == place) {
                if change.action == Action::Leave && !all {
                    continue;
                }
                let _ = writeln!(text, "{} {} {}", change.action.mark(), change.kind, change.name);
                for line in change.detail.lines() {
                    let _ = writeln!(text, "      {line}");
                }
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "# {note}");
        }
        let _ = writeln!(
            text,
            "{} to create, {} to change, {} to make again, {} to remove, {} refused, {} left as they are",
            self.count(Action::Create),
            self.count(Action::Change),
            self.count(Action::Recreate),
            self.count(Action::Remove),
            self.count(Action::Refuse),
            self.count(Action::Leave)
        );
        text
    }
}

/// The deepest paths at which something wanted is missing or other. Values are left out: some are secret.
fn differing(path: &str, live: &serde_json::Value, wanted: &serde_json::Value, paths: &mut Vec<String>) {
    use serde_json::Value;
    if crate::apply::subset::contains(live, wanted) {
        return;
    }
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (key, value) in wanted {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match live.get(key) {
                    Some(found) => differing(&path, found, value, paths),
                    None if value.is_null() => {}
                    None => paths.push(path),
                }
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::*;
    use crate::apply::record::AppliedRecord;
    use crate::build::{statement_plan, topic_plan};
    use crate::fixtures::validated;
    use crate::kafka::LiveTopic;

    #[test]
    fn an_empty_cluster_gets_everything_and_a_converged_one_nothing() {
        let valid = validated("{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:1'}}");
        let mut view = ClusterView::default();
        let plan = |view: &ClusterView| {
            topic_plan::plan(&valid, view, &BTreeMap::new(), &BTreeMap::new(), &BTreeSet::new())
        };
        let mut changes = Changes::default();
        changes.topics(&plan(&view), &view);
        assert_eq!(changes.count(Action::Create), valid.topics.len());
        assert!(changes.any());
        let text = changes.text(false);
        assert!(
            text.contains("+ topic customer_behavior\n      partitions 12\n"),
            "{text}"
        );
        assert!(text.contains("retention.ms = 7776000000"), "{text}");
        assert!(text.ends_with("0 refused, 0 left as they are\n"), "{text}");

        for topic in &valid.topics {
            view.topics.insert(topic.name.clone(), LiveTopic::default());
        }
        let mut changes = Changes::default();
        changes.topics(&plan(&view), &view);
        assert!(!changes.any(), "{changes:?}");
        assert!(!changes.text(false).contains("topic customer_behavior"));
        assert!(changes.text(true).contains("  topic customer_behavior"));
    }

    #[test]
    fn statements_show_what_would_be_sent_and_json_says_the_same() {
        let valid = validated(
            "{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:1', statements: [{name: a, sql: 'CREATE STREAM a (x INT) WITH ();'}, {name: b, sql: 'DROP STREAM a;'}]}}",
        );
        let view: BTreeMap<String, LiveTopic> = valid
            .topics
            .iter()
            .map(|topic| (topic.name.clone(), LiveTopic::default()))
            .collect();
        let plan = statement_plan::plan(
            valid.ksqldb.as_ref().unwrap(),
            &valid.topics,
            &view,
            &AppliedRecord::default(),
            &Listing::default(),
        );
        let mut changes = Changes::default();
        changes.statements(&plan, &[], &Listing::default());
        let json = serde_json::to_value(&changes).unwrap();
        assert_eq!(json["changes"][0]["action"], "create");
        assert_eq!(json["changes"][0]["place"], "ksqldb");
        assert_eq!(json["changes"][0]["detail"], "CREATE STREAM a (x INT) WITH ();");
        assert_eq!(json["changes"][1]["action"], "refuse");
        assert!(changes.text(false).contains("! statement b"));
    }

    #[test]
    fn a_child_shows_the_paths_that_differ_and_no_values() {
        let live = json!({"spec": {"replicas": 1, "template": {"x": 1}}, "data": {"secret": "old"}});
        let wanted = json!({"spec": {"replicas": 2, "template": {"x": 1}}, "data": {"secret": "new"}});
        let mut changes = Changes::default();
        changes.child("Deployment", "shop", Some(&live), &wanted);
        changes.child("Service", "shop", None, &wanted);
        changes.child("ConfigMap", "shop", Some(&wanted), &wanted);
        assert_eq!(changes.changes[0].detail, "data.secret\nspec.replicas");
        let actions: Vec<Action> = changes.changes.iter().map(|change| change.action).collect();
        assert_eq!(actions, [Action::Change, Action::Create, Action::Leave]);
    }
}
