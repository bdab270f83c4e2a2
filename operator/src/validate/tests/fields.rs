//! Each field of `spec.recommender` that the recommender reads, set to something else than its default, and where it is in
//! the configuration then.

use serde_json::{Value, json};

use super::*;
use crate::fixtures::validated;

/// A field below `spec.recommender`, what else of `spec.recommender` it needs, its value, and where the configuration
/// has which value because of it.
type Case = (&'static str, &'static str, &'static str, &'static str, Value);

fn cases() -> Vec<Case> {
    let redis = "cache: {redis: {url: 'redis://r:6379'}}";
    vec![
        (
            "model.algorithm",
            "",
            "ItemKnn",
            "/model/algorithm",
            json!("ItemKnn"),
        ),
        ("model.neighbors", "", "7", "/model/neighbors", json!(7)),
        (
            "model.eventWeights",
            "",
            "{click: 2}",
            "/model/eventWeights/click",
            json!(2.0),
        ),
        ("model.historyLength", "", "9", "/model/historyLength", json!(9)),
        ("model.halfLife", "", "7d", "/model/halfLife", json!("7d")),
        ("model.diversity", "", "0.5", "/model/diversity", json!(0.5)),
        ("model.exploration", "", "0.1", "/model/exploration", json!(0.1)),
        (
            "model.retrain.schedule",
            "",
            "'5 4 * * *'",
            "/model/retrain/schedule",
            json!("5 4 * * *"),
        ),
        (
            "model.retrain.onDrift",
            "",
            "Disabled",
            "/model/retrain/onDrift",
            json!("Disabled"),
        ),
        (
            "model.onnx.url",
            "",
            "'s3://m/a.onnx'",
            "/model/onnx/url",
            json!("s3://m/a.onnx"),
        ),
        (
            "model.onnx",
            "",
            "{url: 's3://m/a', secretRef: {name: store}}",
            "/model/onnx/credentialsDir",
            json!("onnx"),
        ),
        (
            "model.knowledge.rules",
            "",
            "[{customerAttribute: skin, productAttribute: for_skin, effect: Must, weight: 2}]",
            "/model/knowledge/0",
            json!({"customerAttribute": "skin", "productAttribute": "for_skin", "effect": "Must", "weight": 2.0}),
        ),
        (
            "rules.purchased",
            "",
            "Include",
            "/rules/purchased",
            json!("Include"),
        ),
        (
            "rules.excludeProducts",
            "",
            "[POST]",
            "/rules/excludeProducts",
            json!(["POST"]),
        ),
        ("rules.pin", "", "[a, b]", "/rules/pin", json!(["a", "b"])),
        ("rules.maxPerCategory", "", "3", "/rules/maxPerCategory", json!(3)),
        (
            "experiments",
            "",
            "[{name: e, arms: [{algorithm: ItemKnn, percent: 100}]}]",
            "/experiments/0/arms/0",
            json!({"algorithm": "ItemKnn", "percent": 100}),
        ),
        ("limits.maxProducts", "", "10", "/limits/maxProducts", json!(10)),
        ("limits.maxCustomers", "", "11", "/limits/maxCustomers", json!(11)),
        ("limits.neighbors", "", "120", "/limits/neighbors", json!(120)),
        ("limits.postings", "", "13", "/limits/postings", json!(13)),
        (
            "quality.maxEventsPerMinute",
            "",
            "14",
            "/quality/maxEventsPerMinute",
            json!(14),
        ),
        (
            "quality.driftThreshold",
            "",
            "0.5",
            "/quality/driftThreshold",
            json!(0.5),
        ),
        (
            "quality.maxLagSeconds",
            "",
            "15",
            "/quality/maxLagSeconds",
            json!(15),
        ),
        (
            "snapshots.url",
            "",
            "'s3://m/shop'",
            "/snapshots/url",
            json!("s3://m/shop"),
        ),
        (
            "snapshots",
            "",
            "{url: 's3://m', interval: 5m, secretRef: {name: store}}",
            "/snapshots",
            json!({"url": "s3://m", "interval": "5m", "credentialsDir": "snapshots"}),
        ),
        ("histories", redis, "Redis", "/histories", json!("Redis")),
        (
            "cache.redis.url",
            "",
            "'redis://r:1'",
            "/redis/url",
            json!("redis://r:1"),
        ),
        (
            "cache.redis",
            "",
            "{url: 'redis://r:1', secretRef: {name: r}}",
            "/redis/passwordFile",
            json!("redis/password"),
        ),
        (
            "cache",
            "",
            "{redis: {url: 'redis://r'}, ttl: 5s}",
            "/redis/ttl",
            json!("5s"),
        ),
        (
            "auth.jwtSecretRef",
            "",
            "{name: own, key: k}",
            "/auth/jwtSecretFile",
            json!("jwt/secret"),
        ),
        (
            "auth.previousJwtSecretRef",
            "",
            "{name: old}",
            "/auth/previousJwtSecretFile",
            json!("jwt-previous/secret"),
        ),
        ("auth.issuer", "", "me", "/auth/issuer", json!("me")),
        (
            "auth.jwksUrl",
            "",
            "'https://i/jwks'",
            "/auth/jwksUrl",
            json!("https://i/jwks"),
        ),
        (
            "auth.usersSecretRef",
            "",
            "{name: users}",
            "/auth/usersDir",
            json!("users"),
        ),
        (
            "auth.publishableKeys",
            "",
            "[{name: web, secretRef: {name: web}, origins: ['https://a']}]",
            "/auth/publishableKeys/0",
            json!({"name": "web", "keyFile": "publishable-0/key", "origins": ["https://a"]}),
        ),
        (
            "http.trustedProxies",
            "",
            "[10.0.0.0/8]",
            "/http/trustedProxies",
            json!(["10.0.0.0/8"]),
        ),
        (
            "http.corsOrigins",
            "",
            "['https://a']",
            "/http/corsOrigins",
            json!(["https://a"]),
        ),
        (
            "http.tlsSecretRef",
            "",
            "{name: cert}",
            "/http/tlsDir",
            json!("tls"),
        ),
        (
            "rateLimits.resourcePerMinute",
            "",
            "6",
            "/rateLimits/resourcePerMinute",
            json!(6),
        ),
        (
            "rateLimits.requestsPerSecond",
            "",
            "8",
            "/rateLimits/requestsPerSecond",
            json!(8),
        ),
        (
            "webhooks.hmacSecretRef",
            "",
            "{name: hook}",
            "/webhooks/hmacSecretFile",
            json!("webhook/secret"),
        ),
        (
            "webhooks.gmail",
            "",
            "{audience: shop, serviceAccount: push@shop, issuer: 'https://i', jwksUrl: 'https://i/keys', credentialsSecretRef: {name: mailbox}, tokenUrl: 'https://i/token', apiUrl: 'https://i/mail'}",
            "/webhooks/gmail",
            json!({"audience": "shop", "serviceAccount": "push@shop", "issuer": "https://i", "jwksUrl": "https://i/keys", "credentialsDir": "gmail", "tokenUrl": "https://i/token", "apiUrl": "https://i/mail"}),
        ),
        ("privacy.retention", "", "7d", "/privacy/retention", json!("7d")),
        (
            "privacy.pseudonymization",
            "",
            "PerCustomerSalt",
            "/privacy/pseudonymization",
            json!("PerCustomerSalt"),
        ),
        ("privacy.consent", "", "OptIn", "/privacy/consent", json!("OptIn")),
        (
            "telemetry.logFilter",
            "",
            "debug",
            "/telemetry/logFilter",
            json!("debug"),
        ),
        (
            "telemetry.otlpEndpoint",
            "",
            "'http://c:4317'",
            "/telemetry/otlpEndpoint",
            json!("http://c:4317"),
        ),
    ]
}

/// `a.b` and `v` as `a: {b: v}`.
fn nested(path: &str, value: &str) -> String {
    match path.split_once('.') {
        Some((first, rest)) => format!("{first}: {{{}}}", nested(rest, value)),
        None => format!("{path}: {value}"),
    }
}

#[test]
fn each_field_that_the_recommender_reads_is_in_its_configuration() {
    let plain = serde_json::to_value(validated(QUICKSTART).config).unwrap();
    for (field, beside, value, place, expected) in cases() {
        let comma = if beside.is_empty() { "" } else { ", " };
        let spec = format!(
            "{{kafka: {{bootstrapServers: ['k:1']}}, recommender: {{{beside}{comma}{}}}}}",
            nested(field, value)
        );
        let config = serde_json::to_value(validated(&spec).config).unwrap();
        assert_eq!(config.pointer(place), Some(&expected), "{field}");
        let made = ["auth.jwtSecretRef"].contains(&field);
        assert!(
            made || plain.pointer(place) != Some(&expected),
            "{field} is no default"
        );
    }
}

#[test]
fn every_secret_that_is_named_is_mounted_from_its_own_folder() {
    let valid = validated(
        "
kafka: {bootstrapServers: ['k:1']}
recommender:
  model: {onnx: {url: 's3://m', secretRef: {name: onnx-store}}}
  snapshots: {url: 's3://m', secretRef: {name: snapshot-store}}
  auth: {publishableKeys: [{name: web, secretRef: {name: web}}, {name: app, secretRef: {name: app, key: k}}]}
  http: {tlsSecretRef: {name: cert}}
",
    );
    let mounted: Vec<(&str, &str)> = valid
        .mounts
        .iter()
        .map(|mount| (mount.folder.as_str(), mount.secret.as_str()))
        .collect();
    for wanted in [
        ("onnx", "onnx-store"),
        ("snapshots", "snapshot-store"),
        ("publishable-0", "web"),
        ("publishable-1", "app"),
        ("tls", "cert"),
    ] {
        assert!(mounted.contains(&wanted), "{wanted:?} in {mounted:?}");
    }
}

#[test]
fn a_certificates_secret_must_have_both_its_keys() {
    let spec = "{kafka: {bootstrapServers: ['k:1']}, recommender: {http: {tlsSecretRef: {name: cert}}}}";
    let keys = BTreeSet::from(["tls.crt".to_owned()]);
    let found = References {
        secrets: BTreeMap::from([("cert".to_owned(), Some(keys))]),
        ..References::default()
    };
    let valid = validate(&pipeline(spec), &found, &Settings::default()).unwrap();
    assert_eq!(
        valid.missing_secrets,
        ["spec.recommender.http.tlsSecretRef: Secret cert has no key tls.key"]
    );
}

#[test]
fn what_a_field_lives_on_is_asked_for_by_name() {
    for (recommender, path, wanted) in [
        (
            "{model: {algorithm: Ease}}",
            "spec.recommender.model.algorithm",
            "spec.recommender.snapshots",
        ),
        (
            "{model: {algorithm: ImplicitAls}}",
            "spec.recommender.model.algorithm",
            "spec.recommender.snapshots",
        ),
        (
            "{model: {algorithm: Onnx}}",
            "spec.recommender.model.algorithm",
            "spec.recommender.model.onnx",
        ),
        (
            "{model: {algorithm: Knowledge}}",
            "spec.recommender.model.algorithm",
            "spec.recommender.model.knowledge",
        ),
        (
            "{experiments: [{name: e, arms: [{algorithm: Ease, percent: 100}]}]}",
            "spec.recommender.experiments[0].arms[0].algorithm",
            "spec.recommender.snapshots",
        ),
        (
            "{experiments: [{name: e, arms: [{algorithm: Hybrid, percent: 100}]}, {name: e, arms: [{algorithm: Hybrid, percent: 100}]}]}",
            "spec.recommender.experiments[1].name",
            "stands twice",
        ),
        (
            "{histories: Redis}",
            "spec.recommender.histories",
            "spec.recommender.cache.redis",
        ),
        (
            "{histories: Redis, cache: {redis: {url: 'redis://r'}}, privacy: {consent: OptIn}}",
            "spec.recommender.histories",
            "privacy.consent",
        ),
        (
            "{model: {retrain: {schedule: daily}}}",
            "spec.recommender.model.retrain.schedule",
            "cron",
        ),
        (
            "{autoscaling: {maxReplicas: 3}, resources: {limits: {memory: 1Gi}}}",
            "spec.recommender.resources.requests.cpu",
            "autoscaling",
        ),
    ] {
        let spec = format!("{{kafka: {{bootstrapServers: ['k:1']}}, recommender: {recommender}}}");
        let error = try_validated(&spec).unwrap_err();
        assert_eq!(error.path, path, "{recommender}");
        assert!(error.problem.contains(wanted), "{error}");
    }
}

#[test]
fn bounds_of_the_autoscaler_have_defaults_that_do_not_contradict_a_low_maximum() {
    let bounds = |autoscaling: &str| {
        let spec =
            format!("{{kafka: {{bootstrapServers: ['k:1']}}, recommender: {{autoscaling: {autoscaling}}}}}");
        validated(&spec).workload.autoscaling.unwrap()
    };
    let a = bounds("{maxReplicas: 9}");
    assert_eq!((a.min, a.max, a.target_cpu), (2, 9, 70));
    assert_eq!(bounds("{maxReplicas: 1}").min, 1);
}

#[test]
fn pods_are_started_again_for_a_secret_only_if_it_is_read_at_their_start() {
    let spec = "
kafka: {bootstrapServers: ['k:1']}
recommender:
  auth: {jwtSecretRef: {name: jwt}}
  cache: {redis: {url: 'redis://r', secretRef: {name: redis}}}
";
    let with = |jwt: &str, redis: &str| {
        let contents =
            [("jwt", jwt), ("redis", redis)].map(|(name, hash)| (name.to_owned(), hash.to_owned()));
        let found = References {
            contents: contents.into(),
            ..References::default()
        };
        let valid = validate(&pipeline(spec), &found, &Settings::default()).unwrap();
        let template = crate::build::children(&valid).deployment.spec.unwrap().template;
        template.metadata.unwrap().annotations.unwrap()
    };
    assert_eq!(with("a", "a"), with("b", "a"), "keys of tokens are read again");
    assert_ne!(with("a", "a"), with("a", "b"));
}

#[test]
fn figures_read_the_tables_of_the_default_statements_of_a_server_without_login_and_no_others() {
    let ksqldb = |more: &str| {
        let yaml = format!(
            "{{namePrefix: a-, kafka: {{bootstrapServers: ['k:1']}}, ksqldb: {{endpoint: 'http://k:8088'{more}}}}}"
        );
        serde_json::to_value(validated(&yaml).config.ksqldb).unwrap()
    };
    assert_eq!(
        ksqldb(""),
        json!({"url": "http://k:8088", "funnel": "a_event_funnel", "popularity": "a_product_popularity_hourly"})
    );
    for more in [
        ", authentication: {secretRef: {name: u}}",
        ", statements: [{name: s, sql: 'CREATE STREAM s (a VARCHAR) WITH (kafka_topic=''t'', value_format=''JSON'');'}]",
    ] {
        assert_eq!(ksqldb(more), Value::Null, "{more}");
    }
}
