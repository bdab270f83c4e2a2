//! Which pipeline owns a topic that several declare: the oldest. The index follows the watch, so that a look at one of
//! five thousand pipelines does not have to look at all the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use recommendation_api::pipeline::RecommendationPipeline;

use crate::controller::Guarded;
use crate::validate::topics;

/// What a pipeline says about its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    /// Older first: when it was made, then its unique id.
    age: (Option<Timestamp>, Option<String>),
    owner: String,
    servers: BTreeSet<String>,
    cluster: Option<String>,
    topics: Vec<String>,
}

impl Claim {
    fn of(pipeline: &RecommendationPipeline) -> Self {
        let topics = topics::desired(&pipeline.spec).unwrap_or_default();
        Self {
            age: (
                pipeline.metadata.creation_timestamp.as_ref().map(|time| time.0),
                pipeline.uid(),
            ),
            owner: key(pipeline.namespace(), pipeline.name_any()),
            servers: pipeline.spec.kafka.bootstrap_servers.iter().cloned().collect(),
            cluster: pipeline.status.as_ref().and_then(|s| s.kafka_cluster_id.clone()),
            topics: topics
                .into_iter()
                .filter(|t| !t.observe)
                .map(|t| t.name)
                .collect(),
        }
    }
}

fn key(namespace: Option<String>, name: String) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

/// Claims of all pipelines that are not being deleted.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    /// By `namespace/name`.
    claims: HashMap<String, Claim>,
    /// Pipelines by the topics that they declare.
    topics: HashMap<String, HashSet<String>>,
    /// What a list that is not finished has shown so far, by the namespace that is watched.
    listed: HashMap<Option<String>, HashSet<String>>,
}

impl Index {
    fn remove(&mut self, key: &str) {
        for topic in self.claims.remove(key).into_iter().flat_map(|claim| claim.topics) {
            if let Some(claimants) = self.topics.get_mut(&topic) {
                claimants.remove(key);
                if claimants.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
    }

    fn put(&mut self, pipeline: &Guarded) {
        let Ok(pipeline) = &pipeline.0 else {
            return;
        };
        let key = key(pipeline.namespace(), pipeline.name_any());
        self.remove(&key);
        if pipeline.metadata.deletion_timestamp.is_some() {
            return;
        }
        let claim = Claim::of(pipeline);
        for topic in &claim.topics {
            self.topics.entry(topic.clone()).or_default().insert(key.clone());
        }
        self.claims.insert(key, claim);
    }
}

impl Claims {
    /// Takes up what the watch of `scope` brought.
    pub fn follow(&self, scope: &Option<String>, event: &Event<Guarded>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |pipeline: &Guarded| key(pipeline.namespace(), pipeline.name_any());
        match event {
            Event::Apply(pipeline) => index.put(pipeline),
            Event::Delete(pipeline) => index.remove(&name(pipeline)),
            Event::Init => {
                index.listed.insert(scope.clone(), HashSet::new());
            }
            Event::InitApply(pipeline) => {
                index.put(pipeline);
                index
                    .listed
                    .entry(scope.clone())
                    .or_default()
                    .insert(name(pipeline));
            }
            Event::InitDone => {
                let listed = index.listed.remove(scope).unwrap_or_default();
                let of_scope = |key: &&String| {
                    let namespace = key.split('/').next();
                    scope.as_deref().is_none_or(|scope| namespace == Some(scope))
                };
                let gone: Vec<String> = index
                    .claims
                    .keys()
                    .filter(of_scope)
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                gone.iter().for_each(|key| index.remove(key));
            }
        }
    }

    /// The topics of `pipeline` that an older one on the same cluster owns, with the oldest one's name. `cluster`: the
    /// cluster that answers.
    pub fn against(
        &self,
        pipeline: &RecommendationPipeline,
        cluster: Option<&str>,
    ) -> BTreeMap<String, String> {
        let own = Claim::of(pipeline);
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut claims = BTreeMap::new();
        let declared = topics::desired(&pipeline.spec).unwrap_or_default();
        for topic in declared.into_iter().map(|topic| topic.name) {
            let claimants = index.topics.get(&topic).into_iter().flatten();
            let older = claimants.filter_map(|key| index.claims.get(key)).filter(|other| {
                let same = other.cluster.is_some() && other.cluster.as_deref() == cluster;
                other.age < own.age && (same || other.servers == own.servers)
            });
            if let Some(oldest) = older.min_by(|a, b| a.age.cmp(&b.age)) {
                claims.insert(topic, oldest.owner.clone());
            }
        }
        claims
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::core::DeserializeGuard;

    use super::*;
    use crate::fixtures::{QUICKSTART, pipeline};

    fn made(name: &str, second: i64) -> RecommendationPipeline {
        let mut pipeline = pipeline(QUICKSTART);
        pipeline.metadata.name = Some(name.to_owned());
        pipeline.metadata.uid = Some(format!("uid-{name}"));
        pipeline.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
        pipeline
    }

    fn guarded(pipeline: &RecommendationPipeline) -> Guarded {
        DeserializeGuard(Ok(pipeline.clone()))
    }

    #[test]
    fn the_oldest_of_one_cluster_owns_a_topic_until_it_goes() {
        let claims = Claims::default();
        let (old, young) = (made("old", 1), made("young", 2));
        for pipeline in [&young, &old] {
            claims.follow(&None, &Event::Apply(guarded(pipeline)));
        }
        assert_eq!(claims.against(&young, None)["customer_behavior"], "default/old");
        assert!(claims.against(&old, None).is_empty());
        let mut elsewhere = young.clone();
        elsewhere.spec.kafka.bootstrap_servers = vec!["other:9092".to_owned()];
        assert!(claims.against(&elsewhere, Some("id")).is_empty());
        let mut known = old.clone();
        known.status.get_or_insert_default().kafka_cluster_id = Some("id".to_owned());
        claims.follow(&None, &Event::Apply(guarded(&known)));
        assert_eq!(
            claims.against(&elsewhere, Some("id")).len(),
            7,
            "other addresses of one cluster"
        );
        claims.follow(&None, &Event::Delete(guarded(&old)));
        assert!(claims.against(&young, None).is_empty());
    }

    #[test]
    fn who_is_missing_from_a_new_list_is_gone() {
        let claims = Claims::default();
        let (old, young) = (made("old", 1), made("young", 2));
        claims.follow(&None, &Event::Apply(guarded(&old)));
        for event in [Event::Init, Event::InitApply(guarded(&young))] {
            claims.follow(&None, &event);
        }
        assert_eq!(
            claims.against(&young, None).len(),
            7,
            "while it is being listed nothing is forgotten"
        );
        claims.follow(&None, &Event::InitDone);
        assert!(claims.against(&young, None).is_empty());
    }
}
