mod fields;

use std::collections::{BTreeMap, BTreeSet};

use recommendation_api::pipeline::TopicRole;

use super::*;
use crate::fixtures::{QUICKSTART, pipeline, try_validated, validated};

fn topic_names(valid: &ValidatedPipeline) -> Vec<&str> {
    valid.topics.iter().map(|topic| topic.name.as_str()).collect()
}

#[test]
fn the_quickstart_is_accepted_with_every_default_filled_in() {
    let valid = validated(QUICKSTART);
    assert!(valid.unsupported.is_empty() && valid.missing_secrets.is_empty());
    assert_eq!(
        topic_names(&valid),
        [
            "customer_behavior",
            "products",
            "customer_profiles",
            "customer_behavior_dead_letter",
            "customer_erasures",
            "customer_salts",
            "recommendation_impressions"
        ]
    );
    let events = &valid.topics[0];
    assert_eq!(
        (
            events.partitions,
            events.default_partitions,
            events.replication_factor
        ),
        (None, 12, None)
    );
    assert_eq!(events.default_config["retention.ms"], "7776000000");
    assert_eq!(
        (
            valid.workload.replicas.unwrap(),
            valid.workload.max_unavailable,
            valid.service.port
        ),
        (2, 1, 80)
    );
    assert_eq!(valid.config.pipeline, "default/shop");
    assert_eq!(valid.config.auth.jwt_secret_file.as_deref(), Some("jwt/secret"));
    assert!(valid.make_jwt_secret);
}

#[test]
fn topics_that_carry_erasures_are_compacted_in_bounded_time() {
    let valid = validated(QUICKSTART);
    for role in [TopicRole::Profiles, TopicRole::Erasures, TopicRole::Salts] {
        let topic = valid.topics.iter().find(|topic| topic.role == role).unwrap();
        assert_eq!(topic.default_config["cleanup.policy"], "compact");
        assert!(topic.default_config.contains_key("max.compaction.lag.ms"));
        assert!(topic.default_config.contains_key("segment.ms"));
    }
}

#[test]
fn a_prefix_comes_before_every_topic_and_into_the_configuration() {
    let valid = validated("{kafka: {bootstrapServers: ['k:1']}, namePrefix: a_, topics: [{name: extra}]}");
    assert!(
        topic_names(&valid).iter().all(|name| name.starts_with("a_")),
        "{:?}",
        topic_names(&valid)
    );
    assert!(topic_names(&valid).contains(&"a_extra"));
    assert_eq!(valid.config.topics.dead_letter, "a_customer_behavior_dead_letter");
    assert_eq!(valid.config.topics.purchases, "a_customer_purchases");
}

#[test]
fn a_topic_named_like_a_role_has_that_role_and_another_may_be_given_it() {
    let valid = validated(
        "{kafka: {bootstrapServers: ['k:1']}, topics: [{name: products, partitions: 1}, {name: clicks, role: Events}]}",
    );
    let products = valid
        .topics
        .iter()
        .find(|topic| topic.role == TopicRole::Catalog)
        .unwrap();
    assert_eq!(
        (products.name.as_str(), products.partitions),
        ("products", Some(1))
    );
    assert_eq!(valid.config.topics.events, "clicks");
    assert!(!topic_names(&valid).contains(&"customer_behavior"));
}

#[test]
fn two_topics_of_one_role_are_refused_by_the_second_ones_path() {
    let error = try_validated(
        "{kafka: {bootstrapServers: ['k:1']}, topics: [{name: a, role: Events}, {name: b, role: Events}]}",
    )
    .unwrap_err();
    assert_eq!(error.path, "spec.topics[1].role");
}

#[test]
fn one_topic_with_two_roles_is_refused() {
    let error =
        try_validated("{kafka: {bootstrapServers: ['k:1']}, topics: [{name: products, role: Events}]}")
            .unwrap_err();
    assert_eq!(error.to_string(), "spec.topics: products has two roles");
}

#[test]
fn purchases_and_sinks_come_with_the_default_statements_only() {
    let with = validated("{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:8088'}}");
    assert_eq!(
        topic_names(&with)[7..],
        ["customer_purchases", "product_popularity_hourly", "event_funnel"]
    );
    assert_eq!(with.ksqldb.unwrap().statements.len(), 4);
    let own = validated(
        "{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:8088', statements: [{name: x, sql: 'CREATE STREAM x (a INT) WITH ();'}]}}",
    );
    assert_eq!(own.topics.len(), 7);
}

#[test]
fn several_statements_in_one_text_are_numbered() {
    let valid = validated(
        "{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:8088', statements: [{name: x, sql: 'CREATE STREAM x (a INT); CREATE STREAM y (a INT)'}]}}",
    );
    let names: Vec<String> = valid
        .ksqldb
        .unwrap()
        .statements
        .into_iter()
        .map(|s| s.name)
        .collect();
    assert_eq!(names, ["x-1", "x-2"]);
}

#[test]
fn statements_from_config_maps_come_in_the_keys_order_and_a_missing_one_is_named() {
    let spec = "{kafka: {bootstrapServers: ['k:1']}, ksqldb: {endpoint: 'http://q:8088', statementsFrom: [{configMapRef: {name: sql}}]}}";
    assert!(
        try_validated(spec)
            .unwrap_err()
            .to_string()
            .contains("there is no ConfigMap sql")
    );
    let data = BTreeMap::from([
        ("02-b.sql".to_owned(), "CREATE TABLE b (a INT);".to_owned()),
        ("01-a.sql".to_owned(), "CREATE STREAM a (a INT);".to_owned()),
    ]);
    let found = References {
        config_maps: BTreeMap::from([("sql".to_owned(), Some(data))]),
        ..References::default()
    };
    let valid = validate(&pipeline(spec), &found, &Settings::default()).unwrap();
    let names: Vec<String> = valid
        .ksqldb
        .unwrap()
        .statements
        .into_iter()
        .map(|s| s.name)
        .collect();
    assert_eq!(names, ["01-a", "02-b"]);
}

#[test]
fn fewer_neighbours_counted_than_kept_are_refused() {
    let error = try_validated("{kafka: {bootstrapServers: ['k:1']}, recommender: {limits: {neighbors: 99}}}")
        .unwrap_err();
    assert_eq!(error.path, "spec.recommender.limits.neighbors");
    assert!(error.problem.contains("model.neighbors"), "{error}");
}

#[test]
fn an_algorithm_without_what_it_lives_on_is_refused_with_what_to_set() {
    for (algorithm, set) in [
        ("ItemKnn", "spec.recommender.limits.neighbors"),
        ("Onnx", "spec.recommender.model.onnx"),
        ("Knowledge", "spec.recommender.model.knowledge"),
        ("Ease", "spec.recommender.snapshots"),
    ] {
        let spec = format!(
            "{{kafka: {{bootstrapServers: ['k:1']}},
              recommender: {{model: {{algorithm: {algorithm}}}, limits: {{neighbors: 0}}}}}}"
        );
        let error = try_validated(&spec).unwrap_err();
        assert_eq!(error.path, "spec.recommender.model.algorithm");
        assert!(error.problem.contains(set), "{error}");
    }
}

#[test]
fn purchases_as_source_need_ksqldb() {
    let error =
        try_validated("{kafka: {bootstrapServers: ['k:1']}, recommender: {model: {source: Purchases}}}")
            .unwrap_err();
    assert_eq!(error.path, "spec.recommender.model.source");
}

#[test]
fn a_retention_or_half_life_of_nothing_is_refused() {
    let error =
        try_validated("{kafka: {bootstrapServers: ['k:1']}, recommender: {privacy: {retention: 0s}}}")
            .unwrap_err();
    assert_eq!(error.path, "spec.recommender.privacy.retention");
    let error = try_validated("{kafka: {bootstrapServers: ['k:1']}, recommender: {model: {halfLife: 0d}}}")
        .unwrap_err();
    assert_eq!(error.path, "spec.recommender.model.halfLife");
}

#[test]
fn what_is_not_acted_on_is_named_by_its_path_and_everything_else_is() {
    let valid = validated(
        "
kafka:
  bootstrapServers: ['k:1']
  tls: {}
  authentication: {type: ScramSha512, secretRef: {name: u}}
ksqldb: {endpoint: 'https://q:1', tls: {}, upgradePolicy: Recreate}
recommender:
  model:
    algorithm: Auto
    diversity: 0.1
    exploration: 0.1
    retrain: {onDrift: Enabled}
    onnx: {url: 's3://a'}
    neighbors: 1
    knowledge: {rules: []}
  experiments: [{name: e, arms: [{algorithm: Hybrid, percent: 100}]}]
  quality: {maxEventsPerMinute: 1, driftThreshold: 1}
  limits: {neighbors: 1, postings: 1}
  cache: {redis: {url: 'redis://r'}, ttl: 1s}
  snapshots: {url: 's3://a'}
  histories: Memory
  auth: {jwksUrl: 'https://a', publishableKeys: [{name: a, secretRef: {name: a}}]}
  http: {tlsSecretRef: {name: a}}
  privacy: {pseudonymization: PerCustomerSalt, consent: OptIn}
  telemetry: {otlpEndpoint: 'http://a'}
",
    );
    assert_eq!(valid.unsupported, Vec::<String>::new());
    // There is no place for what a job would fit.
    let valid = validated(
        "{kafka: {bootstrapServers: ['k:1']}, recommender: {model: {retrain: {onDrift: Enabled}}}}",
    );
    assert_eq!(valid.unsupported, ["spec.recommender.model.retrain"]);
}

#[test]
fn a_field_that_says_what_happens_anyway_is_accepted() {
    let valid = validated(
        "
deletionPolicy: Retain
kafka: {bootstrapServers: ['k:1'], authentication: {type: None}}
ksqldb: {endpoint: 'http://q:1', upgradePolicy: InPlace}
recommender:
  histories: Memory
  privacy: {pseudonymization: Disabled, consent: OptOut}
  networkPolicy: {policy: Disabled}
monitoring: {rules: {policy: Disabled}, dashboard: {policy: Disabled}}
",
    );
    assert_eq!(valid.unsupported, Vec::<String>::new());
}

#[test]
fn missing_secrets_and_keys_are_told_by_field_and_mounted_all_the_same() {
    let spec = "
kafka: {bootstrapServers: ['k:1']}
recommender:
  auth: {jwtSecretRef: {name: jwt, key: k}, usersSecretRef: {name: users}}
  cache: {redis: {url: 'redis://r', secretRef: {name: redis}}}
";
    let found = References {
        secrets: BTreeMap::from([
            ("jwt".to_owned(), Some(BTreeSet::from(["other".to_owned()]))),
            ("users".to_owned(), Some(BTreeSet::new())),
            ("redis".to_owned(), None),
        ]),
        ..References::default()
    };
    let valid = validate(&pipeline(spec), &found, &Settings::default()).unwrap();
    assert_eq!(
        valid.missing_secrets,
        [
            "spec.recommender.auth.jwtSecretRef: Secret jwt has no key k",
            "spec.recommender.cache.redis.secretRef: there is no Secret redis"
        ]
    );
    assert!(!valid.make_jwt_secret);
    assert_eq!(valid.config.auth.users_dir.as_deref(), Some("users"));
    assert_eq!(
        valid.config.redis.unwrap().password_file.as_deref(),
        Some("redis/password")
    );
    let (secrets, _) = referenced(&pipeline(spec));
    assert_eq!(secrets.into_iter().collect::<Vec<_>>(), ["jwt", "redis", "users"]);
}

#[test]
fn weights_of_events_are_laid_over_the_default_ones() {
    let valid =
        validated("{kafka: {bootstrapServers: ['k:1']}, recommender: {model: {eventWeights: {click: 2}}}}");
    assert_eq!(
        (
            valid.config.model.event_weights["click"],
            valid.config.model.event_weights["cart"]
        ),
        (2.0, 3.0)
    );
}

#[test]
fn a_weight_of_an_unknown_event_is_refused_by_its_name() {
    let error = try_validated(
        "{kafka: {bootstrapServers: ['k:1']}, recommender: {model: {eventWeights: {clik: 2}}}}",
    )
    .unwrap_err();
    assert_eq!(error.path, "spec.recommender.model.eventWeights.clik");
    assert!(error.problem.contains("click"), "{error}");
}

#[test]
fn purchases_of_the_simplest_form_are_read_where_ksqldb_put_them() {
    let spec = "
kafka: {bootstrapServers: ['k:1']}
ksqldb: {endpoint: 'http://q:1', statements: [{name: p, sql: 'CREATE STREAM customer_purchases AS SELECT 1'}]}
recommender: {model: {source: Purchases}}
";
    let sinks = BTreeMap::from([("CUSTOMER_PURCHASES".to_owned(), "CUSTOMER_PURCHASES".to_owned())]);
    let found = References {
        sinks,
        ..References::default()
    };
    let topics = |spec: &str| {
        validate(&pipeline(spec), &found, &Settings::default())
            .unwrap()
            .config
            .topics
    };
    assert_eq!(topics(spec).purchases, "CUSTOMER_PURCHASES");
    let role = format!("{spec}topics: [{{name: bought, role: Purchases}}]");
    assert_eq!(topics(&role).purchases, "bought", "a declared topic wins");
    assert_eq!(topics(QUICKSTART).purchases, "customer_purchases");
}

#[test]
fn what_the_recommender_would_refuse_at_its_start_is_refused_here() {
    for (field, value, path) in [
        (
            "http",
            "{trustedProxies: [10.0.0.0/8, proxy]}",
            "spec.recommender.http.trustedProxies[1]",
        ),
        (
            "http",
            "{corsOrigins: [\"https://a\\u0000\"]}",
            "spec.recommender.http.corsOrigins[0]",
        ),
        (
            "telemetry",
            "{logFilter: 'info,kube=loud'}",
            "spec.recommender.telemetry.logFilter",
        ),
        ("auth", "{jwksUrl: issuer/keys}", "spec.recommender.auth.jwksUrl"),
        (
            "webhooks",
            "{gmail: {audience: a, tokenUrl: 'ftp://google'}}",
            "spec.recommender.webhooks.gmail.tokenUrl",
        ),
        (
            "telemetry",
            "{otlpEndpoint: 'collector:4317'}",
            "spec.recommender.telemetry.otlpEndpoint",
        ),
    ] {
        let spec = format!("{{kafka: {{bootstrapServers: ['k:1']}}, recommender: {{{field}: {value}}}}}");
        let refused = try_validated(&spec).expect_err(field);
        assert_eq!(refused.path, path, "{refused}");
    }
}
