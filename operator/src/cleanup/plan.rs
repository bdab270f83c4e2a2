//! What a deletion would delete: pure.

use std::collections::BTreeMap;

use recommendation_api::pipeline::status::TopicOrigin;
use recommendation_api::pipeline::{DeletionPolicy, RecommendationPipelineSpec};

use crate::apply::drops::Drop;
use crate::apply::record::{AppliedRecord, KsqldbServer};
use crate::build::statement_plan;

/// What goes with the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupPlan {
    /// Streams, tables and queries, those that read others first.
    pub sources: Vec<Drop>,
    /// Where they are.
    pub server: Option<KsqldbServer>,
    /// Topics.
    pub topics: Vec<String>,
}

impl CleanupPlan {
    /// What would stay without a cleanup, in words.
    pub fn left(&self) -> String {
        let all: Vec<&str> = self
            .sources
            .iter()
            .map(|drop| &drop.key)
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
    let server = spec.ksqldb.as_ref().map(KsqldbServer::of);
    let server = server.or_else(|| record.server.clone());
    let sources = if default == DeletionPolicy::Delete {
        statement_plan::removed(record, &[], true)
    } else {
        Vec::new()
    };
    CleanupPlan {
        server: server.filter(|_| !sources.is_empty()),
        sources,
        topics: topics.collect(),
    }
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
            server: None,
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
                topics: vec!["a".into()],
                ..CleanupPlan::default()
            }
        );
    }

    #[test]
    fn streams_go_in_the_reverse_order_of_their_statements() {
        let spec = pipeline(
            "{deletionPolicy: Delete, kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:1'}}",
        )
        .spec;
        let order = ["CUSTOMER_BEHAVIOR", "OLD", "CUSTOMER_PURCHASES", "EVENT_FUNNEL"];
        let mut known = record(&[], &order);
        for (position, key) in (0_u32..).zip(order) {
            known.statements.get_mut(key).unwrap().position = position;
        }
        let planned = plan(&spec, &known);
        let keys: Vec<&str> = planned.sources.iter().map(|drop| drop.key.as_str()).collect();
        assert_eq!(
            keys,
            ["EVENT_FUNNEL", "CUSTOMER_PURCHASES", "OLD", "CUSTOMER_BEHAVIOR"]
        );
        assert_eq!(planned.server.unwrap().endpoint, "http://q:1");
    }
}
