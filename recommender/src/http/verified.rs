//! Tokens that were checked lately: a customer sends the same one for an hour, and checking its signature costs more
//! than an answer from the cache.
//!
//! Only what has passed every check is kept, under a keyed hash and never as it was sent. An entry is good until its
//! token ends and as long as the keys are those that it was checked with: whenever keys are read again (a rotation, a
//! new reading of the provider's set) all of them count for nothing, so that a key that was taken away is gone at once.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::hash::Hasher as _;

use super::tokens::Claims;

/// Memory for claims, bytes.
const ROOM: u64 = 16 * 1024 * 1024;
/// What an entry takes beside its texts.
const OVERHEAD: u64 = 200;

#[derive(Clone)]
struct Entry {
    /// Of the keys that it was checked with.
    reading: u64,
    claims: Arc<Claims>,
}

#[derive(Clone, Copy)]
struct ByBytes;

impl Weighter<u128, Entry> for ByBytes {
    fn weight(&self, _: &u128, entry: &Entry) -> u64 {
        let claims = &entry.claims;
        let scopes: usize = claims.scopes.iter().map(|scope| scope.len() + 24).sum();
        let texts = claims.user_id.len() + claims.iss.as_ref().map_or(0, String::len) + scopes;
        texts as u64 + OVERHEAD
    }
}

/// Tokens that were checked lately.
pub(super) struct Verified {
    cache: Cache<u128, Entry, ByBytes>,
    key: (u64, u64),
}

impl Verified {
    pub fn new() -> Self {
        let expected = usize::try_from(ROOM / 300).unwrap_or(usize::MAX);
        Self {
            cache: Cache::with_weighter(expected, ROOM, ByBytes),
            key: (rand::random(), rand::random()),
        }
    }

    /// The key is drawn when the process begins: nobody outside can make two tokens collide.
    fn digest(&self, token: &str) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        hasher.write(token.as_bytes());
        hasher.finish128().as_u128()
    }

    /// What a token says that was checked with this reading of the keys and has not ended at `now_s`, seconds
    /// since 1970.
    pub fn get(&self, token: &str, reading: u64, now_s: i64) -> Option<Arc<Claims>> {
        let digest = self.digest(token);
        let entry = self.cache.get(&digest)?;
        if entry.reading == reading && entry.claims.exp >= now_s {
            return Some(entry.claims);
        }
        self.cache.remove(&digest);
        None
    }

    /// Keeps what a token says. `reading` is that of the keys before it was checked: were they read again meanwhile,
    /// it counts for nothing.
    pub fn put(&self, token: &str, reading: u64, claims: Arc<Claims>) {
        self.cache.insert(self.digest(token), Entry { reading, claims });
    }

    /// Lets go of all, for their room.
    pub fn clear(&self) {
        self.cache.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(user_id: &str, exp: i64) -> Arc<Claims> {
        Arc::new(Claims {
            user_id: user_id.to_owned(),
            scopes: Vec::new(),
            iss: None,
            iat: 0,
            exp,
        })
    }

    #[test]
    fn a_token_is_known_until_it_ends_and_until_keys_are_read_again() {
        let verified = Verified::new();
        verified.put("a.b.c", 1, claims("ann", 100));
        assert_eq!(verified.get("a.b.c", 1, 100).unwrap().user_id, "ann");
        assert!(verified.get("a.b.d", 1, 100).is_none());
        assert!(verified.get("a.b.c", 1, 101).is_none(), "it has ended");
        verified.put("a.b.c", 1, claims("ann", 100));
        assert!(verified.get("a.b.c", 2, 100).is_none(), "keys were read again");
        assert!(verified.get("a.b.c", 1, 100).is_none(), "and it is forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let verified = Verified::new();
        let long = "x".repeat(4_000);
        for n in 0..20_000 {
            verified.put(&n.to_string(), 1, claims(&long, 100));
        }
        assert!(verified.cache.weight() <= ROOM);
        assert!(verified.cache.len() < 5_000);
    }
}
