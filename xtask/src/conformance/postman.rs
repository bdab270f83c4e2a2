//! The Postman collection, run by newman against a service: every request of it must pass its own tests.

use std::time::Duration;

use anyhow::Result;

use super::service::{HMAC_SECRET, PASSWORD, PUBLISHABLE_KEY, Service, USER, Wanted};
use crate::command::Cmd;
use crate::paths::Paths;
use crate::progress::Steps;
use crate::{release, tools};

const NEWMAN: &str = "newman@6.2.2";
const TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the collection and prints newman's summary.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let dir = tools::node(&Paths::from_env()?, "newman", &[NEWMAN], steps)?;
    let wanted = Wanted {
        signed: true,
        keys: true,
        resource_per_minute: 5,
    };
    let service = Service::start(wanted, steps)?;
    let collection = release::workspace().join("manifests/postman");
    let said = steps.run("newman", |_| {
        let mut newman = Cmd::new(dir.join("node_modules/.bin/newman"))
            .arg("run")
            .arg(collection.join("recommender.postman_collection.json"))
            .arg("--environment")
            .arg(collection.join("local.postman_environment.json"))
            .args(["--color", "off", "--disable-unicode"])
            .timeout(TIMEOUT);
        for (name, value) in [
            ("baseUrl", service.url.as_str()),
            ("username", USER),
            ("password", PASSWORD),
            ("publishableKey", PUBLISHABLE_KEY),
            ("hmacSecret", HMAC_SECRET),
        ] {
            newman = newman.args(["--env-var", &format!("{name}={value}")]);
        }
        newman.run()
    })?;
    println!("{said}");
    Ok(())
}
