//! The recommender's HTTP API, as a shop's program would call it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One base address, one keep-alive connection pool, optionally a token.
#[derive(Clone, Debug)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

/// An answer: its status and its body.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When the status is not 2xx or the body is not JSON.
    pub fn json(self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("HTTP {}: {}", self.status, self.text);
        }
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {}", self.text))
    }
}

impl Api {
    /// An API at `base` (`http://host:port`).
    pub fn new(base: &str, token: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self {
            agent,
            base: base.trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// The base address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same API through a connection pool of its own (another client).
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(&self.base, self.token.clone())
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When the server cannot be reached; any status is an answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request
            .call()
            .with_context(|| format!("GET {}{path}", self.base))?;
        Ok(Answer {
            status: response.status().as_u16(),
            text: response.body_mut().read_to_string()?,
        })
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// When the server cannot be reached; any status is an answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request
            .send(body.to_string())
            .with_context(|| format!("POST {}{path}", self.base))?;
        Ok(Answer {
            status: response.status().as_u16(),
            text: response.body_mut().read_to_string()?,
        })
    }
}
