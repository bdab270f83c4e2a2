//! Ids of requests, answers and events: UUIDs of version 7 (RFC 9562, section 5.7).

use uuid::{Builder, Uuid};

use crate::clock::now_ms;

/// A new one. Its random part comes from this thread's generator: asking the system for every id costs a request
/// more than its answer from the cache.
pub fn new() -> Uuid {
    let ms = u64::try_from(now_ms()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(ms, &rand::random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_7_carry_the_time_and_differ() {
        let before = now_ms();
        let ids: std::collections::HashSet<Uuid> = (0..10_000).map(|_| new()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert_eq!(
                (id.get_version_num(), id.get_variant()),
                (7, uuid::Variant::RFC4122)
            );
            let (seconds, _) = id.get_timestamp().unwrap().to_unix();
            assert!((before / 1000..=now_ms() / 1000).contains(&(seconds as i64)));
        }
    }
}
