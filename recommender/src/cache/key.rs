//! What names an answer.

use std::hash::Hasher as _;

use crate::privacy::Tag;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// As a cache of this process knows an answer: whom it is about, and a digest.
pub(super) type Local = (Tag, u128);

/// Names an answer: everything that it is made from, part by part. It stands under a digest, and strangers choose
/// part of what it is made from (ids): a collision would show one customer's answer to another, so both digests are
/// ones that nobody can make collide. Whom the answer is about stands beside the digest, so that it can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    about: Tag,
    parts: Vec<u8>,
}

impl Key {
    /// Within this process: by a hash whose key is drawn when it begins, for it costs a tenth of the other one.
    pub(super) fn local(&self, key: (u64, u64)) -> Local {
        let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
        hasher.write(&self.parts);
        (self.about, hasher.finish128().as_u128())
    }

    /// As a Redis key ends: the same on every replica.
    pub(super) fn shared(&self) -> String {
        let digest = Sha256::digest(&self.parts);
        format!("{}{}", hex::encode(self.about), hex::encode(&digest[..16]))
    }
}

/// Makes a [`Key`] from parts. Each is written with its length, so that no two lists of parts look alike.
pub struct KeyBuilder(Key);

impl KeyBuilder {
    /// Keys of different kinds of answers never meet.
    pub fn new(kind: &str) -> Self {
        let mut key = Self(Key {
            about: Tag::default(),
            parts: Vec::with_capacity(256),
        });
        key.text(kind);
        key
    }

    /// The answer is about this customer, and goes when the customer is erased.
    pub fn about(&mut self, customer: Tag) -> &mut Self {
        self.0.about = customer;
        self
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.parts.extend_from_slice(text.as_bytes());
        self
    }

    /// A text that may be absent, which is not the same as empty.
    pub fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    /// A list in its order.
    pub fn list<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.parts.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// The key.
    pub fn finish(self) -> Key {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_only_look_alike_when_joined_make_different_keys() {
        let key = |parts: &[&str]| {
            let mut key = KeyBuilder::new("k");
            for part in parts {
                key.text(part);
            }
            key.finish()
        };
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        let list = |ids: &[&str]| {
            let mut key = KeyBuilder::new("k");
            key.list(ids.iter().copied()).optional(None);
            key.finish()
        };
        assert_ne!(list(&[]), list(&[""]));
    }

    #[test]
    fn digests_follow_the_parts_and_only_the_shared_one_is_the_same_in_every_process() {
        let key = |part: &str| {
            let mut key = KeyBuilder::new("k");
            key.text(part);
            key.finish()
        };
        let (a, b) = (key("a"), key("b"));
        assert_eq!(
            (a.local((1, 2)), a.shared()),
            (key("a").local((1, 2)), key("a").shared())
        );
        assert_ne!(a.local((1, 2)), b.local((1, 2)));
        assert_ne!(a.local((1, 2)), a.local((1, 3)));
        assert_ne!(a.shared(), b.shared());
        assert_eq!(a.shared().len(), 48);
    }
}
