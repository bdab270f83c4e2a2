//! The HTTP API against its own OpenAPI document, by Schemathesis: what it makes of the document must be answered as
//! the document says, and never by an internal error.

use std::time::Duration;

use anyhow::{Result, bail};

use super::service::{Service, Wanted};
use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::tools;

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// What is checked: no internal error, no status, content type, header or body that the document does not know, no
/// method that it does not know either, and no route that forgets to look at the token.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,unsupported_method,ignored_auth";
const TIMEOUT: Duration = Duration::from_secs(3600);
/// Fixed, so that a failure can be seen again.
const SEED: &str = "1";

/// Runs Schemathesis with at most `examples` requests made up per route and phase, and prints its summary.
pub(super) fn run(examples: u32, steps: &mut Steps) -> Result<()> {
    let bin = tools::python(&Paths::from_env()?, "schemathesis", &[SCHEMATHESIS], steps)?;
    let wanted = Wanted {
        resource_per_minute: 1_000_000,
        ..Wanted::default()
    };
    let service = Service::start(wanted, steps)?;
    let token = service.token()?;
    let output = steps.run("Schemathesis", |_| {
        Cmd::new(bin.join("schemathesis"))
            .args(["run", "--checks", CHECKS, "--seed", SEED, "--workers", "2"])
            .args([
                "--phases",
                "examples,coverage,fuzzing",
                "--no-color",
                "--continue-on-failure",
            ])
            .args(["--max-examples", &examples.to_string()])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .arg(format!("{}/openapi.json", service.url))
            .dir(&std::env::temp_dir())
            .timeout(TIMEOUT)
            .output()
    })?;
    println!("{}", output.stdout.replace(&token, "<token>"));
    if !output.status.success() {
        bail!(
            "Schemathesis found something; the service's last words:\n{}",
            service.log()
        );
    }
    Ok(())
}
