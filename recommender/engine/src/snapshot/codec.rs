//! Numbers and texts as bytes: small numbers take few bytes, and reading never goes past the end.

/// Bytes that end too early or say what cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Grows a payload.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub bytes: Vec<u8>,
}

impl Out {
    /// A number of 0 or more: seven bits a byte, lowest first.
    pub fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Any number; those near 0 are short.
    pub fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    /// A number whose bits are evenly spread, such as a hash.
    pub fn fixed(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    pub fn blob(&mut self, bytes: &[u8]) {
        self.unsigned(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub fn floats(&mut self, values: &[f32]) {
        self.unsigned(values.len() as u64);
        for value in values {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Reads a payload.
pub(crate) struct In<'a> {
    rest: &'a [u8],
}

impl<'a> In<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        In { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn unsigned(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Damaged)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    pub fn signed(&mut self) -> Result<i64, Damaged> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that must fit its type.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.unsigned()?).map_err(|_| Damaged)
    }

    /// A number of either sign that must fit its type.
    pub fn small_signed<T: TryFrom<i64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.signed()?).map_err(|_| Damaged)
    }

    /// How many things follow; each takes at least one byte, so a larger number is damage and nothing is
    /// allocated for it.
    pub fn count(&mut self) -> Result<usize, Damaged> {
        let count: usize = self.small()?;
        if count <= self.rest.len() {
            Ok(count)
        } else {
            Err(Damaged)
        }
    }

    pub fn fixed(&mut self) -> Result<u64, Damaged> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(Damaged)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub fn blob(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.count()?;
        let (blob, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(blob)
    }

    pub fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.blob()?).map_err(|_| Damaged)
    }

    pub fn floats(&mut self) -> Result<Vec<f32>, Damaged> {
        let count = self.count()?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(count.checked_mul(4).ok_or(Damaged)?)
            .ok_or(Damaged)?;
        self.rest = rest;
        let chunks = bytes.as_chunks::<4>().0.iter();
        Ok(chunks.map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(a in any::<u64>(), b in any::<i64>(), text in ".{0,20}", floats in prop::collection::vec(-1e9f32..1e9, 0..9)) {
            let mut out = Out::default();
            out.unsigned(a);
            out.signed(b);
            out.fixed(a);
            out.text(&text);
            out.floats(&floats);
            let mut input = In::new(&out.bytes);
            prop_assert_eq!(input.unsigned(), Ok(a));
            prop_assert_eq!(input.signed(), Ok(b));
            prop_assert_eq!(input.fixed(), Ok(a));
            prop_assert_eq!(input.text(), Ok(text.as_str()));
            prop_assert_eq!(input.floats(), Ok(floats));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = In::new(&bytes).unsigned();
            let _ = In::new(&bytes).text();
            let _ = In::new(&bytes).floats();
            let _ = In::new(&bytes).fixed();
        }
    }
}
