//! Which pipeline a command is about, and how it prints.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use recommendation_api::{RecommenderConfig, names};

use super::Output;
use crate::service::Mode;

#[derive(clap::Args)]
pub(super) struct Place {
    /// Configuration file; default: /etc/recommender/config/config.json, none with --embedded
    #[arg(long, value_name = "FILE", env = "RECOMMENDER_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Folder of the secrets that the configuration names
    #[arg(long, value_name = "DIR", env = "RECOMMENDER_SECRETS_DIR", default_value = names::SECRETS_DIR, global = true)]
    pub secrets_dir: PathBuf,
    /// Database of embedded mode; its state lies in a folder beside it
    #[arg(long, value_name = "FILE", global = true)]
    pub embedded: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub output: Output,
}

impl Place {
    /// The configuration that it names.
    pub fn config(&self) -> anyhow::Result<RecommenderConfig> {
        let file = match (&self.config, &self.embedded) {
            (Some(path), _) => path.clone(),
            (None, Some(_)) => return Ok(RecommenderConfig::default()),
            (None, None) => Path::new(names::CONFIG_DIR).join(names::CONFIG_FILE),
        };
        crate::config::load(&file).context("no usable configuration")
    }

    /// Where its log is.
    pub fn mode(&self) -> Mode {
        self.embedded.clone().map_or(Mode::Kafka, Mode::Embedded)
    }
}
