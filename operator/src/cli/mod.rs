//! The command line.

mod changes;
mod check;
mod plan;
mod run;
mod validate;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use kube::CustomResourceExt as _;
use recommendation_api::pipeline::RecommendationPipeline;

pub use run::RunArgs;

/// Makes the world match `RecommendationPipeline` resources: Kafka topics, ksqlDB statements, the recommender.
#[derive(Debug, Parser)]
#[command(name = "recommendation-operator", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

const EXAMPLES: &str = "Examples:
  recommendation-operator run --watch-namespaces shop,staging
  recommendation-operator crd | kubectl apply --server-side -f -
  recommendation-operator validate -f pipeline.yaml
  recommendation-operator plan -f pipeline.yaml
  recommendation-operator completions bash > /etc/bash_completion.d/recommendation-operator";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller (the default).
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Check manifests without a cluster, as the controller does: ends with 0 if they are valid, 1 if one cannot be
    /// read, 2 if one contradicts itself, 3 if one sets a field that this version does not act on. The rules of the
    /// CRD itself are the API server's: `kubectl apply --dry-run=server`.
    Validate {
        /// The manifests (other kinds in the file are passed over); `-` reads standard input.
        #[arg(short, long, default_value = "-")]
        file: PathBuf,
    },
    /// Show what would change in Kafka, in ksqlDB and in Kubernetes, without touching anything.
    Plan(Box<plan::PlanArgs>),
    /// Ask an address until it answers with success (for `helm test`).
    Check(check::CheckArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
///
/// # Errors
/// What the command could not do, for people.
pub async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        None => run::run(cli.run).await,
        Some(Command::Run(args)) => run::run(*args).await,
        Some(Command::Crd) => {
            let yaml = serde_saphyr::to_string(&RecommendationPipeline::crd())?;
            std::io::stdout().write_all(yaml.as_bytes())?;
            Ok(())
        }
        Some(Command::Validate { file }) => return validate::run(&file),
        Some(Command::Plan(args)) => return plan::run(*args).await,
        Some(Command::Check(args)) => check::run(&args).await,
        Some(Command::Completions { shell }) => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "recommendation-operator",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    mod reference {
        include!("../../../xtask/shared/cli_reference.rs");

        #[test]
        fn every_command_and_flag_stands_in_the_reference() {
            use clap::CommandFactory as _;
            let how = "UPDATE=1 cargo test -p recommendation-operator --lib reference";
            hold(
                concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/operator-flags.md"),
                &page("`recommendation-operator`", super::super::Cli::command(), how),
            );
        }
    }

    #[test]
    fn running_is_the_default_and_its_flags_need_no_subcommand() {
        assert!(
            Cli::try_parse_from(["recommendation-operator", "--resync", "5"])
                .unwrap()
                .command
                .is_none()
        );
        let with =
            Cli::try_parse_from(["recommendation-operator", "run", "--watch-namespaces", "a,b"]).unwrap();
        assert!(matches!(with.command, Some(Command::Run(args)) if args.watch_namespaces == ["a", "b"]));
        assert!(Cli::try_parse_from(["recommendation-operator", "run", "--resync", "0"]).is_err());
    }
}
