//! The number of replicas all the while, and whose doing it was by the API server's audit log.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::super::cluster::Cluster;
use crate::demo::PIPELINE;
use crate::progress::seconds;

/// Between two looks at the number.
const TICK: Duration = Duration::from_secs(2);
/// Who decides, by its name in the audit log.
const AUTOSCALER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
/// Who must not.
const OPERATOR: &str = "system:serviceaccount:recommendation-system:recommendation-operator";

/// What was seen.
pub(super) struct Seen<'a> {
    cluster: &'a Cluster,
    begun: Instant,
    /// Each number, from the first on.
    numbers: Vec<i64>,
    /// Writes to the Deployment that the API server had logged at the beginning.
    before: usize,
    /// Patches of the Deployment by the operator that the change brought.
    of_change: usize,
}

impl<'a> Seen<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Result<Self> {
        let mut seen = Self {
            cluster,
            begun: Instant::now(),
            numbers: Vec::new(),
            before: writes(cluster)?.len(),
            of_change: 0,
        };
        seen.look()?;
        Ok(seen)
    }

    fn deployment(&self) -> Result<Value> {
        let what = format!("get deployment {PIPELINE} --show-managed-fields");
        self.cluster.place.kubectl.json(&what)
    }

    /// The Deployment; its number is noted where it is another one.
    fn look(&mut self) -> Result<Value> {
        let found = self.deployment()?;
        let declared = declared(&found);
        if self.numbers.last() != Some(&declared) {
            println!("{declared} replicas after {}", seconds(self.begun.elapsed()));
            self.numbers.push(declared);
        }
        Ok(found)
    }

    /// Looks on until `done` says so of the Deployment and its number, which it may refuse; answers the number.
    fn look_until(&mut self, limit: Duration, done: impl Fn(&Value, i64) -> Result<bool>) -> Result<i64> {
        let begun = Instant::now();
        loop {
            let found = self.look()?;
            let declared = declared(&found);
            if done(&found, declared)? && is_rolled_out(&found) {
                return Ok(declared);
            }
            ensure!(
                begun.elapsed() < limit,
                "still {declared} replicas after {}: {}",
                seconds(limit),
                found["status"]
            );
            thread::sleep(TICK);
        }
    }

    /// Looks on until there are as many as `wanted` says, all of them ready, and answers how many.
    pub(super) fn until(&mut self, wanted: impl Fn(i64) -> bool, limit: Duration) -> Result<i64> {
        let begun = Instant::now();
        let declared = self.look_until(limit, |_, declared| Ok(wanted(declared)))?;
        println!("ok: {declared} ready replicas after {}", seconds(begun.elapsed()));
        Ok(declared)
    }

    /// Changes the pipeline so that the operator applies the Deployment, and looks on while its pods are replaced: there are
    /// more than `fewest` all the while. How many there are then.
    pub(super) fn change(&mut self, fewest: i64, limit: Duration) -> Result<i64> {
        let by_operator = patches(&writes(self.cluster)?);
        self.cluster.place.kubectl.run(&format!(
            "patch recpipe {PIPELINE} --type merge -p \
             {{\"spec\":{{\"recommender\":{{\"template\":{{\"metadata\":{{\"annotations\":{{\"example.com/look\":\"again\"}}}}}}}}}}}}"
        ))?;
        let begun = Instant::now();
        let declared = self.look_until(limit, |found, declared| {
            ensure!(
                declared > fewest,
                "{declared} replicas while a change is rolled out"
            );
            let annotations = &found["spec"]["template"]["metadata"]["annotations"];
            Ok(annotations["example.com/look"] == "again")
        })?;
        self.of_change = patches(&writes(self.cluster)?) - by_operator;
        println!(
            "ok: {declared} pods replaced within {}, {} patch of the operator",
            seconds(begun.elapsed()),
            self.of_change
        );
        Ok(declared)
    }

    /// Every change of the number was the autoscaler's, the operator wrote for the change alone, and the number is not its own.
    pub(super) fn judge(&self) -> Result<()> {
        let writes = writes(self.cluster)?.split_off(self.before);
        let decided = writes.iter().filter(|write| write.user == AUTOSCALER).count();
        println!("the number: {:?}", self.numbers);
        println!(
            "writes to the Deployment: {decided} of the autoscaler, {} of the operator, {} of which the change brought",
            patches(&writes),
            self.of_change
        );
        let changes = self.numbers.len() - 1;
        ensure!(
            changes >= 2 && changes <= decided,
            "{changes} changes: {writes:?}"
        );
        ensure!(
            self.of_change > 0 && patches(&writes) == self.of_change,
            "the operator wrote beside the change: {writes:?}"
        );
        let others = |write: &&Write| write.user != AUTOSCALER && write.user != OPERATOR;
        let others: Vec<_> = writes.iter().filter(others).collect();
        ensure!(others.is_empty(), "somebody else wrote: {others:?}");
        let found = self.deployment()?;
        let fields = found["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten();
        let owners: Vec<&str> = fields
            .filter(|entry| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null())
            .filter_map(|entry| entry["manager"].as_str())
            .collect();
        println!("spec.replicas is owned by {owners:?}");
        ensure!(
            owners == ["kube-controller-manager"],
            "spec.replicas is owned by {owners:?}"
        );
        Ok(())
    }
}

/// How many replicas are declared.
fn declared(deployment: &Value) -> i64 {
    deployment["spec"]["replicas"].as_i64().unwrap_or(-1)
}

/// Whether there are as many replicas as are declared, all of them of what is declared now, and ready.
fn is_rolled_out(deployment: &Value) -> bool {
    let status = &deployment["status"];
    let fields = ["replicas", "updatedReplicas", "readyReplicas"];
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && fields
            .iter()
            .all(|field| status[*field] == deployment["spec"]["replicas"])
}

/// A write to the pipeline's Deployment.
#[derive(Debug)]
struct Write {
    user: String,
    verb: String,
}

/// Patches of the operator.
fn patches(writes: &[Write]) -> usize {
    let own = |write: &&Write| write.user == OPERATOR && write.verb == "patch";
    writes.iter().filter(own).count()
}

/// Writes to the Deployment and its scale, as the API server logged them; not those to its status, nor the number of its
/// latest ReplicaSet, which the controller of Deployments writes.
fn writes(cluster: &Cluster) -> Result<Vec<Write>> {
    let text = std::fs::read_to_string(&cluster.stack()?.audit_log)?;
    // The last line may be half there.
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let concerned = |event: &Value| {
        let object = &event["objectRef"];
        object["resource"] == "deployments"
            && object["name"] == PIPELINE
            && object["namespace"] == "default"
            && object["subresource"] != "status"
            && event["user"]["username"] != "system:serviceaccount:kube-system:deployment-controller"
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let write = |event: Value| Write {
        user: text(&event["user"]["username"]),
        verb: text(&event["verb"]),
    };
    Ok(events.filter(concerned).map(write).collect())
}
