//! Events: what a person reads under `kubectl describe`. Published on transitions only.

use kube::runtime::events::{Event, EventType, Recorder as KubeRecorder, Reporter};
use kube::{Client, Resource as _};
use recommendation_api::names::FIELD_MANAGER;
use recommendation_api::pipeline::RecommendationPipeline;

use crate::deadline;

/// The API server takes no longer notes.
const LONGEST_NOTE: usize = 1000;

/// One recorder for the whole process: it folds repeated events into series.
#[derive(Clone)]
pub struct Recorder(KubeRecorder);

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// It needs attention.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

impl Recorder {
    /// A recorder that speaks as the operator. `instance`: the pod's name.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        Self(KubeRecorder::new(
            client,
            Reporter {
                controller: FIELD_MANAGER.to_owned(),
                instance,
            },
        ))
    }

    /// Publishes notes about a pipeline. A failure is logged only: in a terminating namespace there are no events.
    pub async fn publish(&self, pipeline: &RecommendationPipeline, notes: &[Note]) {
        let reference = pipeline.object_ref(&());
        for note in notes {
            let event = Event {
                type_: if note.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: note.reason.clone(),
                note: Some(note.message.chars().take(LONGEST_NOTE).collect()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            match deadline::within(deadline::KUBERNETES, self.0.publish(&event, &reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot publish an event"),
                Err(error) => tracing::debug!(%error, "cannot publish an event"),
            }
        }
    }
}
