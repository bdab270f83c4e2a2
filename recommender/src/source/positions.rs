//! Where reading stands, as it is kept in snapshots, and whether a log is the one that it was read from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where reading stands in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The offset to go on from.
    pub next: i64,
    /// The last record that was read: its offset,
    pub last: i64,
    /// its time,
    pub last_ms: i64,
    /// and the length of its value; -1 for none. By these a log is recognised.
    pub last_bytes: i64,
}

/// Positions by partition.
pub type Partitions = BTreeMap<i32, Position>;

/// Where reading stands in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// The id of the Kafka cluster, or of the embedded log.
    pub log: String,
    /// By topic; of the embedded log's tables too.
    pub topics: BTreeMap<String, Partitions>,
}

impl Positions {
    /// Whether records of a topic were read for `newer` that were not for these.
    pub fn lacks(&self, newer: &Self, topic: &str) -> bool {
        let none = Partitions::new();
        let (old, new) = (self.topics.get(topic), newer.topics.get(topic));
        let old = old.unwrap_or(&none);
        new.into_iter()
            .flatten()
            .any(|(partition, position)| old.get(partition).copied().unwrap_or_default().next < position.next)
    }

    /// How many records were read, where none were removed.
    pub fn records(&self, topic: &str) -> u64 {
        let all = self.topics.get(topic).into_iter().flat_map(BTreeMap::values);
        all.map(|position| u64::try_from(position.next).unwrap_or(0))
            .sum()
    }
}

/// Why reading cannot go on from positions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// The log does not answer yet: ask again.
    #[error("the log does not answer yet")]
    NotYet,
    /// It is another log, or what comes next was removed from it: never.
    #[error("{0}")]
    Never(String),
}

/// Checks a position against the ends of its partition: its first record that still stands, and the offset of
/// the next one.
pub fn within(topic: &str, partition: i32, position: &Position, ends: (i64, i64)) -> Result<(), ResumeError> {
    let (low, high) = ends;
    let Position { next, .. } = *position;
    if next > high {
        return Err(ResumeError::Never(format!(
            "{topic}/{partition} ends at {high}, before {next}: the topic was made anew"
        )));
    }
    if next < low {
        return Err(ResumeError::Never(format!(
            "{topic}/{partition} begins at {low}, after {next}: records in between were removed unread"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_less_of_a_topic_lacks_it() {
        let read = |ends: &[(i32, i64)]| {
            let at = |next| Position {
                next,
                ..Position::default()
            };
            let partitions = ends
                .iter()
                .map(|(partition, next)| (*partition, at(*next)))
                .collect();
            Positions {
                topics: [("erasures".to_owned(), partitions)].into(),
                ..Positions::default()
            }
        };
        let newer = read(&[(0, 3), (1, 0)]);
        assert!(!read(&[(0, 3)]).lacks(&newer, "erasures") && !read(&[]).lacks(&newer, "events"));
        assert!(read(&[(0, 2), (1, 9)]).lacks(&newer, "erasures"));
        assert!(Positions::default().lacks(&newer, "erasures"));
    }

    #[test]
    fn positions_outside_the_log_are_told_apart() {
        let at = |next| Position {
            next,
            ..Position::default()
        };
        assert!(within("t", 0, &at(5), (5, 5)).is_ok());
        assert!(within("t", 0, &at(5), (0, 9)).is_ok());
        let anew = within("t", 0, &at(10), (0, 9)).unwrap_err().to_string();
        let removed = within("t", 0, &at(1), (2, 9)).unwrap_err().to_string();
        assert!(
            anew.contains("made anew") && removed.contains("removed unread"),
            "{anew} {removed}"
        );
    }
}
