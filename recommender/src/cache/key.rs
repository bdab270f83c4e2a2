//! What names an answer.

use sha2::{Digest as _, Sha256};

/// Names an answer. Strangers choose part of what it is made from (ids), and a collision would show one
/// customer's answer to another: so it is cryptographic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// As a Redis key ends.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// Makes a [`Key`] from parts. Each is written with its length, so that no two lists of parts look alike.
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// Keys of different kinds of answers never meet.
    pub fn new(kind: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.text(kind);
        key
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
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
        self.0.update(number.to_le_bytes());
        self
    }

    /// The key.
    pub fn finish(self) -> Key {
        let digest = self.0.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Key(key)
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
}
