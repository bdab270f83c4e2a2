//! The tools of other projects, each pinned to a version.

use super::GoTool;
use super::cargo::CargoTool;

/// Helm.
pub const HELM: GoTool = GoTool {
    name: "helm",
    module: "helm.sh/helm/v3",
    version: "v3.22.0",
    package: "helm.sh/helm/v3/cmd/helm",
    ..GoTool::PLAIN
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
    ..GoTool::PLAIN
};
/// The README of a chart from its values.
pub const HELM_DOCS: GoTool = GoTool {
    name: "helm-docs",
    module: "github.com/norwoodj/helm-docs",
    version: "v1.14.2",
    package: "github.com/norwoodj/helm-docs/cmd/helm-docs",
    ..GoTool::PLAIN
};
/// Manifests against schemas.
pub const KUBECONFORM: GoTool = GoTool {
    name: "kubeconform",
    module: "github.com/yannh/kubeconform",
    version: "v0.8.0",
    package: "github.com/yannh/kubeconform/cmd/kubeconform",
    ..GoTool::PLAIN
};
/// The Lua that Argo CD runs health checks with.
pub const LUA: GoTool = GoTool {
    name: "glua",
    module: "github.com/yuin/gopher-lua",
    version: "v1.1.2",
    package: "github.com/yuin/gopher-lua/cmd/glua",
    ..GoTool::PLAIN
};
/// What Flux and others judge an object's status by.
pub const KSTATUS: GoTool = GoTool {
    name: "kstatus",
    module: "sigs.k8s.io/cli-utils",
    version: "v0.37.2",
    package: ".",
    main: include_str!("../../tools/kstatus/main.go"),
    ..GoTool::PLAIN
};
/// What `docker compose config` reads a Compose file with.
pub const COMPOSE: GoTool = GoTool {
    name: "compose",
    module: "github.com/compose-spec/compose-go/v2",
    version: "v2.16.2",
    package: ".",
    main: include_str!("../../tools/compose/main.go"),
    ..GoTool::PLAIN
};
/// Workflows of GitHub Actions.
pub const ACTIONLINT: GoTool = GoTool {
    name: "actionlint",
    module: "github.com/rhysd/actionlint",
    version: "v1.7.12",
    package: "github.com/rhysd/actionlint/cmd/actionlint",
    ..GoTool::PLAIN
};
/// The Prometheus operator, and its CRDs.
pub const PROMETHEUS_OPERATOR: GoTool = GoTool {
    name: "prometheus-operator",
    module: "github.com/prometheus-operator/prometheus-operator",
    version: "v0.85.0",
    package: "github.com/prometheus-operator/prometheus-operator/cmd/operator",
    keep: &[PROMETHEUS_OPERATOR_CRDS],
    ..GoTool::PLAIN
};
/// Where the module of [`PROMETHEUS_OPERATOR`] has its CRDs.
pub const PROMETHEUS_OPERATOR_CRDS: &str = "example/prometheus-operator-crd";
/// What measures the CPU and the memory of pods for autoscalers.
pub const METRICS_SERVER: GoTool = GoTool {
    name: "metrics-server",
    module: "sigs.k8s.io/metrics-server",
    version: "v0.7.2",
    package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
    ..GoTool::PLAIN
};
/// Licences, duplicate versions and sources of dependencies.
pub const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    args: &[],
};
/// The bill of materials of a program.
pub const CARGO_CYCLONEDX: CargoTool = CargoTool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    args: &[],
};
/// The documents as a book.
pub const MDBOOK: CargoTool = CargoTool {
    name: "mdbook",
    version: "0.5.4",
    args: &["--no-default-features", "--features", "search"],
};
/// The book's links, a package of Python.
pub const LINKCHECKER: &str = "LinkChecker==10.6.0";
/// Argo CD: every one of its programs in one, which acts by the name that it is called by.
pub const ARGO_CD: GoTool = GoTool {
    name: "argocd",
    module: "github.com/argoproj/argo-cd/v3",
    version: "v3.6.1",
    package: "github.com/argoproj/argo-cd/v3/cmd",
    replace: &[
        "github.com/golang/protobuf => github.com/golang/protobuf v1.5.4",
        "github.com/grpc-ecosystem/grpc-gateway => github.com/grpc-ecosystem/grpc-gateway v1.16.0",
        "golang.org/x/tools => golang.org/x/tools v0.35.0",
        "gopkg.in/yaml.v2 => gopkg.in/yaml.v2 v2.4.0",
        "k8s.io/api => k8s.io/api v0.37.0",
        "k8s.io/apiextensions-apiserver => k8s.io/apiextensions-apiserver v0.37.0",
        "k8s.io/apimachinery => k8s.io/apimachinery v0.37.0",
        "k8s.io/apiserver => k8s.io/apiserver v0.37.0",
        "k8s.io/cli-runtime => k8s.io/cli-runtime v0.37.0",
        "k8s.io/client-go => k8s.io/client-go v0.37.0",
        "k8s.io/cloud-provider => k8s.io/cloud-provider v0.37.0",
        "k8s.io/cluster-bootstrap => k8s.io/cluster-bootstrap v0.37.0",
        "k8s.io/code-generator => k8s.io/code-generator v0.37.0",
        "k8s.io/component-base => k8s.io/component-base v0.37.0",
        "k8s.io/component-helpers => k8s.io/component-helpers v0.37.0",
        "k8s.io/controller-manager => k8s.io/controller-manager v0.37.0",
        "k8s.io/cri-api => k8s.io/cri-api v0.37.0",
        "k8s.io/cri-client => k8s.io/cri-client v0.37.0",
        "k8s.io/cri-streaming => k8s.io/cri-streaming v0.37.0",
        "k8s.io/csi-translation-lib => k8s.io/csi-translation-lib v0.37.0",
        "k8s.io/dynamic-resource-allocation => k8s.io/dynamic-resource-allocation v0.37.0",
        "k8s.io/endpointslice => k8s.io/endpointslice v0.37.0",
        "k8s.io/externaljwt => k8s.io/externaljwt v0.37.0",
        "k8s.io/kms => k8s.io/kms v0.37.0",
        "k8s.io/kube-aggregator => k8s.io/kube-aggregator v0.37.0",
        "k8s.io/kube-controller-manager => k8s.io/kube-controller-manager v0.37.0",
        "k8s.io/kube-proxy => k8s.io/kube-proxy v0.37.0",
        "k8s.io/kube-scheduler => k8s.io/kube-scheduler v0.37.0",
        "k8s.io/kubectl => k8s.io/kubectl v0.37.0",
        "k8s.io/kubelet => k8s.io/kubelet v0.37.0",
        "k8s.io/legacy-cloud-providers => k8s.io/legacy-cloud-providers v0.37.0",
        "k8s.io/metrics => k8s.io/metrics v0.37.0",
        "k8s.io/mount-utils => k8s.io/mount-utils v0.37.0",
        "k8s.io/pod-security-admission => k8s.io/pod-security-admission v0.37.0",
        "k8s.io/sample-apiserver => k8s.io/sample-apiserver v0.37.0",
        "k8s.io/sample-cli-plugin => k8s.io/sample-cli-plugin v0.37.0",
        "k8s.io/sample-controller => k8s.io/sample-controller v0.37.0",
    ],
    go: "1.27.0",
    keep: &[ARGO_CD_CRDS, ARGO_CD_GIT, ARGO_CD_GPG],
    main: "",
};
/// Where the module of [`ARGO_CD`] has its CRDs.
pub const ARGO_CD_CRDS: &str = "manifests/crds";
/// A script that the repository server calls for every revision.
pub const ARGO_CD_GIT: &str = "hack/git-verify-wrapper.sh";
/// A script that the repository server calls for keys.
pub const ARGO_CD_GPG: &str = "hack/gpg-wrapper.sh";
