//! `recommender token` and `recommender hash-password`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use recommendation_api::names;
use secrecy::SecretString;

use super::{Output, print};
use crate::http::tokens::{TOKEN_LIFETIME, mint, read_key};
use crate::http::users::hash_password;
use crate::secrets;
use crate::service::embedded_key_file;

#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("key").required(true).multiple(false),
    after_help = "Examples:\n  \
        recommender token --embedded ./shop.db --user 17850\n  \
        kubectl get secret shop-jwt -o jsonpath='{.data.secret}' | base64 -d > key &&\n    \
        recommender token --secret-file key --user till-1 --scope events:write --scope catalog:write\n\n\
        Scopes: recommendations:read, events:write, catalog:write, insights:read, customers:read (the console)"
)]
pub(super) struct Args {
    /// File with the key that signs tokens
    #[arg(long, value_name = "FILE", group = "key")]
    secret_file: Option<PathBuf>,
    /// Configuration that names the key
    #[arg(long, value_name = "FILE", group = "key")]
    config: Option<PathBuf>,
    /// Database of embedded mode, whose key lies beside it
    #[arg(long, value_name = "FILE", group = "key")]
    embedded: Option<PathBuf>,
    /// Folder of the secrets that the configuration names
    #[arg(long, value_name = "DIR", default_value = names::SECRETS_DIR)]
    secrets_dir: PathBuf,
    /// Whom it is for: a customer's id, or a program's name
    #[arg(long, value_name = "ID")]
    user: String,
    /// What else it allows; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Its issuer; default: the configuration's
    #[arg(long, default_value = "")]
    issuer: String,
    /// How long it lives: 10m, 1h, 1d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: std::time::Duration,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut issuer = args.issuer;
    let key_file = match (args.secret_file, args.config, args.embedded) {
        (Some(path), ..) => path,
        (_, Some(config), _) => {
            let config = crate::config::load(&config)?;
            if issuer.is_empty() {
                issuer.clone_from(&config.auth.issuer);
            }
            let name = config
                .auth
                .jwt_secret_file
                .context("the configuration has no auth.jwtSecretFile")?;
            secrets::below(&args.secrets_dir, &name)?
        }
        (_, _, Some(database)) => embedded_key_file(&database),
        _ => bail!("one of --secret-file, --config and --embedded is needed"),
    };
    if args.user.trim().is_empty() {
        bail!("--user must not be empty");
    }
    let token = mint(
        &read_key(&key_file)?,
        &args.user,
        &args.scopes,
        &issuer,
        args.lifetime,
    )?;
    match args.output {
        Output::Text => print(format!("{token}\n").as_bytes()),
        Output::Json => {
            let expires_in = args.lifetime.as_secs();
            let answer =
                serde_json::json!({"token": token, "token_type": "Bearer", "expires_in": expires_in});
            print(format!("{answer}\n").as_bytes())
        }
    }
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  printf %s \"$PASSWORD\" | recommender hash-password")]
pub(super) struct HashArgs {
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) fn hash(args: HashArgs) -> anyhow::Result<ExitCode> {
    let password = std::io::read_to_string(std::io::stdin()).context("reading the password")?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("the password is empty");
    }
    let hash = hash_password(&SecretString::from(password))?;
    match args.output {
        Output::Text => print(format!("{hash}\n").as_bytes()),
        Output::Json => print(format!("{}\n", serde_json::json!({"passwordHash": hash})).as_bytes()),
    }
}

// The lifetime that `/auth/token` gives is the default here too.
const _: () = assert!(TOKEN_LIFETIME.as_secs() == 3600);
