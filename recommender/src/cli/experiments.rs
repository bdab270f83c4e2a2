//! `recommender experiments`: what the arms of experiments lead to.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use secrecy::{ExposeSecret as _, SecretString};

use super::print;
use crate::http::outgoing;
use crate::insights::report::{ArmView, Comparison, Estimate, ExperimentView, MetricDifference, Report};

/// Longest to wait for the service.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    recommender experiments report --url http://localhost:8080 --token \"$(recommender token --embedded ./shop.db --user analyst --scope insights:read)\"")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Click-through, conversion and revenue of each arm, and each arm against the control
    Report(ReportArgs),
}

#[derive(clap::Args)]
struct ReportArgs {
    /// A running service
    #[arg(long, value_name = "URL")]
    url: String,
    /// Token with scope insights:read
    #[arg(long, value_name = "TOKEN", env = "RECOMMENDER_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
    /// Days that the figures are about
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..=7))]
    days: u8,
    /// Only this experiment
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// A list of experiments.
    Json,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Report(args) = args.command;
    let mut report = ask(&args).await?;
    if let Some(name) = &args.experiment {
        report
            .experiments
            .retain(|experiment| experiment.name.as_ref() == Some(name));
        if report.experiments.is_empty() {
            bail!(
                "nothing was shown in an experiment {name:?} in the last {} days",
                report.days
            );
        }
    }
    match args.output {
        Form::Json => print(format!("{}\n", serde_json::to_string_pretty(&report.experiments)?).as_bytes()),
        Form::Table => print(text(&report).as_bytes()),
    }
}

async fn ask(args: &ReportArgs) -> anyhow::Result<Report> {
    let url = format!(
        "{}/v1/insights?days={}&limit=1",
        args.url.trim_end_matches('/'),
        args.days
    );
    let mut request = outgoing::client(TIMEOUT)?.get(&url);
    if let Some(token) = &args.token {
        request = request.bearer_auth(token.expose_secret());
    }
    let answer = request
        .send()
        .await
        .with_context(|| format!("{} does not answer", args.url))?;
    let status = answer.status();
    let body = answer.bytes().await?;
    if !status.is_success() {
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        bail!(
            "{url}: {status}: {}",
            problem["detail"].as_str().unwrap_or("no reason given")
        );
    }
    serde_json::from_slice(&body).with_context(|| format!("{url} is no recommender's answer"))
}

fn text(report: &Report) -> String {
    if report.experiments.is_empty() {
        return "nothing was shown to customers yet\n".to_owned();
    }
    let mut text = String::new();
    for experiment in &report.experiments {
        text.push_str(&of_experiment(experiment));
    }
    let until = report.until.as_deref().unwrap_or("now");
    text.push_str(&format!(
        "{} days until {until}; intervals are of 95 %\n",
        report.days
    ));
    if report.share_of_customers < 1.0 {
        let percent = report.share_of_customers * 100.0;
        text.push_str(&format!(
            "from {percent:.1} % of the customers; counts are extrapolated\n"
        ));
    }
    text
}

fn of_experiment(experiment: &ExperimentView) -> String {
    let name = experiment.name.as_deref();
    let title = name.map_or_else(
        || "outside of experiments".to_owned(),
        |name| format!("experiment {name}"),
    );
    let mut arms = table(&[
        "ARM",
        "PLACEMENT",
        "CUSTOMERS",
        "ANSWERS",
        "CLICK-THROUGH",
        "CONVERSION",
        "PURCHASES",
        "REVENUE",
        "REVENUE/CUSTOMER",
    ]);
    for arm in &experiment.arms {
        arms.add_row(row(arm));
    }
    let mut text = format!("{title}\n{arms}\n\n");
    if !experiment.comparisons.is_empty() {
        let mut against = table(&[
            "ARM",
            "AGAINST",
            "CLICK-THROUGH",
            "CONVERSION",
            "REVENUE/CUSTOMER",
        ]);
        for comparison in &experiment.comparisons {
            against.add_row(difference(comparison));
        }
        text.push_str(&format!(
            "{against}\n* significant at 5 %, over all arms together\n\n"
        ));
    }
    text
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(columns);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(arm: &ArmView) -> Vec<String> {
    vec![
        arm.arm.clone(),
        arm.placement.clone().unwrap_or_else(|| "all".into()),
        arm.customers.to_string(),
        arm.answers.to_string(),
        percent(&arm.click_through),
        percent(&arm.conversion),
        arm.purchases.to_string(),
        format!("{:.2}", arm.revenue),
        amount(&arm.revenue_per_customer),
    ]
}

fn percent(estimate: &Estimate) -> String {
    interval(
        estimate.value,
        estimate.low,
        estimate.high,
        |x| format!("{:.2}", x * 100.0),
        " %",
    )
}

fn amount(estimate: &Estimate) -> String {
    interval(
        estimate.value,
        estimate.low,
        estimate.high,
        |x| format!("{x:.2}"),
        "",
    )
}

fn interval(
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
    form: impl Fn(f64) -> String,
    unit: &str,
) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("{}{unit} ({} … {})", form(value), form(low), form(high)),
        _ => format!("{}{unit}", form(value)),
    }
}

fn difference(found: &Comparison) -> Vec<String> {
    let told = |metric: &MetricDifference, form: &dyn Fn(f64) -> String, unit: &str| {
        let range = interval(metric.difference, metric.low, metric.high, form, unit);
        let p = metric.p_value.map_or_else(String::new, |p| match p {
            p if p < 0.001 => " p<0.001".to_owned(),
            p => format!(" p={p:.3}"),
        });
        let star = if metric.significant { " *" } else { "" };
        format!("{range}{p}{star}")
    };
    let points = |x: f64| format!("{:+.2}", x * 100.0);
    let money = |x: f64| format!("{x:+.2}");
    vec![
        found.arm.clone(),
        found.control.clone(),
        told(&found.click_through, &points, " points"),
        told(&found.conversion, &points, " points"),
        told(&found.revenue_per_customer, &money, ""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_and_their_differences_are_told_with_intervals() {
        let estimate = |value| Estimate {
            value,
            low: Some(value / 2.0),
            high: Some(value * 2.0),
        };
        let arm = |arm: &str, placement: Option<&str>| ArmView {
            arm: arm.into(),
            placement: placement.map(Into::into),
            customers: 10,
            answers: 20,
            clicked_answers: 4,
            carted_answers: 2,
            purchases: 1,
            converted_customers: 1,
            revenue: 12.5,
            click_through: estimate(0.2),
            conversion: estimate(0.1),
            revenue_per_customer: estimate(1.25),
        };
        let metric = MetricDifference {
            difference: 0.05,
            low: Some(0.01),
            high: Some(0.09),
            p_value: Some(0.012),
            significant: true,
        };
        let report = Report {
            days: 7,
            share_of_customers: 0.5,
            experiments: vec![ExperimentView {
                name: Some("ranking".into()),
                control: Some("Hybrid".into()),
                arms: vec![arm("Hybrid", None), arm("SessionKnn", Some("home"))],
                comparisons: vec![Comparison {
                    arm: "SessionKnn".into(),
                    control: "Hybrid".into(),
                    click_through: metric,
                    conversion: metric,
                    revenue_per_customer: metric,
                }],
            }],
            ..Report::default()
        };
        let told = text(&report);
        for part in [
            "experiment ranking",
            "20.00 % (10.00 … 40.00)",
            "+5.00 points (+1.00 … +9.00) p=0.012 *",
            "50.0 % of the customers",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(text(&Report::default()).contains("nothing was shown"));
    }
}
