//! An event as it is kept.

use recommender_engine::{EventKind, PastEvent};

/// Bytes of an event before its product.
const HEAD: usize = 25;

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it stands in the events topic.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// What was done.
    pub kind: EventKind,
    /// See [`PastEvent::units`].
    pub units: i32,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The product.
    pub product: Box<str>,
}

const KINDS: [EventKind; 7] = [
    EventKind::View,
    EventKind::Click,
    EventKind::Cart,
    EventKind::Purchase,
    EventKind::Return,
    EventKind::Email,
    EventKind::Other,
];

impl Kept {
    /// As the engine takes it.
    pub fn past(&self) -> PastEvent<'_> {
        PastEvent {
            product: &self.product,
            kind: self.kind,
            units: self.units,
            time_ms: self.time_ms,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let kind = KINDS
            .iter()
            .position(|kind| *kind == self.kind)
            .unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + self.product.len());
        bytes.push(kind as u8);
        bytes.extend(self.partition.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.units.to_le_bytes());
        bytes.extend(self.time_ms.to_le_bytes());
        bytes.extend(self.product.as_bytes());
        bytes
    }

    /// `None` for bytes of something else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        fn next<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = rest.split_first_chunk::<N>()?;
            *rest = tail;
            Some(*head)
        }
        let mut rest = bytes;
        let [kind] = next(&mut rest)?;
        Some(Self {
            kind: *KINDS.get(usize::from(kind))?,
            partition: i32::from_le_bytes(next(&mut rest)?),
            offset: i64::from_le_bytes(next(&mut rest)?),
            units: i32::from_le_bytes(next(&mut rest)?),
            time_ms: i64::from_le_bytes(next(&mut rest)?),
            product: std::str::from_utf8(rest).ok()?.into(),
        })
    }
}

/// Events in the order of the log, each once.
pub(super) fn ordered(mut events: Vec<Kept>) -> Vec<Kept> {
    let place = |event: &Kept| (event.partition, event.offset);
    events.sort_by_key(place);
    events.dedup_by_key(|event| place(event));
    events
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(partition: i32, offset: i64, product: &str) -> Kept {
        Kept {
            partition,
            offset,
            kind: EventKind::Return,
            units: -320,
            time_ms: 1_700_000_000_000,
            product: product.into(),
        }
    }

    #[test]
    fn events_of_several_sets_are_in_the_order_of_the_log_each_once() {
        let mug = kept(0, 9, "mug");
        let found = vec![kept(1, 5, "cup"), mug.clone(), mug.clone(), kept(0, 2, "pot")];
        assert_eq!(ordered(found), [kept(0, 2, "pot"), mug, kept(1, 5, "cup")]);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back_and_any_bytes_without_a_panic(
            at in any::<(i32, i64, i32, i64)>(), kind in 0usize..7, product in ".{0,20}",
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let (partition, offset, units, time_ms) = at;
            let event = Kept { partition, offset, kind: KINDS[kind], units, time_ms, product: product.into() };
            prop_assert_eq!(Kept::from_bytes(&event.to_bytes()), Some(event));
            let _ = Kept::from_bytes(&bytes);
        }
    }
}
