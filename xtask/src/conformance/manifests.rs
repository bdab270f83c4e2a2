//! Our manifests against a real API server.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::with_stack;
use crate::kubectl::Kubectl;
use crate::progress::Steps;
use crate::release;

/// Applies the CRD, then every manifest, and says what became of each object.
pub(super) fn run(steps: &mut Steps) -> Result<()> {
    with_stack(false, false, steps, |stack, steps| {
        let kubectl = Kubectl::new(&stack.kubectl, Some(stack.kubeconfig.clone()));
        let crds = release::workspace().join("crds");
        steps.run("crds/", |_| {
            kubectl.cmd("apply --server-side -f").arg(&crds).run()
        })?;
        kubectl.crds_established()?;
        for file in files()? {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let said = steps.run(&name, |_| kubectl.cmd("apply --server-side -f").arg(&file).run())?;
            print!("{said}");
        }
        for folder in KUSTOMIZED {
            let said = steps.run(&format!("kubectl apply -k {folder}"), |_| {
                kubectl
                    .cmd("apply --server-side --force-conflicts -k")
                    .arg(release::workspace().join(folder))
                    .run()
            })?;
            print!("{said}");
        }
        Ok(())
    })
}

/// What `kubectl apply -k` takes.
const KUSTOMIZED: [&str; 4] = [
    ".",
    "manifests/kustomize/base",
    "manifests/kustomize/overlays/development",
    "manifests/kustomize/overlays/production",
];

/// The YAML files right below `manifests/`, the operator's first: its namespace is used by others.
pub(super) fn files() -> Result<Vec<PathBuf>> {
    let dir = release::workspace().join("manifests");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml") {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "there is no manifest in {}", dir.display());
    files.sort_by_key(|path| (!path.ends_with("operator.yaml"), path.clone()));
    Ok(files)
}
