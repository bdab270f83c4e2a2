//! The configuration files of the node's daemons. JSON where the reader takes YAML, so that no value needs quoting.

use serde_json::json;

use super::certs::{KUBELET, NODE_NAME, PROXY};
use super::network;
use super::node::{CGROUP, runtime_dir, socket};
use super::run::Run;
use crate::build::PAUSE_IMAGE;

/// containerd's, with its own folders and socket: a containerd of the machine is not disturbed.
pub(super) fn containerd(run: &Run, cni_plugins: &str) -> String {
    let (root, cni) = (run.path("node/containerd"), run.path("node/cni"));
    let (state, socket) = (runtime_dir().join("containerd"), socket());
    // restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, -998 for a sandbox is refused, which shows only as
    // runc's "can't get final child's PID from pipe: EOF".
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        state = state.display(),
        socket = socket.display(),
    )
}

/// The pods' network: one bridge inside the node's namespace, addresses from one range.
pub(super) fn cni(run: &Run) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "recstack",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": run.path("node/ipam"),
                    "ranges": [[{ "subnet": "10.244.0.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    format!("{config:#}\n")
}

/// The kubelet's.
pub(super) fn kubelet(run: &Run) -> String {
    let pki = |file: String| run.path(&format!("pki/{file}"));
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network::NODE,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki("ca.crt".to_owned()) },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki(format!("{KUBELET}.crt")),
        "tlsPrivateKeyFile": pki(format!("{KUBELET}.key")),
        "containerRuntimeEndpoint": format!("unix://{}", socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CGROUP}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        // No DNS server runs. Nobody listens on a pod's loopback, so that asking fails at once instead of timing out;
        // with no address at all, every pod would get a warning event.
        "clusterDNS": ["127.0.0.1"],
        "clusterDomain": "cluster.local",
        "resolvConf": run.path("node/resolv.conf"),
        "podLogsDir": run.path("node/podlogs"),
        "volumePluginDir": run.path("node/volumeplugins"),
        "serializeImagePulls": false,
        "maxPods": 60,
        "makeIPTablesUtilChains": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1Gi",
            "imagefs.available": "1Gi",
        },
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    });
    format!("{config:#}\n")
}

/// kube-proxy's.
pub(super) fn kube_proxy(run: &Run) -> String {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": { "kubeconfig": run.path(&format!("pki/{PROXY}.kubeconfig")) },
        "clusterCIDR": network::PODS,
        "hostnameOverride": NODE_NAME,
        "bindAddress": network::NODE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // Those limits belong to the machine, and cannot be set from inside a namespace.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    });
    format!("{config:#}\n")
}
