//! Topics that Strimzi manages: those of the `KafkaTopic` objects in the pipeline's namespace. Two programs that set
//! the same topic back to what each of them wants would do so for ever.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::api::{ApiResource, ListParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt as _};

use crate::deadline;

const GROUP: &str = "kafka.strimzi.io";
const KIND: &str = "KafkaTopic";
/// Strimzi leaves a topic alone whose object says "false" here.
const MANAGED: &str = "strimzi.io/managed";

/// What is known of `KafkaTopic`s, asked once an interval and namespace: their CRD may be installed later.
#[derive(Debug, Default)]
pub struct KafkaTopics {
    kind: Mutex<Option<(Instant, Option<ApiResource>)>>,
    names: Mutex<HashMap<String, (Instant, BTreeSet<String>)>>,
}

impl KafkaTopics {
    /// Names of the topics that Strimzi manages in `namespace`. What was known stands while the API server cannot tell.
    pub async fn of(&self, client: &Client, namespace: &str, ttl: Duration) -> BTreeSet<String> {
        let known = self.lock_names().get(namespace).cloned();
        if let Some((at, names)) = &known
            && at.elapsed() < ttl
        {
            return names.clone();
        }
        let Some(kind) = self.kind(client, ttl).await else {
            return BTreeSet::new();
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        let names = match deadline::within(deadline::KUBERNETES, api.list(&ListParams::default())).await {
            Ok(Ok(list)) => list.items.iter().filter_map(managed).collect(),
            Ok(Err(error)) => {
                tracing::warn!(%error, namespace, "cannot list KafkaTopics");
                known.map(|(_, names)| names).unwrap_or_default()
            }
            Err(error) => {
                tracing::warn!(%error, namespace, "cannot list KafkaTopics");
                known.map(|(_, names)| names).unwrap_or_default()
            }
        };
        let mut all = self.lock_names();
        all.retain(|_, (at, _)| at.elapsed() < ttl * 10);
        all.insert(namespace.to_owned(), (Instant::now(), names.clone()));
        names
    }

    async fn kind(&self, client: &Client, ttl: Duration) -> Option<ApiResource> {
        let known = self.kind.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, kind)) = &known
            && at.elapsed() < ttl
        {
            return kind.clone();
        }
        // Whatever version it serves: the parts that are read are in all of them.
        let asked = kube::discovery::group(client, GROUP);
        let kind = match deadline::within(deadline::KUBERNETES, asked).await {
            Ok(Ok(group)) => group.recommended_kind(KIND).map(|(kind, _)| kind),
            // No such group, or an API server that cannot tell.
            Ok(Err(kube::Error::Discovery(_))) => None,
            _ => known.and_then(|(_, kind)| kind),
        };
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), kind.clone()));
        kind
    }

    fn lock_names(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, BTreeSet<String>)>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The topic of a `KafkaTopic`, unless Strimzi leaves it alone.
fn managed(object: &DynamicObject) -> Option<String> {
    if object
        .annotations()
        .get(MANAGED)
        .is_some_and(|value| value == "false")
    {
        return None;
    }
    let named = object.data["spec"]["topicName"].as_str().map(str::to_owned);
    Some(named.unwrap_or_else(|| object.name_any()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kafka_topic_is_known_by_its_topics_name_and_one_that_strimzi_leaves_alone_is_not() {
        let object = |spec: serde_json::Value, managed: Option<&str>| -> DynamicObject {
            let annotations = managed.map(|value| json!({ MANAGED: value }));
            serde_json::from_value(json!({
                "apiVersion": "kafka.strimzi.io/v1beta2",
                "kind": KIND,
                "metadata": {"name": "events", "annotations": annotations},
                "spec": spec,
            }))
            .unwrap()
        };
        let name = |spec, annotation| managed(&object(spec, annotation));
        assert_eq!(name(json!({"partitions": 3}), None).as_deref(), Some("events"));
        assert_eq!(
            name(json!({"topicName": "customer_behavior"}), Some("true")).as_deref(),
            Some("customer_behavior")
        );
        assert_eq!(name(json!({}), Some("false")), None);
    }
}
