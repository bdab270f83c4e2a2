//! Who is calling? The connection's address, unless it is a proxy that we were told to trust.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The other end of the connection, put into every request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Networks whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct Trusted(Vec<IpNet>);

/// An address or a network in CIDR notation.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| "is neither an address nor a network".to_owned()),
    }
}

impl Trusted {
    /// From the configuration; entries that do not parse were refused when it was checked.
    pub fn new(networks: &[String]) -> Self {
        Self(
            networks
                .iter()
                .filter_map(|text| parse_network(text).ok())
                .collect(),
        )
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The caller's address: from the right of `X-Forwarded-For`, the first that is no trusted proxy. What
    /// stands further left was written by the caller itself and proves nothing.
    pub fn caller(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.0.ip().to_canonical();
        if !self.contains(caller) {
            return caller;
        }
        // A line that is no text is an entry that is no address. To leave it out would uncover the line before
        // it, which the caller may have written.
        let forwarded: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .flat_map(|v| v.to_str().unwrap_or("?").split(','))
            .collect();
        for entry in forwarded.iter().rev() {
            let Some(address) = parse_address(entry.trim()) else {
                break;
            };
            caller = address;
            if !self.contains(caller) {
                break;
            }
        }
        caller
    }
}

/// Some proxies write the port too.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .map(|a: IpAddr| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(peer: &str, forwarded: &[&str]) -> String {
        let trusted = Trusted::new(&["10.0.0.0/8".into(), "192.0.2.1".into()]);
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        trusted.caller(Peer(peer.parse().unwrap()), &headers).to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(caller("203.0.113.9:1", &["1.2.3.4"]), "203.0.113.9");
    }

    #[test]
    fn the_address_that_a_trusted_proxy_saw_counts() {
        assert_eq!(caller("10.1.1.1:1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(caller("10.1.1.1:1", &["6.6.6.6, 1.2.3.4, 192.0.2.1"]), "1.2.3.4");
        assert_eq!(caller("10.1.1.1:1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(caller("10.1.1.1:1", &["1.2.3.4:5678"]), "1.2.3.4");
        assert_eq!(caller("10.1.1.1:1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(caller("[::ffff:10.1.1.1]:1", &["1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn rubbish_stops_the_walk_at_the_last_known_address() {
        assert_eq!(caller("10.1.1.1:1", &["1.2.3.4, unknown"]), "10.1.1.1");
        assert_eq!(caller("10.1.1.1:1", &[]), "10.1.1.1");
    }

    #[test]
    fn a_line_that_is_no_text_does_not_uncover_what_the_caller_wrote_before_it() {
        let trusted = Trusted::new(&["10.0.0.0/8".into()]);
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
        let line = http::HeaderValue::from_bytes(b"\xff, 203.0.113.9").unwrap();
        headers.append("x-forwarded-for", line);
        let peer = Peer("10.1.1.1:1".parse().unwrap());
        assert_eq!(trusted.caller(peer, &headers).to_string(), "10.1.1.1");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in "[ -~]{0,80}") {
            caller("10.1.1.1:1", &[&value]);
        }
    }
}
