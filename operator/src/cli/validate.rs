//! `validate`: what can be said about a manifest without a cluster.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use kube::ResourceExt as _;
use recommendation_api::pipeline::RecommendationPipeline;

use crate::validate::{self, References, Settings};

/// Reads a manifest; `-` is standard input.
pub(super) fn read(file: &Path) -> anyhow::Result<RecommendationPipeline> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    let mut pipeline: RecommendationPipeline = serde_saphyr::from_str(&text)
        .with_context(|| format!("{} is no RecommendationPipeline", file.display()))?;
    // Only an API server gives these.
    pipeline.metadata.uid.get_or_insert_with(String::new);
    Ok(pipeline)
}

pub(super) fn run(file: &Path) -> anyhow::Result<()> {
    let mut pipeline = read(file)?;
    let (secrets, config_maps) = validate::referenced(&pipeline);
    if !config_maps.is_empty() {
        println!("not checked: the statements in ConfigMaps {config_maps:?}, which a cluster holds");
        if let Some(ksqldb) = pipeline.spec.ksqldb.as_mut() {
            ksqldb.statements_from = None;
            ksqldb.statements.get_or_insert_default();
        }
    }
    let valid = validate::validate(&pipeline, &References::default(), &Settings::default())?;
    let name = pipeline.name_any();
    println!(
        "{name}: valid, {} topics, image {}",
        valid.topics.len(),
        valid.workload.image
    );
    if !secrets.is_empty() {
        println!("{name}: needs the Secrets {secrets:?}");
    }
    if pipeline
        .spec
        .recommender
        .as_ref()
        .is_none_or(|r| r.replicas.is_none())
    {
        println!(
            "{name}: an autoscaler of your own needs spec.recommender.replicas set once (the scale subresource)"
        );
    }
    if !valid.unsupported.is_empty() {
        bail!("this version does not act on {}", valid.unsupported.join(", "));
    }
    Ok(())
}
