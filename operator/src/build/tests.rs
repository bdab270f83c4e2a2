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
    insta::assert_yaml_snapshot!("network_policy", children.network_policy);
    insta::assert_yaml_snapshot!("rules", children.rules);
    assert!(children.autoscaler.is_none() && children.ingress.is_none() && children.http_route.is_none());
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

#[test]
fn what_stands_in_front_of_the_service_is_rendered_like_this() {
    let children = children(&validated(
        "
kafka: {bootstrapServers: ['k:1']}
recommender:
  autoscaling: {minReplicas: 3, maxReplicas: 9, targetCPUUtilizationPercentage: 50}
  ingress: {className: nginx, host: shop.example.org, tlsSecretName: shop-tls}
  httpRoute: {parentRefs: [{name: edge, namespace: gateways, sectionName: https}], hostnames: [shop.example.org]}
  networkPolicy: {monitoringNamespace: observability}
",
    ));
    insta::assert_yaml_snapshot!("autoscaler", children.autoscaler);
    insta::assert_yaml_snapshot!("ingress", children.ingress);
    insta::assert_yaml_snapshot!("http_route", children.http_route);
    let spec = children.deployment.spec.unwrap();
    assert_eq!(spec.replicas, None, "the autoscaler says how many pods there are");
    let policy = serde_json::to_value(children.network_policy).unwrap();
    let from = &policy["spec"]["ingress"][1]["from"];
    assert_eq!(
        from[1]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        "observability"
    );
    assert_eq!(
        from[0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
        "recommendation-operator"
    );
}

#[test]
fn parts_of_monitoring_and_the_network_policy_can_be_disabled_one_by_one() {
    let children = children(&validated(
        "
kafka: {bootstrapServers: ['k:1']}
recommender: {networkPolicy: {policy: Disabled}}
monitoring: {serviceMonitor: {policy: Disabled}, rules: {policy: Disabled}, dashboard: {policy: Disabled}}
",
    ));
    assert!(children.network_policy.is_none() && children.service_monitor.is_none());
    assert!(children.rules.is_none() && children.dashboard.is_none());
}

#[test]
fn labels_and_folder_of_monitoring_reach_their_objects() {
    let children = children(&validated(
        "
kafka: {bootstrapServers: ['k:1']}
monitoring:
  serviceMonitor: {interval: 30s, labels: {release: prom}}
  rules: {labels: {role: alerts}}
  dashboard: {labels: {grafana: \"yes\"}, folder: Shops}
",
    ));
    assert_eq!(
        children.service_monitor.unwrap().metadata.labels.unwrap()["release"],
        "prom"
    );
    assert_eq!(children.rules.unwrap().metadata.labels.unwrap()["role"], "alerts");
    let metadata = children.dashboard.unwrap().metadata;
    let labels = metadata.labels.unwrap();
    assert_eq!(labels["grafana"], "yes");
    assert!(
        !labels.contains_key("grafana_dashboard"),
        "the user's labels instead of the default"
    );
    assert_eq!(metadata.annotations.unwrap()["grafana_folder"], "Shops");
}

#[test]
fn the_dashboard_opens_with_its_own_pipeline() {
    let dashboard = children(&validated(QUICKSTART)).dashboard.unwrap();
    let labels = dashboard.metadata.labels.unwrap();
    assert_eq!(labels["grafana_dashboard"], "1");
    let text = &dashboard.data.unwrap()["default-shop.json"];
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["title"], "Recommendations: default/shop");
    let variables = json["templating"]["list"].as_array().unwrap();
    let current = |name: &str| {
        let variable = variables.iter().find(|v| v["name"] == name).unwrap();
        variable["current"]["value"].clone()
    };
    assert_eq!(
        (current("namespace"), current("pipeline")),
        ("default".into(), "shop".into())
    );
    assert!(json["panels"].as_array().unwrap().len() > 15);
}

#[test]
fn alerts_follow_the_limits_of_the_spec() {
    let rules = children(&validated(
        "{kafka: {bootstrapServers: ['k:1']}, recommender: {quality: {maxLagSeconds: 77}}}",
    ));
    let groups = rules.rules.unwrap().data["spec"]["groups"].clone();
    let all: Vec<_> = groups
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect();
    let expr = |name: &str| {
        let rule = all.iter().find(|rule| rule["alert"] == name).unwrap();
        rule["expr"].as_str().unwrap().to_owned()
    };
    assert!(expr("RecommenderLagging").ends_with("> 77"));
    let selected = "namespace=\"default\",service=\"shop-internal\"";
    assert!(
        all.iter()
            .all(|rule| rule["expr"].as_str().unwrap().contains(selected))
    );
}

/// What the recommender's modules of metrics say, one or several.
fn sources_of_metrics() -> String {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recommender/src");
    let folder = std::fs::read_dir(sources.join("metrics"));
    let files = folder.into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = files
        .chain([sources.join("metrics.rs")])
        .filter(|path| path.is_file());
    files.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Every metric that a rule or the dashboard names is one that a recommender has: one that is renamed there would leave
/// an alert that never fires.
#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    let source = sources_of_metrics();
    let children = children(&validated(QUICKSTART));
    let rules = children.rules.unwrap().data.to_string();
    let dashboard = children
        .dashboard
        .unwrap()
        .data
        .unwrap()
        .into_values()
        .collect::<String>();
    let text = rules + &dashboard;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text
        .split(|c: char| !word(c))
        .filter(|name| name.starts_with("recommender_"));
    for name in names {
        let bare = name.trim_start_matches("recommender_");
        let bare = ["_bucket", "_count", "_sum"]
            .iter()
            .fold(bare, |bare, end| bare.trim_end_matches(end));
        assert!(source.contains(&format!("{bare}\"")), "there is no metric {name}");
    }
}

#[test]
fn a_fitted_model_has_a_trainer_whose_pods_nobody_takes_for_replicas() {
    let with = |model: &str| {
        let spec = format!(
            "{{kafka: {{bootstrapServers: ['k:1']}}, recommender: {{snapshots: {{url: 's3://m'}}, model: {model}}}}}"
        );
        children(&validated(&spec)).trainer
    };
    let trainer = with("{algorithm: Ease, retrain: {schedule: '5 4 * * *'}}")
        .unwrap()
        .spec
        .unwrap();
    assert_eq!(trainer.schedule, "5 4 * * *");
    let template = trainer.job_template.spec.unwrap().template;
    let labels = template.metadata.unwrap().labels.unwrap();
    let selected = selector_labels("shop");
    assert!(!selected.iter().all(|(key, value)| labels.get(key) == Some(value)));
    let container = &template.spec.unwrap().containers[0];
    assert_eq!(container.args.as_ref().unwrap()[..2], ["model", "train"]);
    assert!(container.readiness_probe.is_none());
    assert!(with("{retrain: {}}").is_some() && with("{}").is_none());
}
