//! `spec.ksqldb` as a list of statements, their variables still in place: the shapes of topics are only known once
//! the topics exist.

use std::collections::BTreeMap;

use recommendation_api::pipeline::ksqldb::{StartFrom, UpgradePolicy};
use recommendation_api::pipeline::{DeletionPolicy, RecommendationPipelineSpec};

use super::{InvalidSpec, References};
use crate::kafka::connection::CA;
use crate::ksqldb::{defaults, parse};

/// A ksqlDB server and what should run there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredKsqldb {
    /// `http://host:port`.
    pub endpoint: String,
    /// Secret with `username` and `password`.
    pub credentials: Option<String>,
    /// Secret and key of the authority to trust.
    pub ca: Option<(String, String)>,
    /// New queries read from the oldest record.
    pub earliest: bool,
    /// What the server cannot replace in place is dropped and made again.
    pub recreate: bool,
    /// Topics that ksqlDB made go with what is dropped.
    pub delete_topics: bool,
    /// In the order in which they are applied.
    pub statements: Vec<DesiredStatement>,
    /// The user's variables and the names of the default streams and tables.
    pub variables: BTreeMap<String, String>,
}

/// One statement, variables in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredStatement {
    /// Name in status and messages.
    pub name: String,
    /// The field that it comes from.
    pub path: String,
    /// One statement, with its semicolon.
    pub template: String,
}

pub(super) fn desired(
    spec: &RecommendationPipelineSpec,
    found: &References,
) -> Result<Option<DesiredKsqldb>, InvalidSpec> {
    let Some(ksqldb) = &spec.ksqldb else {
        return Ok(None);
    };
    if ksqldb.tls.is_some() && !ksqldb.endpoint.starts_with("https://") {
        return Err(InvalidSpec::new(
            "spec.ksqldb.endpoint",
            "spec.ksqldb.tls is set: the endpoint must begin with https://",
        ));
    }
    let mut texts: Vec<(String, String, String)> = Vec::new();
    for (i, statement) in ksqldb.statements.iter().flatten().enumerate() {
        texts.push((
            statement.name.clone(),
            format!("spec.ksqldb.statements[{i}].sql"),
            statement.sql.clone(),
        ));
    }
    for (i, from) in ksqldb.statements_from.iter().flatten().enumerate() {
        let path = format!("spec.ksqldb.statementsFrom[{i}].configMapRef");
        let name = &from.config_map_ref.name;
        let Some(Some(data)) = found.config_maps.get(name) else {
            return Err(InvalidSpec::new(path, format!("there is no ConfigMap {name}")));
        };
        for (key, text) in data {
            texts.push((
                key.trim_end_matches(".sql").to_owned(),
                format!("{path} {name}, key {key}"),
                text.clone(),
            ));
        }
    }
    if ksqldb.statements.is_none() && ksqldb.statements_from.is_none() {
        texts.extend(defaults::FILES.iter().map(|(name, text)| {
            (
                (*name).to_owned(),
                format!("the default statement {name}"),
                (*text).to_owned(),
            )
        }));
    }
    let mut statements: Vec<DesiredStatement> = Vec::new();
    for (name, path, text) in texts {
        let parts = parse::split(&text).map_err(|error| InvalidSpec::new(&path, error.to_string()))?;
        let several = parts.len() > 1;
        for (i, template) in parts.into_iter().enumerate() {
            let name = if several {
                format!("{name}-{}", i + 1)
            } else {
                name.clone()
            };
            if statements.iter().any(|known| known.name == name) {
                return Err(InvalidSpec::new(
                    path,
                    format!("there are two statements called {name}"),
                ));
            }
            statements.push(DesiredStatement {
                name,
                path: path.clone(),
                template,
            });
        }
    }
    let mut variables = defaults::source_names(spec.name_prefix.as_deref().unwrap_or_default());
    variables.extend(ksqldb.variables.clone().unwrap_or_default());
    Ok(Some(DesiredKsqldb {
        endpoint: ksqldb.endpoint.clone(),
        ca: ksqldb
            .tls
            .as_ref()
            .and_then(|tls| tls.ca_secret_ref.as_ref())
            .map(|reference| {
                let key = reference.key.clone().unwrap_or_else(|| CA.to_owned());
                (reference.name.clone(), key)
            }),
        credentials: ksqldb.authentication.as_ref().map(|a| a.secret_ref.name.clone()),
        earliest: ksqldb.start_from.unwrap_or_default() == StartFrom::Earliest,
        recreate: ksqldb.upgrade_policy == Some(UpgradePolicy::Recreate),
        delete_topics: spec.deletion_policy == Some(DeletionPolicy::Delete),
        statements,
        variables,
    }))
}
