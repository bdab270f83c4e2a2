//! Sign-in, HTTP, limits, webhooks, data protection, logs.

use serde::{Deserialize, Serialize};

use crate::duration::HumanDuration;
use crate::pipeline::serving::{Consent, Pseudonymization};

/// Sign-in and tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// File below the secrets folder: the HS256 key. Absent: one is made at start (embedded mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_secret_file: Option<String>,
    /// The key before it, still accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_jwt_secret_file: Option<String>,
    /// Required `iss` claim; empty: not checked.
    pub issuer: String,
    /// Folder below the secrets folder with one file a user: JSON `{passwordHash, customerId, scopes[]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_dir: Option<String>,
    /// Address of a JSON Web Key Set: RS256 and ES256 tokens signed by its keys are accepted too; empty: none.
    pub jwks_url: String,
    /// Keys that browsers may carry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publishable_keys: Vec<PublishableKeyConfig>,
}

/// A key that browsers may carry: it reads what is not personal and writes events of its own session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishableKeyConfig {
    /// Name in logs and metrics.
    pub name: String,
    /// File below the secrets folder that holds the key.
    pub key_file: String,
    /// Origins that it is bound to; empty: any.
    pub origins: Vec<String>,
}

/// HTTP behaviour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpConfig {
    /// Addresses or CIDRs whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Origins that browsers may call from; `*` for any.
    pub cors_origins: Vec<String>,
    /// Folder below the secrets folder with `tls.crt` and `tls.key` of the public port. Absent: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_dir: Option<String>,
}

/// Rate limits, taken up while running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitsConfig {
    /// `GET /api/resource` per remote address, in any 60 seconds.
    pub resource_per_minute: u32,
    /// All other routes together per remote address; 0 = no limit.
    pub requests_per_second: u32,
}

impl Default for RateLimitsConfig {
    fn default() -> Self {
        Self {
            resource_per_minute: 5,
            requests_per_second: 0,
        }
    }
}

/// Webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhooksConfig {
    /// File below the secrets folder: the HMAC-SHA256 key that signs webhooks. Absent: unsigned ones are
    /// accepted, rate-limited and warned of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_secret_file: Option<String>,
    /// Gmail's push notifications; absent: refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gmail: Option<GmailConfig>,
}

/// Gmail's push notifications through Cloud Pub/Sub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GmailConfig {
    /// The audience that the push subscription puts into its tokens. Empty: pushes are refused.
    pub audience: String,
    /// The service account that the subscription pushes as; empty: any that the issuer vouches for.
    pub service_account: String,
    /// Who issues the tokens.
    pub issuer: String,
    /// Address of the issuer's JSON Web Key Set.
    pub jwks_url: String,
    /// Folder below the secrets folder with OAuth credentials of the mailbox: files `clientId`, `clientSecret` and
    /// `refreshToken`. Absent: pushes are acknowledged, their e-mails are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<String>,
    /// Where a refresh token is exchanged for an access token.
    pub token_url: String,
    /// Gmail's API.
    pub api_url: String,
}

impl Default for GmailConfig {
    fn default() -> Self {
        Self {
            audience: String::new(),
            service_account: String::new(),
            issuer: "https://accounts.google.com".into(),
            jwks_url: "https://www.googleapis.com/oauth2/v3/certs".into(),
            credentials_dir: None,
            token_url: "https://oauth2.googleapis.com/token".into(),
            api_url: "https://gmail.googleapis.com".into(),
        }
    }
}

/// Data protection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Upper bound for personal data.
    pub retention: HumanDuration,
    /// Pseudonyms instead of customers' ids.
    pub pseudonymization: Pseudonymization,
    /// Who is tracked.
    pub consent: Consent,
    /// File below the secrets folder: the HMAC key of erasures and pseudonyms. Absent: one is made at start
    /// (embedded mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        Self {
            retention: HumanDuration::from_days(90),
            pseudonymization: Pseudonymization::Disabled,
            consent: Consent::OptOut,
            key_file: None,
        }
    }
}

/// Logs and traces; the filter is taken up while running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetryConfig {
    /// A `tracing` filter: `info`, `info,recommender::http=debug`.
    pub log_filter: String,
    /// OTLP collector that traces go to, by HTTP (`http://collector:4318`); empty: none.
    pub otlp_endpoint: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_filter: "info".into(),
            otlp_endpoint: String::new(),
        }
    }
}

/// A log filter without the blanks that people leave around its directives (`info, kube=warn`): tracing-subscriber 0.3
/// reads the name behind a blank wrongly, and panics where one is followed by letters beyond ASCII.
#[must_use]
pub fn log_directives(filter: &str) -> String {
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    directives.join(",")
}
