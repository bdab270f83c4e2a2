//! What the recommender would refuse when it starts: said here, in a condition, instead of in the log of a pod that
//! does not come up.

use std::net::IpAddr;

use recommendation_api::RecommenderConfig;

use super::InvalidSpec;
use crate::telemetry;

/// Checks the parts of the configuration that the types cannot.
///
/// # Errors
/// [`InvalidSpec`], naming the first field at fault.
pub(super) fn check(config: &RecommenderConfig) -> Result<(), InvalidSpec> {
    let bad = |field: &str, index: usize, problem: String| {
        let path = format!("spec.recommender.{field}[{index}]");
        Err(InvalidSpec::new(path, problem))
    };
    for (index, proxy) in config.http.trusted_proxies.iter().enumerate() {
        if proxy.parse::<IpAddr>().is_err() && proxy.parse::<ipnet::IpNet>().is_err() {
            let problem =
                format!("{proxy:?} is neither an address nor a network: write 10.0.0.7 or 10.0.0.0/8");
            return bad("http.trustedProxies", index, problem);
        }
    }
    for (index, origin) in config.http.cors_origins.iter().enumerate() {
        if http::HeaderValue::from_str(origin).is_err() {
            let problem = format!("{origin:?} is not an origin: write https://shop.example, or *");
            return bad("http.corsOrigins", index, problem);
        }
    }
    for (field, address) in config.web_addresses() {
        if !is_web_address(address) {
            let problem = format!("{address:?} is no web address: write https://host/path");
            return Err(InvalidSpec::new(format!("spec.recommender.{field}"), problem));
        }
    }
    telemetry::check(&config.telemetry.log_filter).map_err(|error| {
        let problem = format!("{error}: write a level, or levels by module: info,recommender::http=debug");
        InvalidSpec::new("spec.recommender.telemetry.logFilter", problem)
    })
}

fn is_web_address(text: &str) -> bool {
    let uri = text.parse::<http::Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}
