//! The images of the shipped programs, and how they come into a cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use crate::command::Cmd;
use crate::image::{self, ImageInfo, ImageSpec};
use crate::release;

/// The image of a program, tagged by its content: a changed program is another image, so it rolls the Deployment.
pub fn of_program(program: &str, binary: &Path) -> Result<ImageInfo> {
    let hash = Sha256::digest(std::fs::read(binary)?);
    let short = hex::encode(&hash[..6]);
    image::build(&ImageSpec {
        // What `recommender:0.1.0` means to a container runtime, which looks images up by their whole names.
        name: format!(
            "docker.io/library/{program}:{}-{short}",
            env!("CARGO_PKG_VERSION")
        ),
        binary: binary.to_owned(),
        entrypoint: format!("/{program}"),
        labels: [("org.opencontainers.image.title".to_owned(), program.to_owned())].into(),
        archive: release::target_dir()?
            .join("images")
            .join(format!("{program}.tar")),
        compressed: false,
    })
}

/// Loads an image archive into a kind or k3d cluster.
pub fn load_into(context: &str, archive: &Path) -> Result<()> {
    let command = if let Some(name) = context.strip_prefix("kind-") {
        Cmd::new("kind")
            .args(["load", "image-archive", "--name", name])
            .arg(archive)
    } else if let Some(name) = context.strip_prefix("k3d-") {
        Cmd::new("k3d")
            .args(["image", "import", "--cluster", name])
            .arg(archive)
    } else {
        bail!(
            "context {context} is neither kind nor k3d, so images cannot be loaded into it: push {} and the operator's \
             archive beside it to a registry that the cluster pulls from, and add --registry REGISTRY/PATH",
            archive.display()
        );
    };
    command.timeout(Duration::from_secs(300)).run()?;
    Ok(())
}
