//! What a cache keeps of an object. A Deployment read into its type takes tens of kilobytes, most of them for fields
//! that nobody set; its JSON takes four. Thousands of pipelines have a dozen children each.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Lookup;
use kube::{Resource, ResourceExt};
use recommendation_api::pipeline::RecommendationPipeline;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Texts that are longer are kept as their hash: a dashboard is the same in every pipeline, and only compared.
const LONGEST: usize = 2_048;
/// Label that names the pipeline of a pod, whose owner is a ReplicaSet.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// An object as a cache keeps it.
pub struct Packed<K> {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    pipeline: Option<Box<str>>,
    owner: Option<Box<str>>,
    json: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Packed<K> {
    fn clone(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            pipeline: self.pipeline.clone(),
            owner: self.owner.clone(),
            json: self.json.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Packed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()>> Lookup for Packed<K> {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn name(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.name))
    }
    fn namespace(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.namespace))
    }
    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn uid(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.uid))
    }
}

impl<K> Packed<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    /// Packs an object; who manages its fields is left out.
    pub fn new(mut object: K) -> Self {
        object.managed_fields_mut().clear();
        let owner = object
            .owner_references()
            .iter()
            .find(|owner| owner.kind == <RecommendationPipeline as Resource>::kind(&()))
            .cloned();
        let is_pod = <K as Resource>::kind(&()) == <Pod as Resource>::kind(&());
        let pipeline = match &owner {
            Some(owner) => Some(owner.name.clone()),
            None if is_pod => object.labels().get(INSTANCE).cloned(),
            None => None,
        };
        let mut json = serde_json::to_value(&object).unwrap_or_default();
        shorten(&mut json);
        Self {
            namespace: ResourceExt::namespace(&object).unwrap_or_default().into(),
            name: object.name_any().into(),
            uid: ResourceExt::uid(&object).unwrap_or_default().into(),
            pipeline: pipeline.map(String::into_boxed_str),
            owner: owner.map(|owner| owner.uid.into_boxed_str()),
            json: json.to_string().into_bytes().into_boxed_slice(),
            kind: PhantomData,
        }
    }

    /// Namespace.
    pub fn place(&self) -> &str {
        &self.namespace
    }

    /// Unique id.
    pub fn id(&self) -> &str {
        &self.uid
    }

    /// Name of the pipeline that it belongs to.
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// Unique id of the pipeline that owns it.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The object as JSON, long texts as their hashes.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// The object in its type, long texts as their hashes.
    ///
    /// # Errors
    /// When it does not fit its type: a bug.
    pub fn read(&self) -> serde_json::Result<K> {
        serde_json::from_slice(&self.json)
    }
}

/// Replaces every long text by its hash, so that what is wanted can be compared with what a cache keeps.
pub fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONGEST => {
            *text = format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes())));
        }
        Value::Array(list) => list.iter_mut().for_each(shorten),
        Value::Object(map) => map.values_mut().for_each(shorten),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn config_map(text: &str) -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u",
                "ownerReferences": [{"apiVersion": "v", "kind": "RecommendationPipeline", "name": "shop", "uid": "p"}],
                "managedFields": [{"manager": "someone"}],
            },
            "data": {"key": text},
        }))
        .unwrap()
    }

    #[test]
    fn a_packed_object_knows_whose_it_is_and_nothing_of_its_managers() {
        let packed = Packed::new(config_map("short"));
        assert_eq!(
            (packed.pipeline(), packed.owner(), packed.id()),
            (Some("shop"), Some("p"), "u")
        );
        let read = packed.read().unwrap();
        assert_eq!(read.data.unwrap()["key"], "short");
        assert!(read.metadata.managed_fields.is_none_or(|m| m.is_empty()));
    }

    #[test]
    fn long_texts_are_hashes_that_differ_with_their_texts() {
        let long = "x".repeat(10_000);
        let packed = Packed::new(config_map(&long));
        assert!(packed.json.len() < 1_000);
        let mut same = json!(long);
        shorten(&mut same);
        assert_eq!(packed.value()["data"]["key"], same);
        let mut other = json!(long + "y");
        shorten(&mut other);
        assert_ne!(packed.value()["data"]["key"], other);
    }

    #[test]
    fn a_pod_belongs_to_the_pipeline_that_its_label_names() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": {INSTANCE: "shop"}}})).unwrap();
        let packed = Packed::new(pod);
        assert_eq!((packed.pipeline(), packed.owner()), (Some("shop"), None));
    }
}
