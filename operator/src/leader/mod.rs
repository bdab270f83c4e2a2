//! Leader election with a Lease: of several operators one acts, the others wait. As in client-go, an operator believes
//! its own clock only: a lease is free when nobody has renewed it for its whole duration, counted from when this
//! process saw it change, and it is held until a time counted from before the request that renewed it.

mod fence;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

pub use fence::Fence;

/// Name of the Lease.
pub const LEASE: &str = "recommendation-operator";

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Others wait this long after they saw the last renewal.
    pub lease: Duration,
    /// The holder stops writing this long after its last renewal: some time before others begin.
    pub hold: Duration,
    /// Time between two renewals, and between two looks of those who wait.
    pub renew: Duration,
    /// One request of a renewal may take this long.
    pub request: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            hold: Duration::from_secs(10),
            renew: Duration::from_secs(3),
            request: Duration::from_secs(3),
        }
    }
}

/// The lease could not be kept: the process has to end, or two would act.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// Another operator took it.
    #[error("another operator ({0}) holds the lease")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("the lease could not be renewed for {0:?}")]
    Expired(Duration),
}

/// One that wants to lead.
#[derive(Clone)]
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    times: Times,
    fence: Fence,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// What a look at the lease brought.
enum Turn {
    /// It is ours until then.
    Ours(Instant),
    /// Somebody else has it.
    Theirs(String),
    /// It could not be looked at, or somebody was faster.
    Unclear,
}

/// The last change of somebody else's lease that was seen.
struct Seen {
    version: Option<String>,
    at: Instant,
}

impl Candidate {
    /// A candidate under a name that no other process has. `client` must not be behind `fence` itself.
    pub fn new(client: Client, namespace: &str, identity: String, times: Times, fence: Fence) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            times,
            fence,
        }
    }

    /// Waits until the lease is held; `false`: `stop` came first.
    pub async fn acquire(&self, stop: &CancellationToken) -> bool {
        let mut seen = Seen {
            version: None,
            at: Instant::now(),
        };
        let mut told = None;
        loop {
            match self.turn(&mut seen).await {
                Turn::Ours(until) => {
                    self.fence.extend(until);
                    tracing::info!(identity = self.identity, "leading");
                    return true;
                }
                Turn::Theirs(holder) if told.as_ref() != Some(&holder) => {
                    tracing::info!(holder, "another operator leads, waiting");
                    told = Some(holder);
                }
                Turn::Theirs(_) | Turn::Unclear => {}
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(self.times.renew) => {}
            }
        }
    }

    /// Renews the lease until `stop`, then gives it up so that another need not wait.
    ///
    /// # Errors
    /// [`LeaderError`] when it is lost; nothing is written by then.
    pub async fn keep(&self, stop: &CancellationToken) -> Result<(), LeaderError> {
        let mut seen = Seen {
            version: None,
            at: Instant::now(),
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.fence.close();
                    self.release().await;
                    return Ok(());
                }
                () = tokio::time::sleep(self.times.renew) => {}
            }
            // Before anything is asked: one that slept too long must not go on as if nothing had been.
            if !self.fence.holds() {
                self.fence.close();
                return Err(LeaderError::Expired(self.times.hold));
            }
            match self.turn(&mut seen).await {
                Turn::Ours(until) => self.fence.extend(until),
                Turn::Theirs(holder) => {
                    self.fence.close();
                    return Err(LeaderError::Taken(holder));
                }
                Turn::Unclear => tracing::warn!(left = ?self.fence.left(), "the lease was not renewed"),
            }
        }
    }

    /// One look, and one write if the lease is ours or free.
    async fn turn(&self, seen: &mut Seen) -> Turn {
        let before = Instant::now();
        let found = match tokio::time::timeout(self.times.request, self.api.get_opt(LEASE)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease cannot be read");
                return Turn::Unclear;
            }
            Err(_) => return Turn::Unclear,
        };
        let written = match found {
            None => {
                let params = PostParams::default();
                let lease = self.lease(None);
                tokio::time::timeout(self.times.request, self.api.create(&params, &lease)).await
            }
            Some(lease) => {
                let holder = lease
                    .spec
                    .as_ref()
                    .and_then(|s| s.holder_identity.clone())
                    .unwrap_or_default();
                if seen.version != lease.metadata.resource_version {
                    seen.version.clone_from(&lease.metadata.resource_version);
                    seen.at = Instant::now();
                }
                let ours = holder == self.identity;
                if !ours && !holder.is_empty() && seen.at.elapsed() < self.times.lease {
                    return Turn::Theirs(holder);
                }
                let params = PostParams::default();
                // Against the version that was read: of two who find it free one wins.
                let lease = self.lease(Some(&lease));
                tokio::time::timeout(self.times.request, self.api.replace(LEASE, &params, &lease)).await
            }
        };
        match written {
            Ok(Ok(_)) => Turn::Ours(before + self.times.hold),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease cannot be written");
                Turn::Unclear
            }
            Err(_) => Turn::Unclear,
        }
    }

    /// The lease with us as its holder.
    fn lease(&self, found: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let same = old.holder_identity.as_deref() == Some(&self.identity);
        let transitions = old.lease_transitions.unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                resource_version: found.and_then(|lease| lease.metadata.resource_version.clone()),
                ..found.map(|lease| lease.metadata.clone()).unwrap_or_default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.times.lease.as_secs().max(1)).ok(),
                acquire_time: if same { old.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(if same || found.is_none() {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease up, if it is ours. A failure only makes the next one wait.
    async fn release(&self) {
        let give_up = async {
            let Some(mut lease) = self.api.get_opt(LEASE).await? else {
                return Ok::<_, kube::Error>(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                self.api.replace(LEASE, &PostParams::default(), &lease).await?;
                tracing::info!("the lease is given up");
            }
            Ok(())
        };
        match tokio::time::timeout(self.times.request * 2, give_up).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be given up"),
            Err(_) => tracing::warn!("the lease could not be given up in time"),
        }
    }
}

#[cfg(test)]
mod tests;
