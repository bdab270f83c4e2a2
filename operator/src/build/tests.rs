use recommendation_api::names::CONFIG_HASH;

use super::*;
use crate::fixtures::{QUICKSTART, validated};

fn pod_hash(children: &ChildObjects) -> String {
    let template = &children.deployment.spec.as_ref().unwrap().template;
    template.metadata.as_ref().unwrap().annotations.as_ref().unwrap()[CONFIG_HASH].clone()
}

#[test]
fn the_quickstarts_children_are_rendered_like_this() {
    let children = children(&validated(QUICKSTART));
    insta::assert_yaml_snapshot!("deployment", children.deployment);
    insta::assert_yaml_snapshot!("services", children.services);
    insta::assert_yaml_snapshot!("config", children.config);
    insta::assert_yaml_snapshot!("pdb", children.pdb);
    insta::assert_yaml_snapshot!("service_account", children.service_account);
    insta::assert_yaml_snapshot!("service_monitor", children.service_monitor);
}

#[test]
fn pod_fields_secrets_and_service_of_the_spec_reach_the_children() {
    let children = children(&validated(
        "
kafka: {bootstrapServers: ['k:1']}
recommender:
  image: mine:1
  replicas: 5
  resources: {limits: {memory: 1Gi}}
  disruptionBudget: {maxUnavailable: 2}
  auth: {jwtSecretRef: {name: own, key: k}, usersSecretRef: {name: users}}
  webhooks: {hmacSecretRef: {name: hook}}
  service: {type: LoadBalancer, port: 8080, annotations: {a: b}}
  template:
    metadata: {labels: {team: a, app.kubernetes.io/name: not-this}, annotations: {x: y}}
    nodeSelector: {disk: ssd}
    serviceAccountName: theirs
monitoring: {serviceMonitor: {policy: Disabled}}
",
    ));
    assert!(children.service_account.is_none() && children.service_monitor.is_none());
    insta::assert_yaml_snapshot!("deployment_of_a_full_spec", children.deployment);
    insta::assert_yaml_snapshot!("service_of_a_full_spec", children.services[0]);
}

#[test]
fn only_what_a_running_recommender_cannot_take_up_rolls_the_pods() {
    let hot = "{kafka: {bootstrapServers: ['kafka:9092']}, recommender: {rules: {pin: [a]}, rateLimits: {resourcePerMinute: 9}}}";
    let cold = "{kafka: {bootstrapServers: ['kafka:9092']}, recommender: {model: {neighbors: 5}}}";
    let base = children(&validated(QUICKSTART));
    assert_eq!(pod_hash(&base), pod_hash(&children(&validated(hot))));
    assert_ne!(pod_hash(&base), pod_hash(&children(&validated(cold))));
    assert_ne!(
        base.config.data,
        children(&validated(hot)).config.data,
        "but the ConfigMap carries it"
    );
}

#[test]
fn rendering_twice_gives_the_same_objects() {
    let (a, b) = (children(&validated(QUICKSTART)), children(&validated(QUICKSTART)));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

#[test]
fn a_field_that_is_no_longer_wanted_changes_the_hash_of_what_was_applied() {
    let with = "{kafka: {bootstrapServers: ['kafka:9092']}, recommender: {template: {nodeSelector: {a: b}}}}";
    let hash = |children: ChildObjects| {
        children.deployment.metadata.annotations.unwrap()[recommendation_api::names::APPLIED_HASH].clone()
    };
    assert_ne!(
        hash(children(&validated(with))),
        hash(children(&validated(QUICKSTART)))
    );
}

#[test]
fn a_made_key_has_256_bits_and_is_text() {
    let valid = validated(QUICKSTART);
    assert_eq!(secrets::names(&valid), ["shop-jwt", "shop-privacy"]);
    let secret = secrets::build(&valid, "shop-jwt".to_owned(), &[7; 32]);
    let text = String::from_utf8(secret.data.unwrap()["secret"].0.clone()).unwrap();
    assert_eq!(text.len(), 43);
}
