//! Takes the answers about a customer out of Redis.

use std::time::Duration;

use super::SharedAnswers;
use crate::privacy::Tag;

/// Longest one step may take.
const WITHIN: Duration = Duration::from_millis(500);
/// Names looked at in one step, about.
const AT_ONCE: usize = 1_000;

impl SharedAnswers {
    /// Removes the answers about these customers: names are gone through once, whatever their number. Where Redis
    /// fails, answers end by themselves when their time to live does.
    pub async fn forget(&self, customers: &[Tag]) {
        let about: Vec<String> = customers.iter().map(hex::encode).collect();
        let pattern = match about.as_slice() {
            [] => return,
            [one] => format!("{}{one}*", self.prefix),
            _ => format!("{}*", self.prefix),
        };
        let mut connection = self.connection.clone();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(AT_ONCE);
            let scanned = self.call(WITHIN, scan.query_async(&mut connection)).await;
            let Some((next, names)): Option<(u64, Vec<String>)> = scanned else {
                return;
            };
            let is_about = |name: &&String| {
                name.strip_prefix(&self.prefix)
                    .is_some_and(|rest| about.iter().any(|tag| rest.starts_with(tag)))
            };
            let found: Vec<&String> = names.iter().filter(is_about).collect();
            if !found.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(&found);
                let done: Option<u64> = self.call(WITHIN, unlink.query_async(&mut connection)).await;
                if done.is_none() {
                    return;
                }
            }
            if next == 0 {
                return;
            }
            cursor = next;
        }
    }
}
