//! Parts of `spec.recommender` about requests: sign-in, HTTP, limits, webhooks, privacy, logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::common::{SecretKeyRef, SecretRef};
use crate::duration::HumanDuration;

/// Sign-in and tokens.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// HS256 key (default key `secret`). Absent: the operator makes Secret `<name>-jwt` once.
    pub jwt_secret_ref: Option<SecretKeyRef>,
    /// The key before it, still accepted during a rotation.
    pub previous_jwt_secret_ref: Option<SecretKeyRef>,
    /// Required `iss` claim. Default: not checked.
    #[schemars(length(max = 2048))]
    pub issuer: Option<String>,
    /// RS256/ES256 keys by JWKS.
    #[schemars(length(max = 2048))]
    pub jwks_url: Option<String>,
    /// Users: one key a user, JSON `{passwordHash, customerId, scopes[]}`.
    pub users_secret_ref: Option<SecretRef>,
    /// Keys that browsers may carry.
    #[schemars(length(max = 32))]
    pub publishable_keys: Option<Vec<PublishableKey>>,
}

/// A key that browsers may carry.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishableKey {
    /// Name in logs and metrics.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The key (default key `key`).
    pub secret_ref: SecretKeyRef,
    /// Origins that it is bound to.
    #[schemars(length(max = 64), inner(length(max = 2048)))]
    pub origins: Option<Vec<String>>,
}

/// HTTP behaviour.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSpec {
    /// Addresses or CIDRs whose `X-Forwarded-For` is believed. Default none.
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub trusted_proxies: Option<Vec<String>>,
    /// Origins that browsers may call from. Default none.
    #[schemars(length(max = 64), inner(length(max = 2048)))]
    pub cors_origins: Option<Vec<String>>,
    /// Certificate (keys `tls.crt`, `tls.key`). Absent: plain HTTP.
    pub tls_secret_ref: Option<SecretRef>,
}

/// Rate limits.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitsSpec {
    /// `GET /api/resource` per remote address in any 60 seconds. Default 5.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub resource_per_minute: Option<u32>,
    /// All routes per remote address; 0 = no limit. Default 0.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
}

/// Webhooks.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhooksSpec {
    /// HMAC-SHA256 key (default key `secret`). Absent: unsigned webhooks are accepted, rate-limited and warned of.
    pub hmac_secret_ref: Option<SecretKeyRef>,
    /// Gmail's push notifications through Cloud Pub/Sub. Absent: refused.
    pub gmail: Option<GmailSpec>,
}

/// Gmail's push notifications: whose tokens are believed.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GmailSpec {
    /// The audience that the push subscription puts into its tokens.
    #[schemars(length(min = 1, max = 2048))]
    pub audience: String,
    /// The service account that the subscription pushes as. Default: any that the issuer vouches for.
    #[schemars(length(max = 320))]
    pub service_account: Option<String>,
    /// Who issues the tokens. Default https://accounts.google.com.
    #[schemars(length(max = 2048))]
    pub issuer: Option<String>,
    /// Address of the issuer's JSON Web Key Set. Default https://www.googleapis.com/oauth2/v3/certs.
    #[schemars(length(max = 2048))]
    pub jwks_url: Option<String>,
    /// Secret with OAuth credentials of the mailbox, scope gmail.readonly: keys clientId, clientSecret and refreshToken.
    /// Absent: pushes are acknowledged, their e-mails are not read.
    pub credentials_secret_ref: Option<SecretRef>,
    /// Where the refresh token is exchanged. Default https://oauth2.googleapis.com/token.
    #[schemars(length(max = 2048))]
    pub token_url: Option<String>,
    /// Address of Gmail's API. Default https://gmail.googleapis.com.
    #[schemars(length(max = 2048))]
    pub api_url: Option<String>,
}

/// Data protection.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivacySpec {
    /// Upper bound for personal data on topics that the operator makes. Default 90d.
    pub retention: Option<HumanDuration>,
    /// Default Disabled.
    pub pseudonymization: Option<Pseudonymization>,
    /// Default OptOut.
    pub consent: Option<Consent>,
}

/// Pseudonyms instead of customers' ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pseudonymization {
    /// Ids as they are.
    #[default]
    Disabled,
    /// HMAC with a salt per customer, whose deletion makes the log unlinkable.
    PerCustomerSalt,
}

/// Who is tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Consent {
    /// Tracked until refused.
    #[default]
    OptOut,
    /// Tracked once agreed.
    OptIn,
}

/// Logs and traces.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TelemetrySpec {
    /// A tracing filter. Default info.
    #[schemars(length(min = 1, max = 1024))]
    pub log_filter: Option<String>,
    /// OTLP collector for traces. Default none.
    #[schemars(length(max = 2048))]
    pub otlp_endpoint: Option<String>,
}
