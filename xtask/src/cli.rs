//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::bench::{self, BenchArgs};
use xtask::check::{self, TestOptions};
use xtask::compare::{self, CompareOptions};
use xtask::conformance::{self, ConformanceOptions};
use xtask::demo::{self, DemoOptions};
use xtask::dev::{self, DevOptions};
use xtask::image::{self, ImageInfo, ImageSpec};
use xtask::machine::{self, Consent, Wanted};
use xtask::paths::Paths;
use xtask::progress::Steps;
use xtask::publish::{self, ReleaseOptions};
use xtask::release;
use xtask::soak::{self, SoakOptions};
use xtask::stack::process::Signal;
use xtask::stack::run::{Ports, Run};
use xtask::stack::{
    NodeMode, Stack, StackOptions, control_plane, kafka, kafka_security, node, redis, status,
};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                   from nothing to live recommendations
  cargo xtask test                   every check; `--only lint,unit` while you write
  cargo xtask dev                    the recommender, rebuilt and restarted on save
  cargo xtask stack up               Kubernetes with a real node (as root on Linux), Kafka and Redis
  cargo xtask stack up --no-node     the same without a node: no root needed
  cargo xtask stack stop kafka       an outage of Kafka; `stack start kafka` ends it (also: redis, api-server)
  cargo xtask stack status           what runs, and where its logs are
  cargo xtask image --load           build both container images and give them to the node
  cargo xtask down                   stop everything and put back what was changed on this machine
  cargo xtask down --wipe            the same, and forget all data

Servers are built once into ~/.cache/recommendation-stack ($XDG_CACHE_HOME is respected).";

/// Everything that a contributor runs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The main job on real parts: Kubernetes, Kafka, operator, a pipeline, a year of events, live recommendations.
    Demo(DemoOptions),
    /// Every check of correctness: format, lints, unit, integration and end-to-end tests.
    Test(TestOptions),
    /// Rebuild and restart a program on save.
    Dev(DevOptions),
    /// Measure a demo (live click to changed recommendation, share of requests by replica) or the engine.
    Bench(BenchArgs),
    /// Keep a demo under a steady stream of clicks and look for what grows or is written.
    Soak(SoakOptions),
    /// The recommender's models beside the same methods of numpy, scipy and `implicit`.
    Compare(CompareOptions),
    /// Checks by other projects' tools that are too slow for every `test`.
    Conformance(ConformanceOptions),
    /// The local stack: real Kubernetes, Kafka and Redis on this machine.
    #[command(subcommand)]
    Stack(StackTask),
    /// Build the container images of the operator and the recommender, without a docker daemon.
    Image(ImageArgs),
    /// Everything that a release consists of: images, charts, CRD, bills of materials, checksums, changelog.
    Release(ReleaseOptions),
    /// Stop every run and put back what was changed on this machine.
    Down {
        /// Also remove the runs' data, certificates and logs. Built servers stay.
        #[arg(long)]
        wipe: bool,
    },
}

#[derive(Debug, Subcommand)]
enum StackTask {
    /// Start what does not run yet, and wait until it is ready.
    Up(UpArgs),
    /// Stop one run and put back what it changed on this machine.
    Down {
        /// The run to stop.
        #[arg(long, default_value = "demo", value_name = "NAME")]
        run: String,
        /// Also remove its data, certificates and logs.
        #[arg(long)]
        wipe: bool,
    },
    /// Show what runs, and where its logs are.
    Status,
    /// Stop one server alone, to see what the rest makes of it.
    Stop {
        /// The server.
        part: Part,
        /// Only this node of Kafka, counted from 1.
        #[arg(long, value_name = "NUMBER")]
        kafka_node: Option<u16>,
        /// Kill it, as a crash would, instead of asking it to end.
        #[arg(long)]
        kill: bool,
        /// The run that it belongs to.
        #[arg(long, default_value = "demo", value_name = "NAME")]
        run: String,
    },
    /// Start a server that was stopped alone.
    Start {
        /// The server.
        part: Part,
        /// Only this node of Kafka, counted from 1.
        #[arg(long, value_name = "NUMBER")]
        kafka_node: Option<u16>,
        /// The run that it belongs to.
        #[arg(long, default_value = "demo", value_name = "NAME")]
        run: String,
    },
}

/// A server that can be stopped and started alone.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    ApiServer,
    Kafka,
    Redis,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask stack up
  cargo xtask stack up --api-only --no-kafka --no-redis --run api --port-offset 100
  cargo xtask stack up --no-kubernetes --kafka-nodes 3     a Kafka that survives the loss of a node
  KUBECONFIG=$(cargo xtask stack up --yes --print-kubeconfig) kubectl get nodes")]
struct UpArgs {
    /// No real node, even where one is possible.
    #[arg(long)]
    no_node: bool,
    /// Only etcd and the API server: no controller manager, no scheduler, no node.
    #[arg(long)]
    api_only: bool,
    /// No Kubernetes at all: only Kafka and Redis.
    #[arg(long, conflicts_with = "print_kubeconfig")]
    no_kubernetes: bool,
    /// No Kafka.
    #[arg(long)]
    no_kafka: bool,
    /// Nodes of Kafka: 1, or 3, which survive the loss of one (`stack stop kafka --kafka-node 2 --kill`).
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = kafka_nodes, conflicts_with = "no_kafka")]
    kafka_nodes: u16,
    /// No Redis.
    #[arg(long)]
    no_redis: bool,
    /// Kafka also listens behind TLS and logins.
    #[arg(long, conflicts_with = "no_kafka")]
    kafka_secured: bool,
    /// The name of this run; runs with other names and ports stand beside each other.
    #[arg(long, default_value = "demo", value_name = "NAME")]
    run: String,
    /// Move every port up by this number.
    #[arg(long, default_value_t = 0, value_name = "N")]
    port_offset: u16,
    /// Do not ask before something is installed or changed on this machine (as with CI=true).
    #[arg(long, short)]
    yes: bool,
    /// Print only the path of the kubeconfig on standard output.
    #[arg(long)]
    print_kubeconfig: bool,
}

/// Two nodes would be worse than one: without either of them nothing works.
fn kafka_nodes(text: &str) -> std::result::Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("Kafka has 1 node here, or 3 that survive the loss of one".to_owned()),
    }
}

#[derive(Debug, Args)]
struct ImageArgs {
    /// The tag of both images.
    #[arg(long, default_value = "dev")]
    tag: String,
    /// Where their names begin: the registry that they are meant for.
    #[arg(long, default_value = "localhost")]
    registry: String,
    /// The folder for the archives; without it, `images` in cargo's target folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Give the images to the local stack's node.
    #[arg(long)]
    load: bool,
    /// Do not ask before something is installed on this machine (as with CI=true).
    #[arg(long, short)]
    yes: bool,
}

/// Runs the task that the command line names.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut steps = Steps::new();
    let result = match cli.task {
        Task::Demo(options) => demo(&options, &mut steps),
        Task::Test(options) => check::run(&options, &mut steps),
        Task::Dev(options) => dev::run(&options),
        Task::Bench(options) => bench::choose(&options, &mut steps),
        Task::Soak(options) => soak::run(&options, &mut steps),
        Task::Compare(options) => compare::run(&options, &mut steps),
        Task::Conformance(options) => conformance::run(&options, &mut steps),
        Task::Stack(StackTask::Up(args)) => up(&args, &mut steps),
        Task::Stack(StackTask::Down { run, wipe }) => down(&run, wipe, &mut steps),
        Task::Stack(StackTask::Status) => show(),
        Task::Stack(StackTask::Stop {
            part,
            kafka_node,
            kill,
            run,
        }) => stop_part(part, kafka_node, kill, &run),
        Task::Stack(StackTask::Start {
            part,
            kafka_node,
            run,
        }) => start_part(part, kafka_node, &run, &mut steps),
        Task::Image(args) => images(&args, &mut steps).map(drop),
        Task::Release(options) => publish::run(&options, &mut steps),
        Task::Down { wipe } => down_all(wipe, &mut steps),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &DemoOptions, steps: &mut Steps) -> Result<()> {
    let result = demo::run(options, steps);
    eprint!("\n{}", steps.table());
    result.map(drop)
}

fn up(args: &UpArgs, steps: &mut Steps) -> Result<()> {
    let options = StackOptions {
        run_name: args.run.clone(),
        kubernetes: !args.no_kubernetes,
        node: if args.no_node || args.api_only || args.no_kubernetes {
            NodeMode::Off
        } else {
            NodeMode::Auto
        },
        controllers: !args.api_only,
        kafka: !args.no_kafka,
        kafka_nodes: args.kafka_nodes,
        redis: !args.no_redis,
        kafka_secured: args.kafka_secured,
        ports: Ports::offset(args.port_offset)?,
    };
    let wanted = Wanted {
        stack: Some(options.clone()),
        ..Wanted::default()
    };
    machine::prepare_for(&wanted, Consent::from_flag(args.yes), steps)?;
    let stack = Stack::up(&options, steps).map_err(|error| {
        anyhow!("{error:#}\nWhat did start runs on, for its logs (`cargo xtask stack status`); `cargo xtask down` stops it.")
    })?;
    eprint!("\n{}", steps.table());
    if args.print_kubeconfig {
        println!("{}", stack.kubeconfig.display());
        return Ok(());
    }
    if options.kubernetes {
        println!("\nexport KUBECONFIG={}", stack.kubeconfig.display());
        println!("kubectl   {}", stack.kubectl.display());
    }
    if options.kafka {
        println!("Kafka     {} (pods: {})", stack.kafka_host, stack.kafka_pods);
    }
    if let Some(secured) = kafka_security::of(&stack.run) {
        println!(
            "Kafka     {} (a login over TLS), {} (TLS), {} (client certificate); certificates in {}",
            secured.sasl,
            secured.tls,
            secured.mtls,
            secured.certificates.display()
        );
    }
    for kafka::Proxied { listens, told } in kafka::proxied(&stack.run) {
        println!("Kafka     {listens} for a proxy that listens on {told}");
    }
    if options.redis {
        println!("Redis     {} (pods: {})", stack.redis_host, stack.redis_pods);
    }
    println!("Stop it with: cargo xtask down");
    Ok(())
}

fn down(run: &str, wipe: bool, steps: &mut Steps) -> Result<()> {
    let was_there = steps.run(&format!("Stop run {run}"), |_| Stack::down(run, wipe))?;
    if !was_there {
        eprintln!("There is no run `{run}`.");
    }
    Ok(())
}

fn down_all(wipe: bool, steps: &mut Steps) -> Result<()> {
    let paths = Paths::from_env()?;
    let runs = Run::all(&paths)?;
    let mut failed = demo::leave_current(steps).err();
    for run in &runs {
        // One run that cannot be stopped must not keep the others up.
        if let Err(error) = down(run.name(), wipe, steps) {
            eprintln!("{error:#}");
            failed = Some(error);
        }
    }
    if let Some(error) = failed {
        return Err(error.context("not everything could be stopped"));
    }
    eprintln!("Everything is stopped; routes, network namespaces and kernel settings are as before.");
    eprintln!(
        "Kept: installed packages, and built servers in {} (remove the folder to free it).",
        paths.cache().display()
    );
    Ok(())
}

fn show() -> Result<()> {
    let runs = Run::all(&Paths::from_env()?)?;
    if runs.is_empty() {
        println!("Nothing runs. Start with: cargo xtask stack up");
    }
    for run in runs {
        let stack = Stack::of(&run);
        println!(
            "run {}{}",
            run.name(),
            if stack.node { " (with a real node)" } else { "" }
        );
        println!("  KUBECONFIG={}", stack.kubeconfig.display());
        print!("{}", status(&run));
    }
    Ok(())
}

fn stop_part(part: Part, kafka_node: Option<u16>, kill: bool, name: &str) -> Result<()> {
    let run = existing(name)?;
    let signal = if kill { Signal::KILL } else { Signal::TERM };
    let ran = match part {
        Part::ApiServer => control_plane::stop_api_server(&run, signal),
        Part::Kafka => kafka::stop(&run, kafka_node, signal),
        Part::Redis => redis::stop(&run, signal),
    }?;
    eprintln!("{}", if ran { "stopped" } else { "it did not run" });
    Ok(())
}

fn start_part(part: Part, kafka_node: Option<u16>, name: &str, steps: &mut Steps) -> Result<()> {
    let run = existing(name)?;
    match part {
        Part::ApiServer => steps.run("Kubernetes API server", |_| {
            control_plane::start_servers(&run)?;
            control_plane::wait_servers(&run)
        }),
        Part::Kafka => steps.run("Kafka", |_| match kafka_node {
            Some(number) => kafka::start_node(&run, number),
            None => kafka::start(&run),
        }),
        Part::Redis => steps.run("Redis", |_| redis::start(&run)),
    }
}

fn existing(name: &str) -> Result<Run> {
    Run::open(&Paths::from_env()?, name)?
        .with_context(|| format!("there is no run `{name}`: `cargo xtask stack up`"))
}

/// Builds both images, and gives them to the node if asked to.
fn images(args: &ImageArgs, steps: &mut Steps) -> Result<Vec<ImageInfo>> {
    machine::prepare_for(
        &Wanted {
            release: true,
            ..Wanted::default()
        },
        Consent::from_flag(args.yes),
        steps,
    )?;
    let binaries = steps.run("Build the release binaries", release::build)?;
    let out = match &args.out {
        Some(dir) => dir.clone(),
        None => release::target_dir()?.join("images"),
    };
    let mut built = Vec::new();
    for (title, binary) in [
        ("recommendation-operator", binaries.operator),
        ("recommender", binaries.recommender),
    ] {
        let spec = ImageSpec {
            name: format!("{}/{title}:{}", args.registry, args.tag),
            binary,
            entrypoint: format!("/{title}"),
            labels: image::labels(title),
            archive: out.join(format!("{title}.tar")),
            compressed: true,
        };
        let info = steps.run(&format!("Image {}", spec.name), |_| image::build(&spec))?;
        println!("{}  {}  {}", info.name, info.digest, info.path.display());
        if args.load {
            steps
                .run(&format!("Load {}", info.name), |_| node::import(&info.path))
                .context("is the stack up? `cargo xtask stack up`")?;
        }
        built.push(info);
    }
    Ok(built)
}
