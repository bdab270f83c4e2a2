//! Names of snapshots in their store, and of the tickets that see to it that one replica writes at a time.
//!
//! Time is cut into slots, one per snapshot that is due. `snapshots/<slot>-<created>` is a snapshot;
//! `snapshots/tickets/<slot>` says that a replica is writing the one of that slot. A ticket can be made once
//! only, which every store guarantees, and is removed when its writer is done; no slot is begun while the
//! ticket of another is younger than the longest that writing may take. A writer that died is waited for that
//! long, and then forgotten.

/// Folder of snapshots.
pub const SNAPSHOTS: &str = "snapshots";
/// Folder of tickets.
pub const TICKETS: &str = "snapshots/tickets";

/// A snapshot's name: sorts by slot, then by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Start of its slot, milliseconds since 1970.
    pub slot: i64,
    /// When it was taken, milliseconds since 1970.
    pub created_ms: i64,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:014}-{:014}", self.slot, self.created_ms)
    }
}

impl Name {
    /// Parses a name; `None` for files that are no snapshots of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (slot, created) = name.split_once('-')?;
        let number = |text: &str| (text.len() == 14).then(|| text.parse().ok()).flatten();
        Some(Self {
            slot: number(slot)?,
            created_ms: number(created)?,
        })
    }

    /// Where it lies in the store.
    pub fn path(&self) -> String {
        format!("{SNAPSHOTS}/{self}")
    }
}

/// Where the ticket of a slot lies.
pub fn ticket(slot: i64) -> String {
    format!("{TICKETS}/{slot:014}")
}

/// Start of the slot that a time lies in.
pub fn slot(now_ms: i64, interval_ms: i64) -> i64 {
    now_ms - now_ms.rem_euclid(interval_ms.max(1))
}

/// Whether a slot may be begun, by the snapshots and the tickets (slot, and age in milliseconds) that there are.
pub fn may_begin(slot: i64, snapshots: &[Name], tickets: &[(i64, i64)], longest_ms: i64) -> bool {
    snapshots.iter().all(|snapshot| snapshot.slot < slot)
        && tickets
            .iter()
            .all(|(ticket, age_ms)| *ticket != slot && *age_ms > longest_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_read_back() {
        let name = Name {
            slot: 1_700_000_000_000,
            created_ms: 1_700_000_012_345,
        };
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        let later = Name {
            slot: 1_700_000_600_000,
            created_ms: 1,
        };
        assert!(later.to_string() > name.to_string() && later > name);
        for other in ["tickets", "1-2", "0170000000000x-01700000012345", ""] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_slot_is_begun_once_and_not_while_another_is_written() {
        let done = |slot| Name {
            slot,
            created_ms: slot,
        };
        assert!(may_begin(20, &[done(10)], &[], 5));
        assert!(!may_begin(20, &[done(20)], &[], 5), "done");
        assert!(!may_begin(20, &[done(30)], &[], 5), "overtaken");
        assert!(!may_begin(20, &[], &[(20, 100)], 5), "begun by another");
        assert!(
            !may_begin(20, &[], &[(10, 3)], 5),
            "the one before is being written"
        );
        assert!(may_begin(20, &[], &[(10, 6)], 5), "its writer has died");
        assert_eq!(slot(1_234, 1_000), 1_000);
    }
}
