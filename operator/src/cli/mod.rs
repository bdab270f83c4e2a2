//! The command line.

mod check;
mod plan;
mod run;
mod validate;

use std::io::Write as _;
use std::path::PathBuf;

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
    /// Check a manifest without a cluster: what is invalid, what this version does not act on.
    Validate {
        /// The manifest; `-` reads standard input.
        #[arg(short, long, default_value = "-")]
        file: PathBuf,
    },
    /// Show what would be done to topics and statements, without touching anything.
    Plan {
        /// The manifest; `-` reads standard input.
        #[arg(short, long, default_value = "-")]
        file: PathBuf,
        /// Namespace whose record of earlier applies counts [default: the manifest's, then the context's].
        #[arg(short, long)]
        namespace: Option<String>,
    },
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
pub async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        None => run::run(cli.run).await,
        Some(Command::Run(args)) => run::run(*args).await,
        Some(Command::Crd) => {
            let yaml = serde_saphyr::to_string(&RecommendationPipeline::crd())?;
            std::io::stdout().write_all(yaml.as_bytes())?;
            Ok(())
        }
        Some(Command::Validate { file }) => validate::run(&file),
        Some(Command::Plan { file, namespace }) => plan::run(&file, namespace.as_deref()).await,
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
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
