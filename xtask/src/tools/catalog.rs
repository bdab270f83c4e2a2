//! The tools of other projects, each pinned to a version.

use super::GoTool;
use super::cargo::CargoTool;

/// Helm.
pub const HELM: GoTool = GoTool {
    name: "helm",
    module: "helm.sh/helm/v3",
    version: "v3.22.0",
    package: "helm.sh/helm/v3/cmd/helm",
    replace: &[],
};
/// Unit tests of charts.
pub const HELM_UNITTEST: GoTool = GoTool {
    name: "helm-unittest",
    module: "github.com/helm-unittest/helm-unittest",
    version: "v1.1.2",
    package: "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
    replace: &[
        "github.com/vmware-labs/yaml-jsonpath v0.3.2 => github.com/helm-unittest/yaml-jsonpath v0.4.0",
    ],
};
/// The README of a chart from its values.
pub const HELM_DOCS: GoTool = GoTool {
    name: "helm-docs",
    module: "github.com/norwoodj/helm-docs",
    version: "v1.14.2",
    package: "github.com/norwoodj/helm-docs/cmd/helm-docs",
    replace: &[],
};
/// Manifests against schemas.
pub const KUBECONFORM: GoTool = GoTool {
    name: "kubeconform",
    module: "github.com/yannh/kubeconform",
    version: "v0.8.0",
    package: "github.com/yannh/kubeconform/cmd/kubeconform",
    replace: &[],
};
/// The Lua that Argo CD runs health checks with.
pub const LUA: GoTool = GoTool {
    name: "glua",
    module: "github.com/yuin/gopher-lua",
    version: "v1.1.2",
    package: "github.com/yuin/gopher-lua/cmd/glua",
    replace: &[],
};
/// Workflows of GitHub Actions.
pub const ACTIONLINT: GoTool = GoTool {
    name: "actionlint",
    module: "github.com/rhysd/actionlint",
    version: "v1.7.12",
    package: "github.com/rhysd/actionlint/cmd/actionlint",
    replace: &[],
};
/// Licences, duplicate versions and sources of dependencies.
pub const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
};
/// The bill of materials of a program.
pub const CARGO_CYCLONEDX: CargoTool = CargoTool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
};
