//! The node's network: a namespace joined to the machine by one pair of virtual interfaces. All of kube-proxy's rules,
//! IP forwarding and the pods' bridge live inside it; the machine itself gets two routes, to pods and to Services.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use crate::command::Cmd;

/// The machine's end of the pair; also where pods reach the API server, Kafka and Redis.
pub const HOST: Ipv4Addr = Ipv4Addr::new(172, 30, 77, 1);
/// The node's end of the pair.
pub const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 77, 2);
/// The namespace.
pub const NAMESPACE: &str = "recstack";
/// The machine's interface.
pub const LINK: &str = "recstack0";
/// The addresses of pods.
pub const PODS: &str = "10.244.0.0/16";
/// The addresses of Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// Kubernetes' own Service: the first address of the range.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn ip(args: &str) -> Cmd {
    Cmd::new("ip").args(args.split_ascii_whitespace())
}

fn inside(command: &str) -> Cmd {
    Cmd::new("nsenter")
        .arg(format!("--net=/run/netns/{NAMESPACE}"))
        .args(command.split_ascii_whitespace())
}

/// Whether the namespace is there.
#[must_use]
pub fn is_up() -> bool {
    std::path::Path::new("/run/netns").join(NAMESPACE).exists()
        && std::path::Path::new("/sys/class/net").join(LINK).exists()
}

/// Makes the namespace, the pair and the routes; what is there already stays.
///
/// # Errors
/// When a route to the same addresses exists that is not ours, or a command fails.
pub fn up() -> Result<()> {
    for range in [PODS, SERVICES, "172.30.77.0/30"] {
        let routes = ip(&format!("route show {range}")).run()?;
        if let Some(foreign) = routes.lines().find(|route| !is_ours(route)) {
            bail!(
                "this machine already has a route to {range} (`{}`): the local node cannot use it",
                foreign.trim()
            );
        }
    }
    if !ip("netns list")
        .run()?
        .lines()
        .any(|line| line.split(' ').next() == Some(NAMESPACE))
    {
        ip(&format!("netns add {NAMESPACE}")).run()?;
    }
    if !ip(&format!("link show {LINK}")).succeeds() {
        ip(&format!(
            "link add {LINK} type veth peer name eth0 netns {NAMESPACE}"
        ))
        .run()?;
    }
    ip(&format!("addr replace {HOST}/30 dev {LINK}")).run()?;
    ip(&format!("link set {LINK} up")).run()?;
    inside("ip link set lo up").run()?;
    inside(&format!("ip addr replace {NODE}/30 dev eth0")).run()?;
    inside("ip link set eth0 up").run()?;
    inside(&format!("ip route replace default via {HOST}")).run()?;
    // Of this namespace alone: the machine's own setting is not touched.
    inside("sysctl -qw net.ipv4.ip_forward=1").run()?;
    for range in [PODS, SERVICES] {
        ip(&format!("route replace {range} via {NODE}")).run()?;
    }
    Ok(())
}

fn is_ours(route: &str) -> bool {
    route.trim().is_empty() || route.contains(&format!("dev {LINK}"))
}

/// Removes the pair, with it the routes, and the namespace.
///
/// # Errors
/// When one is there and cannot be removed.
pub fn down() -> Result<()> {
    if ip(&format!("link show {LINK}")).succeeds() {
        ip(&format!("link del {LINK}"))
            .run()
            .context("removing the node's interface and routes")?;
    }
    if std::path::Path::new("/run/netns").join(NAMESPACE).exists() {
        ip(&format!("netns del {NAMESPACE}"))
            .run()
            .context("removing the node's network namespace")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_route_over_our_own_interface_is_ours() {
        assert!(is_ours("10.96.0.0/16 via 172.30.77.2 dev recstack0"));
        assert!(!is_ours("10.96.0.0/16 via 10.0.0.1 dev eth0"));
        assert!(is_ours(""));
    }
}
