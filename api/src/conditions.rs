//! Condition types and reasons of a `RecommendationPipeline`, in one place: dashboards, alerts, Argo CD's
//! health check and people's scripts match on these strings.

/// Condition types.
pub mod types {
    /// Everything below is as declared.
    pub const READY: &str = "Ready";
    /// Every field is valid and acted on.
    pub const SPEC_ACCEPTED: &str = "SpecAccepted";
    /// Every topic is as declared.
    pub const TOPICS_READY: &str = "TopicsReady";
    /// Every ksqlDB statement is applied.
    pub const STATEMENTS_READY: &str = "StatementsReady";
    /// The Deployment is available and rolled out.
    pub const RECOMMENDER_AVAILABLE: &str = "RecommenderAvailable";
    /// The model serves and is not behind.
    pub const MODEL_READY: &str = "ModelReady";
    /// ServiceMonitor, rules and dashboard are applied.
    pub const MONITORING_READY: &str = "MonitoringReady";
    /// The model's drift is over its threshold (abnormal-true).
    pub const MODEL_DRIFTED: &str = "ModelDrifted";
    /// Deletion waits for something (abnormal-true).
    pub const CLEANUP_BLOCKED: &str = "CleanupBlocked";
    /// `spec.suspend` is set.
    pub const SUSPENDED: &str = "Suspended";
    /// kstatus: work in progress (abnormal-true).
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: needs a person (abnormal-true).
    pub const STALLED: &str = "Stalled";
}

/// Reasons.
pub mod reasons {
    /// All is well.
    pub const READY: &str = "Ready";
    /// The spec is accepted.
    pub const ACCEPTED: &str = "Accepted";
    /// The spec is contradictory or out of range.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A Secret or one of its keys is missing.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A field is set that this version does not act on.
    pub const UNSUPPORTED_FIELD: &str = "UnsupportedField";
    /// Topics are as declared.
    pub const TOPICS_AS_DECLARED: &str = "AsDeclared";
    /// Fewer partitions asked for than there are.
    pub const PARTITION_DECREASE: &str = "PartitionDecrease";
    /// Another replication factor asked for than there is.
    pub const REPLICATION_FACTOR_MISMATCH: &str = "ReplicationFactorMismatch";
    /// An older pipeline owns the topic.
    pub const TOPIC_CONFLICT: &str = "TopicConflict";
    /// Kafka refused the operation.
    pub const AUTHORIZATION_FAILED: &str = "AuthorizationFailed";
    /// Kafka refused the topic as declared (a bad configuration, too many replicas).
    pub const TOPIC_REJECTED: &str = "TopicRejected";
    /// Another Kafka cluster than `spec.kafka.clusterId` answered.
    pub const CLUSTER_ID_MISMATCH: &str = "ClusterIdMismatch";
    /// Kafka does not answer.
    pub const KAFKA_UNREACHABLE: &str = "KafkaUnreachable";
    /// `spec.ksqldb` or the monitoring part is absent.
    pub const NOT_CONFIGURED: &str = "NotConfigured";
    /// Every statement is applied.
    pub const STATEMENTS_APPLIED: &str = "Applied";
    /// ksqlDB refused a statement.
    pub const STATEMENT_REJECTED: &str = "StatementRejected";
    /// A stream of that name exists that this pipeline did not make.
    pub const STATEMENT_CONFLICT: &str = "StatementConflict";
    /// The server cannot upgrade the statement in place.
    pub const UPGRADE_NOT_SUPPORTED: &str = "UpgradeNotSupported";
    /// A query is in state ERROR.
    pub const QUERY_FAILED: &str = "QueryFailed";
    /// Statements wait for their topics.
    pub const WAITING_FOR_TOPICS: &str = "WaitingForTopics";
    /// ksqlDB does not answer, or is not ready.
    pub const KSQLDB_UNREACHABLE: &str = "KsqldbUnreachable";
    /// The Deployment is available and rolled out.
    pub const AVAILABLE: &str = "Available";
    /// A rollout goes on.
    pub const ROLLOUT_IN_PROGRESS: &str = "RolloutInProgress";
    /// Too few replicas are ready.
    pub const MINIMUM_REPLICAS_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
    /// A quota forbids more pods.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// The API server refused a child object.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// The model serves.
    pub const SERVING: &str = "Serving";
    /// The model is reading the log.
    pub const LOADING: &str = "Loading";
    /// The model is behind the log.
    pub const STALE: &str = "Stale";
    /// Drift is over its threshold.
    pub const DRIFTED: &str = "Drifted";
    /// No ready pod answers `/status`.
    pub const STATUS_UNREACHABLE: &str = "StatusUnreachable";
    /// Monitoring objects are applied.
    pub const MONITORING_APPLIED: &str = "Applied";
    /// The monitoring CRDs are absent and `IfAvailable` was said.
    pub const NOT_INSTALLED: &str = "NotInstalled";
    /// The monitoring CRDs are absent and `Required` was said.
    pub const CRD_NOT_INSTALLED: &str = "CRDNotInstalled";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// Not looked at, because an earlier step failed.
    pub const BLOCKED: &str = "Blocked";
    /// kstatus: in progress.
    pub const PROGRESSING: &str = "Progressing";
    /// While deleting: credentials are gone.
    pub const CREDENTIALS_GONE: &str = "CredentialsGone";
}
