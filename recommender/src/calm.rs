//! Threads that give way: what they do has time for some milliseconds, and a request has not.

use thread_priority::{ThreadPriority, set_current_thread_priority};

/// Where the processors are short such a thread gets a third of
/// what one that answers requests gets, so that learning falls behind under a load that never lets up, and does not
/// stand still.
const NICENESS: i64 = 5;
/// The same as the crate counts, from 0 to 99.
const PRIORITY: u8 = 35;

/// Makes the calling thread, and those that it starts from now on, give way to others of this process.
pub fn give_way() {
    // Linux has a niceness for each thread; elsewhere it is the whole process's, which would be no help.
    if niceness().is_none_or(|niceness| niceness >= NICENESS) {
        return;
    }
    let priority = ThreadPriority::try_from(PRIORITY).map_err(str::to_owned);
    let set = priority.and_then(|priority| set_current_thread_priority(priority).map_err(|e| e.to_string()));
    if let Err(error) = set {
        // It works as well, only less evenly.
        tracing::debug!(
            error,
            "a thread in the background has the priority of those that answer"
        );
    }
}

/// Of the calling thread, as the kernel tells it; none where there is no such thing.
fn niceness() -> Option<i64> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // Field 19 of proc(5); the name before the third may hold anything, and ends in a parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(16)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn own() -> i64 {
        niceness().expect("Linux tells it")
    }

    #[test]
    fn a_thread_gives_way_with_those_that_it_starts_and_the_others_do_not() {
        let before = own();
        let (itself, started) = std::thread::spawn(|| {
            give_way();
            (own(), std::thread::spawn(own).join().unwrap())
        })
        .join()
        .unwrap();
        // A process that runs at a niceness of its own is not made to take more.
        assert_eq!((itself, started), (5.max(before), 5.max(before)));
        assert_eq!(own(), before);
    }
}
