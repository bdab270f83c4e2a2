//! `/v1/events`: validated, appended, and answered once the log has acknowledged.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use recommendation_api::Event;
use serde::Serialize;
use serde_json::Value;

use crate::http::App;
use crate::http::caller::{Caller, EVENTS_WRITE};
use crate::http::input::Body;
use crate::http::problem::{ItemError, Problem};

/// Most events in one batch.
const MAX_BATCH: usize = 1_000;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/events", post(one))
        .route("/v1/events/batch", post(batch))
}

#[derive(Serialize)]
struct Accepted {
    event_id: String,
}

/// An event without an id gets one, so that a retry of ours or the producer's cannot count twice.
pub(super) fn with_id(mut event: Event) -> (String, Event) {
    let id = event
        .event_id
        .take()
        .unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    event.event_id = Some(id.clone());
    (id, event)
}

/// Appends one event and waits for the acknowledgement.
pub(super) async fn append(app: &App, event: &Event) -> Result<(), Problem> {
    let timer = app.metrics.append.start_timer();
    let result = app.log.append(std::slice::from_ref(event)).await;
    timer.observe_duration();
    Ok(result.into_iter().collect::<Result<(), _>>()?)
}

async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    caller.require_scope(EVENTS_WRITE)?;
    let (event_id, event) = with_id(Event::from_map(body.object()?, None)?);
    match append(&app, &event).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(Accepted { event_id }))),
        Err(problem) => Err(problem.about_event(event_id)),
    }
}

#[derive(Serialize)]
struct BatchAnswer {
    accepted: usize,
    rejected: usize,
    /// One per event, in the order sent.
    results: Vec<BatchItem>,
}

#[derive(Serialize)]
struct BatchItem {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

async fn batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<BatchAnswer>), Problem> {
    caller.require_scope(EVENTS_WRITE)?;
    let mut ids = Vec::new();
    let mut events = Vec::new();
    for item in body.items("events", MAX_BATCH)? {
        ids.push(parse(item).map(|event| {
            let (id, event) = with_id(event);
            events.push(event);
            id
        }));
    }
    let timer = app.metrics.append.start_timer();
    let mut appended = app.log.append(&events).await.into_iter();
    timer.observe_duration();
    let results: Vec<BatchItem> = ids
        .into_iter()
        .map(|id| {
            let (event_id, problem) = match id {
                Ok(id) => (Some(id), appended.next().and_then(Result::err).map(Problem::from)),
                Err(problem) => (None, Some(problem)),
            };
            BatchItem {
                status: problem
                    .as_ref()
                    .map_or(StatusCode::ACCEPTED, Problem::status)
                    .as_u16(),
                event_id,
                error: problem.as_ref().map(Problem::item),
            }
        })
        .collect();
    let accepted = results.iter().filter(|r| r.error.is_none()).count();
    let unavailable = StatusCode::SERVICE_UNAVAILABLE.as_u16();
    if accepted == 0 && results.iter().any(|r| r.status == unavailable) {
        return Err(Problem::unavailable(
            "the event log did not acknowledge any event of the batch; send it again, with the same event_ids",
            1,
        ));
    }
    let rejected = results.len() - accepted;
    Ok((
        StatusCode::ACCEPTED,
        Json(BatchAnswer {
            accepted,
            rejected,
            results,
        }),
    ))
}

fn parse(item: Value) -> Result<Event, Problem> {
    match item {
        Value::Object(map) => Ok(Event::from_map(map, None)?),
        _ => Err(Problem::bad_request("an event must be a JSON object")),
    }
}
