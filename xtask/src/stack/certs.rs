//! The certificates and kubeconfigs of a run, made once with the `openssl` command.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::network;
use super::run::Run;
use crate::command::Cmd;
use crate::paths::{remove_all, write};

/// The node's name.
pub const NODE_NAME: &str = "node1";

/// The users that get a kubeconfig: the file's name, which is also the certificate's.
pub const ADMIN: &str = "admin";
/// The controller manager.
pub const CONTROLLER_MANAGER: &str = "controller-manager";
/// The scheduler.
pub const SCHEDULER: &str = "scheduler";
/// kube-proxy.
pub const PROXY: &str = "proxy";
/// The kubelet.
pub const KUBELET: &str = "kubelet";

/// A certificate to make.
pub(super) struct Leaf {
    /// The file's name.
    pub name: &'static str,
    /// `/CN=…`, without blanks.
    pub subject: String,
    /// Extended key usage.
    pub usage: &'static str,
    /// `DNS:…,IP:…`, or nothing.
    pub alternative_names: String,
    /// The authority that signs it, by its file's name.
    pub authority: &'static str,
}

fn leaves() -> Vec<Leaf> {
    let client = |name, subject: &str| Leaf {
        name,
        subject: subject.to_owned(),
        usage: "clientAuth",
        alternative_names: String::new(),
        authority: "ca",
    };
    let dns =
        "kubernetes,kubernetes.default,kubernetes.default.svc,kubernetes.default.svc.cluster.local,localhost";
    let names: Vec<String> = dns
        .split(',')
        .map(|name| format!("DNS:{name}"))
        .chain(
            [
                "127.0.0.1".to_owned(),
                network::KUBERNETES_SERVICE.to_string(),
                network::HOST.to_string(),
            ]
            .map(|ip| format!("IP:{ip}")),
        )
        .collect();
    vec![
        Leaf {
            usage: "serverAuth",
            alternative_names: names.join(","),
            ..client("apiserver", "/CN=kube-apiserver")
        },
        client(
            "apiserver-kubelet-client",
            "/O=system:masters/CN=kube-apiserver-kubelet-client",
        ),
        Leaf {
            authority: "front-proxy-ca",
            ..client("front-proxy-client", "/CN=front-proxy-client")
        },
        client(ADMIN, "/O=system:masters/CN=admin"),
        client(CONTROLLER_MANAGER, "/CN=system:kube-controller-manager"),
        client(SCHEDULER, "/CN=system:kube-scheduler"),
        client(PROXY, "/CN=system:kube-proxy"),
        Leaf {
            usage: "clientAuth,serverAuth",
            alternative_names: format!("DNS:{NODE_NAME},IP:127.0.0.1,IP:{}", network::NODE),
            ..client(KUBELET, &format!("/O=system:nodes/CN=system:node:{NODE_NAME}"))
        },
    ]
}

/// Makes certificates and keys if the run has none yet, and writes its kubeconfigs.
///
/// # Errors
/// When `openssl` fails or the run's folder cannot be written.
pub fn ensure(run: &Run) -> Result<()> {
    let pki = run.dir().join("pki");
    if !pki.exists() {
        let partial = run.dir().join("pki.partial");
        remove_all(&partial)?;
        fs::create_dir_all(&partial).context("making the folder of certificates")?;
        private(&partial, 0o700)?;
        make(&partial)?;
        fs::rename(&partial, &pki).context("moving the finished certificates into place")?;
    }
    let server = format!(
        "https://{}:{}",
        run.settings().server(),
        run.settings().ports.apiserver
    );
    for user in [ADMIN, CONTROLLER_MANAGER, SCHEDULER, PROXY, KUBELET] {
        let path = pki.join(format!("{user}.kubeconfig"));
        let content = kubeconfig(
            &pki,
            user,
            &server,
            &format!("recommendation-stack-{}", run.name()),
        )?;
        if fs::read_to_string(&path).ok().as_ref() != Some(&content) {
            write(&path, &content)?;
            private(&path, 0o600)?;
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    for (name, subject) in [
        ("ca", "/CN=recommendation-stack-ca"),
        ("front-proxy-ca", "/CN=front-proxy-ca"),
    ] {
        authority(dir, name, subject)?;
    }
    for leaf in leaves() {
        sign(dir, leaf)?;
    }
    // Signs the tokens of service accounts.
    key(dir, "service-accounts")?;
    openssl(
        dir,
        "pkey -in service-accounts.key -pubout -out service-accounts.pub",
    )
}

/// Makes an authority: its key and the certificate that it signs itself.
pub(super) fn authority(dir: &Path, name: &str, subject: &str) -> Result<()> {
    key(dir, name)?;
    openssl(
        dir,
        &format!(
            "req -x509 -new -key {name}.key -subj {subject} -days 3650 -sha256 -out {name}.crt \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
        ),
    )
}

/// Makes a key and the certificate for it.
pub(super) fn sign(dir: &Path, leaf: Leaf) -> Result<()> {
    let Leaf {
        name,
        subject,
        usage,
        alternative_names,
        authority,
    } = leaf;
    key(dir, name)?;
    let mut extensions = format!(
        "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage={usage}\n"
    );
    if !alternative_names.is_empty() {
        extensions += &format!("subjectAltName={alternative_names}\n");
    }
    write(&dir.join(format!("{name}.ext")), &extensions)?;
    openssl(
        dir,
        &format!("req -new -key {name}.key -subj {subject} -out {name}.csr"),
    )?;
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 3650 \
             -sha256 -extfile {name}.ext -out {name}.crt"
        ),
    )?;
    for leftover in ["ext", "csr"] {
        fs::remove_file(dir.join(format!("{name}.{leftover}"))).ok();
    }
    Ok(())
}

fn key(dir: &Path, name: &str) -> Result<()> {
    let file = format!("{name}.key");
    openssl(
        dir,
        &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {file}"),
    )?;
    private(&dir.join(file), 0o600)
}

fn openssl(dir: &Path, args: &str) -> Result<()> {
    // No argument holds a blank.
    Cmd::new("openssl")
        .dir(dir)
        .args(args.split_ascii_whitespace())
        .run()
        .map(drop)
}

#[cfg(unix)]
fn private(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("making {} private", path.display()))
}

#[cfg(not(unix))]
fn private(_: &Path, _: u32) -> Result<()> {
    Ok(())
}

/// A kubeconfig with its certificates inside, so that it can be copied. JSON is YAML.
fn kubeconfig(pki: &Path, user: &str, server: &str, cluster: &str) -> Result<String> {
    let read = |file: String| -> Result<String> {
        Ok(STANDARD.encode(fs::read(pki.join(&file)).with_context(|| format!("reading {file}"))?))
    };
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": {
            "server": server,
            "certificate-authority-data": read("ca.crt".to_owned())?,
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate-data": read(format!("{user}.crt"))?,
            "client-key-data": read(format!("{user}.key"))?,
        }}],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
        "current-context": cluster,
    });
    Ok(serde_json::to_string_pretty(&config)? + "\n")
}
