//! The model's part of status: the worst replica counts.

use recommendation_api::conditions::reasons;
use recommendation_api::pipeline::status::ModelStatus;
use recommendation_api::report::{Phase, StatusReport};

use super::Finding;
use crate::dereference::Replicas;

pub(super) fn ready(replicas: &Replicas, max_lag_seconds: u32) -> Finding {
    // A replica that is not ready yet counts only while no other serves: a rollout is no loss.
    let serving = replicas.pods.iter().any(|pod| pod.ready);
    let counted = || replicas.pods.iter().filter(|pod| pod.ready || !serving);
    if counted().next().is_none() {
        return Finding::unknown(
            reasons::STATUS_UNREACHABLE,
            "there is no running pod to ask for its status",
        );
    }
    let reports: Vec<&StatusReport> = counted().filter_map(|pod| pod.report.as_ref()).collect();
    if reports.len() < counted().count() {
        return Finding::unknown(
            reasons::STATUS_UNREACHABLE,
            "a pod does not answer /status on its internal port",
        );
    }
    if reports.iter().any(|report| report.phase == Phase::Loading) {
        return Finding::no(reasons::LOADING, "the log is being read for the first time");
    }
    if reports
        .iter()
        .any(|report| report.lag_seconds > f64::from(max_lag_seconds))
    {
        return Finding::no(
            reasons::STALE,
            "the model is further behind the log than spec.recommender.quality.maxLagSeconds",
        );
    }
    Finding::yes(reasons::SERVING, "the model serves and keeps up with the log")
}

/// Whether customers behave otherwise than before, as the worst replica has it; `None` while none says so.
pub(super) fn drifted(replicas: &Replicas) -> Option<Finding> {
    let reports = replicas.pods.iter().filter_map(|pod| pod.report.as_ref());
    let mut drifts = reports.filter_map(|report| report.drift.as_ref());
    drifts.any(|drift| drift.drifted).then(|| {
        Finding::yes(
            reasons::DRIFTED,
            "the last day differs from the week before it by more than spec.recommender.quality.driftThreshold: see \
             recommender_drift_psi, and what changed in the shop",
        )
    })
}

/// The figures of the replica that knows least, rounded so that they rarely change.
pub(super) fn figures(replicas: &Replicas) -> Option<ModelStatus> {
    let reports = replicas.pods.iter().filter_map(|pod| pod.report.as_ref());
    let model = &reports.min_by_key(|report| report.model.customers)?.model;
    Some(ModelStatus {
        algorithm: model.algorithm.clone(),
        version: Some(model.version.clone()).filter(|version| !version.is_empty()),
        trained_at: model.trained_at.clone(),
        products: Some(two_digits(model.products)),
        customers: Some(two_digits(model.customers)),
        hit_rate_at10: model.hit_rate_at_10.map(|rate| format!("{rate:.2}")),
    })
}

/// Rounded down to two significant digits: 4372 is 4300.
fn two_digits(n: u64) -> i64 {
    let mut scale = 1;
    while n / scale >= 100 {
        scale *= 10;
    }
    i64::try_from(n / scale * scale).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_two_digits() {
        let rounded: Vec<i64> = [0, 7, 99, 100, 4372, 1_000_000].map(two_digits).to_vec();
        assert_eq!(rounded, [0, 7, 99, 100, 4300, 1_000_000]);
    }
}
