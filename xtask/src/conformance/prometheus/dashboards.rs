//! The queries of a Grafana dashboard, with its variables put in as Grafana does.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Grafana's own variables for a scrape every 15 seconds and a range of five minutes.
const BUILT_IN: [(&str, &str); 3] = [
    ("__rate_interval", "1m"),
    ("__interval", "15s"),
    ("__range", "5m"),
];

/// One query of one panel.
pub(super) struct Query {
    /// Title of the dashboard.
    pub dashboard: String,
    /// Title of the panel.
    pub panel: String,
    /// PromQL without variables.
    pub expr: String,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} / {}: {}", self.dashboard, self.panel, self.expr)
    }
}

/// All queries of a dashboard. `label_values` answers what a variable asks for: the values of a label of the series that a
/// selector picks.
pub(super) fn queries(
    dashboard: &Value,
    label_values: impl Fn(&str, &str) -> Result<Vec<String>>,
) -> Result<Vec<Query>> {
    let title = dashboard["title"].as_str().unwrap_or_default();
    let mut variables: Vec<(String, String)> = BUILT_IN
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    for variable in items(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            let value = value_of(variable, &variables, &label_values)
                .with_context(|| format!("{title}: variable {}", variable["name"]))?;
            variables.push((text(&variable["name"]), value));
        }
    }
    // Longer names first: `$pipeline` must not be taken for `$pipe`.
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut all = Vec::new();
    collect(&dashboard["panels"], title, &variables, &mut all)?;
    Ok(all)
}

fn collect(panels: &Value, title: &str, variables: &[(String, String)], into: &mut Vec<Query>) -> Result<()> {
    for panel in items(panels) {
        let name = text(&panel["title"]);
        if panel["type"] != "row" && panel["type"] != "text" && items(&panel["targets"]).next().is_none() {
            bail!("{title}: panel {name} asks nothing");
        }
        for target in items(&panel["targets"]) {
            let expr = put_in(&text(&target["expr"]), variables);
            if expr.contains('$') {
                bail!("{title}: panel {name} has a variable that nothing sets: {expr}");
            }
            into.push(Query {
                dashboard: title.to_owned(),
                panel: name.clone(),
                expr,
            });
        }
        collect(&panel["panels"], title, variables, into)?;
    }
    Ok(())
}

/// What a variable is set to when the dashboard opens: what it carries if that is offered, else the first that is.
fn value_of(
    variable: &Value,
    earlier: &[(String, String)],
    label_values: &impl Fn(&str, &str) -> Result<Vec<String>>,
) -> Result<String> {
    let query = put_in(&text(&variable["query"]), earlier);
    let (selector, label) = query
        .strip_prefix("label_values(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inner| inner.rsplit_once(','))
        .with_context(|| format!("not label_values(selector, label): {query}"))?;
    let mut offered = label_values(selector.trim(), label.trim())?;
    if let Some(regex) = variable["regex"].as_str().filter(|regex| !regex.is_empty()) {
        let suffix = regex
            .strip_prefix("/^(.*)")
            .and_then(|rest| rest.strip_suffix("$/"))
            .with_context(|| format!("not of the form /^(.*)suffix$/: {regex}"))?;
        offered = offered
            .iter()
            .filter_map(|value| value.strip_suffix(suffix).map(str::to_owned))
            .collect();
    }
    let current = variable["current"]["value"].as_str();
    match current {
        Some(current) if offered.iter().any(|value| value == current) => Ok(current.to_owned()),
        Some(current) => bail!("opens with {current}, but only {offered:?} is offered"),
        None => offered
            .into_iter()
            .next()
            .with_context(|| format!("{query} offers nothing")),
    }
}

fn put_in(expr: &str, variables: &[(String, String)]) -> String {
    variables.iter().fold(expr.to_owned(), |expr, (name, value)| {
        expr.replace(&format!("${{{name}}}"), value)
            .replace(&format!("${name}"), value)
    })
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dashboard(expr: &str) -> Value {
        json!({"title": "D", "templating": {"list": [
            {"name": "ns", "type": "query", "query": "label_values(up, namespace)"},
            {"name": "pipe", "type": "query", "query": "label_values(up{namespace=\"$ns\"}, service)", "regex": "/^(.*)-internal$/"},
        ]}, "panels": [{"type": "row", "title": "R", "panels": [
            {"type": "timeseries", "title": "P", "targets": [{"expr": expr}]}]}]})
    }

    fn offered(selector: &str, label: &str) -> Result<Vec<String>> {
        Ok(match (selector, label) {
            ("up", "namespace") => vec!["a".to_owned()],
            ("up{namespace=\"a\"}", "service") => vec!["x".to_owned(), "shop-internal".to_owned()],
            other => bail!("asked for {other:?}"),
        })
    }

    #[test]
    fn variables_are_put_in_one_after_the_other_as_grafana_does() {
        let all = queries(
            &dashboard("rate(m{ns=\"$ns\",s=\"${pipe}\"}[$__rate_interval])"),
            offered,
        )
        .expect("queries");
        assert_eq!(all[0].expr, "rate(m{ns=\"a\",s=\"shop\"}[1m])");
        assert_eq!(all[0].panel, "P");
    }

    #[test]
    fn a_variable_that_nothing_sets_is_an_error() {
        assert!(queries(&dashboard("m{a=\"$other\"}"), offered).is_err());
    }

    #[test]
    fn a_dashboard_that_opens_with_what_is_not_there_is_an_error() {
        let mut dashboard = dashboard("m");
        dashboard["templating"]["list"][1]["current"] = json!({"value": "blog"});
        let error = queries(&dashboard, offered).err().expect("blog is not offered");
        assert!(format!("{error:#}").contains("opens with blog"), "{error:#}");
    }
}
