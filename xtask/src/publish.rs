//! `cargo xtask release`: everything that a release consists of, in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::command::Cmd;
use crate::image::{self, ImageSpec};
use crate::machine::{self, Consent, Wanted};
use crate::paths::{Paths, remove_all, write};
use crate::progress::Steps;
use crate::release;
use crate::tools::catalog;

/// The shipped programs.
const PROGRAMS: [&str; 2] = ["recommendation-operator", "recommender"];
/// The shipped charts.
const CHARTS: [&str; 3] = [
    "recommendation-operator",
    "recommendation-operator-crds",
    "recommendation-pipeline",
];

/// The most that an image may weigh, in bytes, as it is pulled.
const IMAGE_LIMIT: u64 = 40_000_000;

/// Options of `cargo xtask release`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  cargo xtask release --dry-run              everything into target/dist, nothing else touched
  cargo xtask release                        the same, and the tag that CI publishes from")]
pub struct ReleaseOptions {
    /// Make everything, but no tag
    #[arg(long)]
    pub dry_run: bool,
    /// The folder to fill; without it, `dist` in cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where the images' names begin: the registry that they are meant for
    #[arg(long, default_value = "localhost")]
    pub registry: String,
    /// Do not ask before something is installed on this machine
    #[arg(long, short)]
    pub yes: bool,
}

/// Makes images, charts, the CRD, bills of materials, the changelog and checksums.
///
/// # Errors
/// When a part cannot be made, or a release that is no dry run is not of a clean checkout.
pub fn run(options: &ReleaseOptions, steps: &mut Steps) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if !options.dry_run {
        ensure!(
            release::prebuilt().is_none(),
            "a release is built from its commit: unset XTASK_PROGRAMS"
        );
        let changed = git(&["status", "--porcelain"])?;
        ensure!(
            changed.is_empty(),
            "there are changes that are in no commit:\n{changed}"
        );
    }
    machine::prepare_for(
        &Wanted {
            release: true,
            ..Wanted::default()
        },
        Consent::from_flag(options.yes),
        steps,
    )?;
    let paths = Paths::from_env()?;
    let helm = catalog::HELM.ensure(&paths, steps)?;
    let sbom = catalog::CARGO_CYCLONEDX.ensure(&paths, steps)?;
    let out = match &options.out {
        Some(dir) => std::path::absolute(dir)?,
        None => release::target_dir()?.join("dist"),
    };
    remove_all(&out)?;
    fs::create_dir_all(&out)?;

    let binaries = steps.run("Both programs built", release::build)?;
    for (program, binary) in PROGRAMS
        .into_iter()
        .zip([&binaries.operator, &binaries.recommender])
    {
        steps.run(&format!("Image of {program}"), |progress| {
            let info = image::build(&ImageSpec {
                name: format!("{}/{program}:{version}", options.registry),
                binary: binary.clone(),
                entrypoint: format!("/{program}"),
                labels: crate::image::labels(program),
                archive: out.join(format!("{program}.tar")),
                compressed: true,
            })?;
            let size = fs::metadata(&info.path)?.len();
            progress.line(&format!(
                "  {}  {}  {:.1} MB",
                info.name,
                info.digest,
                size as f64 / 1e6
            ));
            ensure!(
                size < IMAGE_LIMIT,
                "{} is {size} bytes, over the limit of {IMAGE_LIMIT}",
                info.path.display()
            );
            Ok(())
        })?;
    }
    for chart in CHARTS {
        steps.run(&format!("Chart {chart}"), |_| {
            Cmd::new(&helm)
                .args([
                    "package",
                    "--version",
                    version,
                    "--app-version",
                    version,
                    "--destination",
                ])
                .arg(&out)
                .arg(release::workspace().join("charts").join(chart))
                .run()
        })?;
    }
    steps.run("CRD and manifests", |_| {
        for file in [
            "crds/recommendationpipelines.yaml",
            "manifests/operator.yaml",
            "manifests/quickstart.yaml",
            "manifests/production.yaml",
        ] {
            let from = release::workspace().join(file);
            fs::copy(&from, out.join(from.file_name().unwrap_or_default()))
                .with_context(|| file.to_owned())?;
        }
        Ok(())
    })?;
    steps.run("Bills of materials", |_| bills(&sbom, &out))?;
    steps.run("Changelog", |_| {
        write(&out.join("CHANGELOG.md"), &changelog(version)?)
    })?;
    steps.run("Checksums", |_| checksums(&out))?;
    if !options.dry_run {
        git(&[
            "tag",
            "--annotate",
            &format!("v{version}"),
            "--message",
            &format!("v{version}"),
        ])?;
        println!("Tagged v{version}: `git push origin v{version}` lets CI publish it.");
    }
    for entry in listed(&out)? {
        println!("{}", entry.display());
    }
    Ok(())
}

fn git(args: &[&str]) -> Result<String> {
    Cmd::new("git").dir(release::workspace()).args(args).run()
}

/// CycloneDX, one for each program; the tool writes beside each crate's manifest.
fn bills(tool: &Path, out: &Path) -> Result<()> {
    for (program, folder) in PROGRAMS.into_iter().zip(["operator", "recommender"]) {
        let manifest = release::workspace().join(folder).join("Cargo.toml");
        let name = format!("{program}.cdx");
        Cmd::new(tool)
            .args([
                "cyclonedx",
                "--format",
                "json",
                "--spec-version",
                "1.5",
                "--target",
            ])
            .arg(release::target().unwrap_or("all"))
            .args(["--override-filename", &name, "--manifest-path"])
            .arg(&manifest)
            .timeout(Duration::from_secs(300))
            .run()?;
        // It writes one for each member that the manifest reaches.
        for member in [
            "operator",
            "recommender",
            "recommender/copy",
            "recommender/engine",
            "api",
            "xtask",
        ] {
            let made = release::workspace().join(member).join(format!("{name}.json"));
            if member == folder {
                fs::copy(&made, out.join(format!("{name}.json")))
                    .with_context(|| made.display().to_string())?;
            }
            fs::remove_file(&made).ok();
        }
    }
    Ok(())
}

/// What was committed since the last tag.
fn changelog(version: &str) -> Result<String> {
    let last = git(&["describe", "--tags", "--abbrev=0", "--match", "v*"]).ok();
    let range = last
        .as_ref()
        .map_or("HEAD".to_owned(), |tag| format!("{}..HEAD", tag.trim()));
    let commits = git(&["log", "--no-merges", "--format=- %s", &range])?;
    Ok(format!("# {version}\n\n{commits}"))
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn checksums(dir: &Path) -> Result<()> {
    let mut text = String::new();
    for file in listed(dir)? {
        let hash = hex::encode(Sha256::digest(fs::read(&file)?));
        text += &format!(
            "{hash}  {}\n",
            file.file_name().unwrap_or_default().to_string_lossy()
        );
    }
    write(&dir.join("SHA256SUMS"), &text)
}
