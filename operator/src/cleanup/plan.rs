//! What a deletion would delete: pure.

use std::collections::BTreeMap;

use recommendation_api::pipeline::status::TopicOrigin;
use recommendation_api::pipeline::{DeletionPolicy, RecommendationPipelineSpec};

use crate::apply::record::AppliedRecord;
use crate::build::statement_plan;
use crate::ksqldb::{Listing, Source, SourceKind};
use crate::validate::{self, References};

/// What goes with the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupPlan {
    /// Streams and tables, those that read others first.
    pub sources: Vec<String>,
    /// Topics.
    pub topics: Vec<String>,
}

impl CleanupPlan {
    /// What would stay without a cleanup, in words.
    pub fn left(&self) -> String {
        let all: Vec<&str> = self
            .sources
            .iter()
            .chain(&self.topics)
            .map(String::as_str)
            .collect();
        if all.is_empty() {
            "nothing is left behind".to_owned()
        } else {
            format!("then {} stay", all.join(", "))
        }
    }
}

/// Whether the spec asks for anything outside Kubernetes to be deleted.
pub fn needs_finalizer(spec: &RecommendationPipelineSpec) -> bool {
    let delete = Some(DeletionPolicy::Delete);
    spec.deletion_policy == delete
        || spec
            .topics
            .iter()
            .flatten()
            .any(|topic| topic.deletion_policy == delete)
}

/// What goes: topics that the operator made, unless they say Retain; topics that it found only if their own entry
/// says Delete; its own streams and tables if the pipeline says Delete. Nothing that the record does not know.
pub fn plan(spec: &RecommendationPipelineSpec, record: &AppliedRecord) -> CleanupPlan {
    let default = spec.deletion_policy.unwrap_or_default();
    let prefix = spec.name_prefix.as_deref().unwrap_or_default();
    let own: BTreeMap<String, DeletionPolicy> = spec
        .topics
        .iter()
        .flatten()
        .filter_map(|topic| Some((format!("{prefix}{}", topic.name), topic.deletion_policy?)))
        .collect();
    let goes = |name: &String, origin: TopicOrigin| match origin {
        TopicOrigin::Created => own.get(name).copied().unwrap_or(default) == DeletionPolicy::Delete,
        TopicOrigin::Adopted => own.get(name) == Some(&DeletionPolicy::Delete),
        TopicOrigin::Observed => false,
    };
    let topics = record
        .topics
        .iter()
        .filter(|(name, origin)| goes(name, **origin))
        .map(|(name, _)| name.clone());
    let sources = if default == DeletionPolicy::Delete {
        sources(spec, record)
    } else {
        Vec::new()
    };
    CleanupPlan {
        sources,
        topics: topics.collect(),
    }
}

/// The record's sources, in the reverse order of the statements that made them; those that no statement makes any
/// more come first, because nothing of this pipeline reads them.
fn sources(spec: &RecommendationPipelineSpec, record: &AppliedRecord) -> Vec<String> {
    let topics = validate::topics::desired(spec).unwrap_or_default();
    let desired = validate::statements(spec, &References::default());
    let steps = desired.map_or_else(Vec::new, |ksqldb| {
        statement_plan::plan(
            &ksqldb,
            &topics,
            &BTreeMap::new(),
            &AppliedRecord::default(),
            &Listing::default(),
        )
    });
    let order: Vec<String> = steps.into_iter().rev().map(|step| step.source).collect();
    let mut sources: Vec<String> = record
        .statements
        .keys()
        .filter(|name| !order.contains(name))
        .cloned()
        .collect();
    sources.extend(
        order
            .into_iter()
            .filter(|name| record.statements.contains_key(name)),
    );
    sources
}

/// `DROP` for a listed source; its own query ends with it, its topic stays.
pub fn drop_statement(source: &Source) -> String {
    let kind = match source.kind {
        SourceKind::Stream => "STREAM",
        SourceKind::Table => "TABLE",
    };
    let plain = source
        .name
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    // An unquoted name is read in upper case, any other needs its quotes.
    let name = if plain {
        source.name.to_lowercase()
    } else {
        format!("`{}`", source.name)
    };
    format!("DROP {kind} {name};")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::record::StatementRecord;
    use crate::fixtures::pipeline;

    fn record(topics: &[(&str, TopicOrigin)], sources: &[&str]) -> AppliedRecord {
        AppliedRecord {
            topics: topics
                .iter()
                .map(|(name, origin)| ((*name).to_owned(), *origin))
                .collect(),
            statements: sources
                .iter()
                .map(|name| ((*name).to_owned(), StatementRecord::default()))
                .collect(),
        }
    }

    #[test]
    fn nothing_goes_by_default_and_no_finalizer_is_needed() {
        let spec =
            pipeline("{kafka: {bootstrapServers: ['k:1']}, topics: [{name: a, deletionPolicy: Retain}]}")
                .spec;
        assert!(!needs_finalizer(&spec));
        assert_eq!(
            plan(&spec, &record(&[("products", TopicOrigin::Created)], &["S"])),
            CleanupPlan::default()
        );
    }

    #[test]
    fn what_was_made_goes_what_was_found_stays_and_an_entry_of_its_own_decides() {
        let spec = pipeline(
            "
deletionPolicy: Delete
namePrefix: p-
kafka: {bootstrapServers: ['k:1']}
topics: [{name: kept, deletionPolicy: Retain}, {name: found-too, deletionPolicy: Delete}]
",
        )
        .spec;
        assert!(needs_finalizer(&spec));
        let known = record(
            &[
                ("p-products", TopicOrigin::Created),
                ("p-kept", TopicOrigin::Created),
                ("p-found", TopicOrigin::Adopted),
                ("p-found-too", TopicOrigin::Adopted),
                ("p-seen", TopicOrigin::Observed),
            ],
            &[],
        );
        assert_eq!(plan(&spec, &known).topics, ["p-found-too", "p-products"]);
    }

    #[test]
    fn one_topic_may_go_while_everything_else_stays() {
        let spec =
            pipeline("{kafka: {bootstrapServers: ['k:1']}, topics: [{name: a, deletionPolicy: Delete}]}")
                .spec;
        assert!(needs_finalizer(&spec));
        let known = record(
            &[("a", TopicOrigin::Created), ("products", TopicOrigin::Created)],
            &["S"],
        );
        assert_eq!(
            plan(&spec, &known),
            CleanupPlan {
                sources: vec![],
                topics: vec!["a".into()]
            }
        );
    }

    #[test]
    fn streams_go_in_the_reverse_order_of_their_statements() {
        let spec = pipeline(
            "{deletionPolicy: Delete, kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:1'}}",
        )
        .spec;
        let known = record(
            &[],
            &["CUSTOMER_BEHAVIOR", "CUSTOMER_PURCHASES", "EVENT_FUNNEL", "OLD"],
        );
        assert_eq!(
            plan(&spec, &known).sources,
            ["OLD", "EVENT_FUNNEL", "CUSTOMER_PURCHASES", "CUSTOMER_BEHAVIOR"]
        );
    }

    #[test]
    fn names_that_are_not_plain_are_quoted_when_dropped() {
        let source = |kind, name: &str| Source {
            kind,
            name: name.to_owned(),
            topic: String::new(),
        };
        assert_eq!(
            drop_statement(&source(SourceKind::Table, "A_1")),
            "DROP TABLE a_1;"
        );
        assert_eq!(
            drop_statement(&source(SourceKind::Stream, "lower")),
            "DROP STREAM `lower`;"
        );
    }
}
