//! What keeps one part's trouble from becoming another's.
//!
//! A call in a request's path has one attempt within its deadline, and then the fallback: a second attempt would
//! come when the caller has given up, and doubles the load on what is in trouble already. [`breaker`] skips even
//! the one attempt while it is known to fail. Calls in the background and at the start go through [`crate::retry`].
//! [`load`] turns requests away before they queue.

pub mod breaker;
pub mod guarded_log;
pub mod load;
