//! Data protection: whose records are whose without saying whose, who may be learned from, and what has to be
//! forgotten.
//!
//! A customer who is erased stands nowhere by id: the record of the erasure is keyed by HMAC-SHA256 of the id with
//! the pipeline's privacy key, which only replicas have. Everything that finds a customer again (in the model, in a
//! snapshot, in the log that is read anew, in Redis) does so by that [`Subject`].

pub mod erasing;
pub mod erasures;
#[cfg(test)]
mod fake_log;
pub mod places;
pub mod salts;
pub mod sweep;

use std::hash::Hasher as _;

use hmac::{Hmac, Mac as _};
use recommendation_api::config::RecommenderConfig;
use recommendation_api::pipeline::serving::{Consent, Pseudonymization};
use recommendation_api::records::{Ends, Erasure, ErasureScope};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use siphasher::sip::SipHasher13;

use self::places::Places;
use self::salts::Salts;
use crate::directory::Directory;
use crate::source::embedded::{ERASURES, EVENTS, PROFILES};
use crate::source::kafka::events_topic;

/// HMAC-SHA256 of a customer's id: names the customer to whoever has the key, and nobody to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject([u8; 32]);

/// Begins the names of everything in a cache that is about one customer.
pub type Tag = [u8; 8];

impl Subject {
    /// As records are keyed: hexadecimal.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads a record's key; `None` for one that is none of ours.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(key, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// The key, and the rules on whom to learn from.
pub struct Privacy {
    mac: Hmac<Sha256>,
    /// Of tags.
    tag_key: [u8; 16],
    consent: Consent,
    /// Salts, where pseudonyms stand in the log instead of ids.
    pub salts: Option<Salts>,
    /// The topic that is learned from, as erasures name it.
    pub events: String,
    /// The topic of erasures.
    pub erasures: String,
    /// The topic of profiles.
    pub profiles: String,
    /// Where personal data lies.
    pub places: Places,
    /// Whether other replicas may take part.
    pub shared: bool,
}

impl Default for Privacy {
    /// With a key that nobody else has.
    fn default() -> Self {
        let key = SecretString::from(hex::encode(rand::random::<[u8; 32]>()));
        Self::new(&key, &RecommenderConfig::default(), true)
    }
}

/// Begins what is derived from the key for other purposes: no customer's id has control characters.
const OWNER: &[u8] = b"\0owner\0";
const TAG: &[u8] = b"\0tag\0";

impl Privacy {
    /// Of a pipeline; `embedded` has tables instead of topics.
    pub fn new(key: &SecretString, config: &RecommenderConfig, embedded: bool) -> Self {
        let (events, erasures, profiles) = match embedded {
            true => (EVENTS, ERASURES, PROFILES),
            false => (
                events_topic(config).0,
                config.topics.erasures.as_str(),
                config.topics.profiles.as_str(),
            ),
        };
        let mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
            .expect("HMAC takes keys of any length");
        let mut derived = mac.clone();
        derived.update(TAG);
        let derived: [u8; 32] = derived.finalize().into_bytes().into();
        Self {
            mac,
            tag_key: std::array::from_fn(|at| derived[at]),
            consent: config.privacy.consent,
            salts: (config.privacy.pseudonymization == Pseudonymization::PerCustomerSalt)
                .then(Salts::default),
            events: events.to_owned(),
            erasures: erasures.to_owned(),
            profiles: profiles.to_owned(),
            places: Places::new(config, embedded),
            shared: !embedded,
        }
    }

    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Who a customer is to those who have the key.
    pub fn subject(&self, customer: &str) -> Subject {
        Subject(self.hash(&[customer.as_bytes()]))
    }

    /// See [`Tag`]; of the customer whom the engine knows by this hash.
    pub fn tag(&self, owner: u64) -> Tag {
        let mut hasher = SipHasher13::new_with_key(&self.tag_key);
        hasher.write(&owner.to_le_bytes());
        hasher.finish().to_le_bytes()
    }

    /// See [`Tag`].
    pub fn tag_of(&self, customer: &str) -> Tag {
        self.tag(recommender_engine::owner(customer))
    }

    /// What the log calls a customer: their pseudonym, where there is one.
    pub fn known_as(&self, customer: &str) -> Option<String> {
        let salts = self.salts.as_ref()?;
        if customer.starts_with(salts::PREFIX) {
            return None;
        }
        salts.pseudonym(&self.subject(customer))
    }

    /// Whether records may call a customer this: where pseudonyms are configured, nothing else.
    pub fn may_name(&self, name: &str) -> bool {
        self.salts.is_none() || name.starts_with(salts::PREFIX)
    }

    /// A pad for the owner's hash that no two subjects share.
    fn pad(&self, subject: &Subject) -> u64 {
        let hash = self.hash(&[OWNER, &subject.0]);
        u64::from_le_bytes(std::array::from_fn(|at| hash[at]))
    }

    /// The record that has this customer forgotten, and its key.
    pub fn erasure(
        &self,
        customer: &str,
        scope: ErasureScope,
        ends: Ends,
        time_ms: i64,
    ) -> (Subject, Erasure) {
        let subject = self.subject(customer);
        let owner = recommender_engine::owner(customer) ^ self.pad(&subject);
        let erasure = Erasure {
            time_ms,
            ends,
            owner: format!("{owner:016x}"),
            scope,
        };
        (subject, erasure)
    }

    /// The hash by which the engine knows the customer of an erasure; `None` where the record was not made with
    /// this key or is damaged.
    pub fn owner(&self, subject: &Subject, erasure: &Erasure) -> Option<u64> {
        let masked = u64::from_str_radix(&erasure.owner, 16).ok()?;
        Some(masked ^ self.pad(subject))
    }

    /// Whether this customer may be learned from and answered personally. With opt-out everybody may who has not
    /// refused; with opt-in nobody who has not agreed, visits that have not signed in included.
    pub fn tracks(&self, directory: &Directory, customer: &str) -> bool {
        match self.consent {
            Consent::OptOut => directory.consent(customer) != Some(false),
            Consent::OptIn => directory.consent(customer) == Some(true),
        }
    }

    /// Whether a profile with this consent lets its customer be tracked.
    pub fn allows(&self, consent: Option<bool>) -> bool {
        consent.unwrap_or(self.consent == Consent::OptOut)
    }

    /// Whether only those are tracked who have agreed.
    pub fn is_opt_in(&self) -> bool {
        self.consent == Consent::OptIn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privacy(key: &str) -> Privacy {
        Privacy::new(&SecretString::from(key), &RecommenderConfig::default(), true)
    }

    #[test]
    fn a_record_finds_its_customer_with_the_key_and_tells_nothing_without() {
        let ours = privacy("key");
        let (subject, erasure) = ours.erasure("ann", ErasureScope::Everything, Default::default(), 7);
        assert_eq!(Subject::parse(subject.hex().as_bytes()), Some(subject));
        assert_eq!(
            ours.owner(&subject, &erasure),
            Some(recommender_engine::owner("ann"))
        );
        let others = privacy("another");
        assert_ne!(others.subject("ann"), subject);
        assert_ne!(
            others.owner(&subject, &erasure),
            Some(recommender_engine::owner("ann"))
        );
        let text = serde_json::to_string(&erasure).unwrap();
        let hash = format!("{:016x}", recommender_engine::owner("ann"));
        assert!(!text.contains("ann") && !text.contains(&hash), "{text}");
    }

    #[test]
    fn keys_that_are_none_of_ours_are_told_apart() {
        for key in [&b"ann"[..], b"", &[0xff; 64], &[b'a'; 63]] {
            assert_eq!(Subject::parse(key), None);
        }
    }

    #[test]
    fn silence_is_consent_with_opt_out_only() {
        let mut config = RecommenderConfig::default();
        for (consent, expected) in [
            (Consent::OptOut, [true, true, false]),
            (Consent::OptIn, [false, true, false]),
        ] {
            config.privacy.consent = consent;
            let privacy = Privacy::new(&SecretString::from("k"), &config, true);
            assert_eq!(
                [None, Some(true), Some(false)].map(|said| privacy.allows(said)),
                expected
            );
        }
    }
}
