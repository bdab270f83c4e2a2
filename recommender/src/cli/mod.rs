//! The command line. Each command is one file; its help ends with an example that works as it stands.

mod bench;
mod dead_letters;
mod evaluate;
mod experiments;
mod export;
mod feed;
mod import;
mod place;
mod records;
mod replay;
mod serve;
mod state;
mod target;
mod token;
mod whole;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Learns from a shop's event stream and serves recommendations.
#[derive(Parser)]
#[command(
    name = "recommender",
    version,
    arg_required_else_help = true,
    after_help = "First steps, without Kafka or Kubernetes:\n  \
        recommender serve --embedded ./shop.db &\n  \
        recommender import products.csv --embedded ./shop.db\n  \
        recommender replay events.jsonl.gz --embedded ./shop.db --shift-to-now\n  \
        curl -H \"Authorization: Bearer $(recommender token --embedded ./shop.db --user 17850)\" \\\n    \
        http://127.0.0.1:8080/v1/recommendations/17850"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve recommendations, learning from Kafka or from an embedded log
    Serve(Box<serve::Args>),
    /// Send a file of events (JSON lines, also gzipped) to Kafka, an embedded log or a running service
    Replay(replay::Args),
    /// Send a catalogue (CSV or JSON lines) to Kafka, an embedded log or a running service
    Import(import::Args),
    /// Compare models on data of yours: trains on one part, asks about the other
    Evaluate(Box<evaluate::Args>),
    /// What the arms of experiments lead to
    Experiments(experiments::Args),
    /// Write what is recommended to every customer into a file, for e-mail campaigns
    Export(export::Args),
    /// Records that could not be understood: list them, and send them again
    DeadLetters(Box<dead_letters::Args>),
    /// Every record that the log holds of one customer, for an answer to who asks what is known of them
    Records(records::Args),
    /// Snapshots of the model: list, verify, create, prune
    Snapshot(state::SnapshotArgs),
    /// Fitted models: list, train, rollback
    Model(state::ModelArgs),
    /// Measure how many requests a second this machine answers, on a shop that is made up
    Bench(bench::Args),
    /// Print a token that signs a customer or a program in
    Token(token::Args),
    /// Print the hash of a password, for a user's file (the password is read from standard input)
    HashPassword(token::HashArgs),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  recommender completions bash > /etc/bash_completion.d/recommender")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // reqwest brings no default of its own; the first one installed is the process's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Serve(args) => runtime().and_then(|rt| rt.block_on(serve::run(*args))),
        Command::Replay(args) => runtime().and_then(|rt| rt.block_on(replay::run(args))),
        Command::Import(args) => runtime().and_then(|rt| rt.block_on(import::run(args))),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Experiments(args) => runtime().and_then(|rt| rt.block_on(experiments::run(args))),
        Command::Export(args) => runtime().and_then(|rt| rt.block_on(export::run(args))),
        Command::DeadLetters(args) => runtime().and_then(|rt| rt.block_on(dead_letters::run(*args))),
        Command::Records(args) => runtime().and_then(|rt| rt.block_on(records::run(args))),
        Command::Snapshot(args) => runtime().and_then(|rt| rt.block_on(state::snapshot(args))),
        Command::Model(args) => runtime().and_then(|rt| rt.block_on(state::model(args))),
        Command::Bench(args) => runtime().and_then(|rt| rt.block_on(bench::run(args))),
        Command::Token(args) => token::run(args),
        Command::HashPassword(args) => token::hash(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "recommender", &mut script);
            print(&script)
        }
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("recommender: {}", told_once(&e));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes. Many of ours repeat their cause in their own text, for log lines: such a cause
/// is not told twice.
fn told_once(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Prints to standard output; a reader that has gone away (`| head`) is no error.
fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
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
            let how = "UPDATE=1 cargo test -p recommender --lib reference";
            hold(
                concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../docs/reference/recommender-flags.md"
                ),
                &page("`recommender`", super::super::Cli::command(), how),
            );
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = crate::config::load(std::path::Path::new("/nowhere")).unwrap_err();
        let text = told_once(&anyhow::Error::from(error).context("no configuration"));
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
        assert!(
            text.starts_with("no configuration: cannot read /nowhere"),
            "{text}"
        );
    }

    #[test]
    fn serve_embedded_alone_means_shop_db() {
        let cli = Cli::try_parse_from(["recommender", "serve", "--embedded"]).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("not serve")
        };
        assert_eq!(args.embedded(), Some(std::path::Path::new("./shop.db")));
        let cli =
            Cli::try_parse_from(["recommender", "serve", "--embedded", "--listen", "127.0.0.1:1"]).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("not serve")
        };
        assert_eq!(args.embedded(), Some(std::path::Path::new("./shop.db")));
    }

    #[test]
    fn a_feed_needs_exactly_one_target() {
        let parse =
            |args: &[&str]| Cli::try_parse_from([&["recommender", "replay", "f"], args].concat()).is_ok();
        assert!(parse(&["--kafka", "k:9092"]));
        assert!(parse(&["--url", "http://localhost:8080"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--kafka", "k:9092", "--embedded", "x.db"]));
    }
}
