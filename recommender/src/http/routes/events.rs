//! `/v1/events`: validated, appended, and answered once the log has acknowledged.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use recommendation_api::Event;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::caller::Caller;
use crate::http::input::Body;
use crate::http::problem::{ItemError, Problem, ProblemBody};
use crate::http::schemas::{EventBody, EventsBody};

/// Most events in one batch.
const MAX_BATCH: usize = 1_000;
/// A body of so many bytes takes milliseconds to read: not on a thread that other requests wait for.
const LARGE_BODY: usize = 16 * 1024;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(one)).routes(routes!(batch))
}

#[derive(Serialize, ToSchema)]
struct Accepted {
    /// The event's own, or the one that was made for it.
    event_id: String,
}

/// An event without an id gets one, so that a retry of ours or the producer's cannot count twice.
pub(super) fn with_id(mut event: Event) -> (String, Event) {
    let id = event
        .event_id
        .take()
        .unwrap_or_else(|| crate::ids::new().to_string());
    event.event_id = Some(id.clone());
    (id, event)
}

/// Appends events of one request and waits for the acknowledgements.
pub(super) async fn append(app: &App, events: &[Event]) -> Result<(), Problem> {
    let timer = app.metrics.append.start_timer();
    let result = app.append(events).await;
    timer.observe_duration();
    Ok(result.into_iter().collect::<Result<(), _>>()?)
}

/// Write an event
///
/// Answered once the log has acknowledged it. After 503 it may have been written all the same: send it again with the
/// `event_id` of the answer, and it counts once.
#[utoipa::path(post, path = "/v1/events", operation_id = "write_event", tag = "events",
    security(("token" = []), ("publishable_key" = []), ("publishable_key_parameter" = [])),
    request_body = EventBody,
    responses(
        (status = 202, description = "Acknowledged by the log", body = Accepted),
        (status = 403, description = "The token has no scope events:write, or the key is bound to other origins",
            body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    caller.require_events()?;
    let (event_id, event) = with_id(caller.admit_event(body.object()?)?);
    match append(&app, std::slice::from_ref(&event)).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(Accepted { event_id }))),
        Err(problem) => Err(problem.about_event(event_id)),
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventResults)]
struct BatchAnswer {
    accepted: usize,
    rejected: usize,
    /// One per event, in the order sent.
    results: Vec<BatchItem>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventResult)]
struct BatchItem {
    /// As if it had been sent alone.
    status: u16,
    /// The id used; send the event again with it where `status` is 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

/// Write many events
///
/// Each is accepted or refused by itself. 503 means that none was acknowledged; `retry_ids` are the ids to send the
/// batch again with, for some may have been written all the same.
#[utoipa::path(post, path = "/v1/events/batch", operation_id = "write_events", tag = "events",
    security(("token" = []), ("publishable_key" = []), ("publishable_key_parameter" = [])),
    request_body = EventsBody,
    responses(
        (status = 202, description = "What became of each", body = BatchAnswer),
        (status = 403, description = "The token has no scope events:write, or the key is bound to other origins",
            body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<BatchAnswer>), Problem> {
    caller.require_events()?;
    let Batch { ids, events } = if body.0.len() < LARGE_BODY {
        parse_all(&caller, &body)?
    } else {
        let parsing = tokio::task::spawn_blocking(move || parse_all(&caller, &body));
        parsing.await.map_err(|e| {
            tracing::error!(error = %e, "a batch of events was not read");
            Problem::internal()
        })??
    };
    let timer = app.metrics.append.start_timer();
    let mut appended = app.append(&events).await.into_iter();
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
        let refused = Problem::unavailable(
            "the event log did not acknowledge any event of the batch; send it again, each event with its id of retry_ids",
            1,
        );
        return Err(refused.about_batch(results.into_iter().map(|r| r.event_id).collect()));
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

/// A batch: each event's id or what is wrong with it, and those that are valid.
struct Batch {
    ids: Vec<Result<String, Problem>>,
    events: Vec<Event>,
}

fn parse_all(caller: &Caller, body: &Body) -> Result<Batch, Problem> {
    let (mut ids, mut events) = (Vec::new(), Vec::new());
    for item in body.items("events", MAX_BATCH)? {
        ids.push(parse(caller, item).map(|event| {
            let (id, event) = with_id(event);
            events.push(event);
            id
        }));
    }
    Ok(Batch { ids, events })
}

fn parse(caller: &Caller, item: Value) -> Result<Event, Problem> {
    match item {
        Value::Object(map) => caller.admit_event(map),
        _ => Err(Problem::bad_request("an event must be a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use recommendation_api::EventType;
    use recommendation_api::event::EventRef;
    use serde_json::json;

    use super::*;

    /// Mostly those that events have, in both spellings.
    fn field_name() -> impl Strategy<Value = String> {
        let ours = prop::sample::select(vec![
            "customer_id",
            "product_id",
            "event_type",
            "event_id",
            "timestamp",
            "session_id",
            "quantity",
            "price",
            "recommendation_id",
            "properties",
            "customer_id",
            "product_id",
            "event_type",
        ]);
        prop_oneof![
            6 => ours.clone().prop_map(str::to_owned),
            2 => ours.prop_map(str::to_uppercase),
            1 => "\\PC{0,8}",
        ]
    }

    /// JSON of some depth, as text.
    fn json_value(depth: u32) -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            4 => "[ -~]{0,12}".prop_map(|text| json!(text).to_string()),
            1 => "\\PC{0,300}".prop_map(|text| json!(text).to_string()),
            2 => prop::sample::select(vec![
                "null", "true", "-1", "0", "2.50", "1e3", "1e999", "1700000000000", "\"view\"", "\"order\"",
                "\"2026-01-31T12:00:00Z\"", "\" \"", "\"\\u0001\"", "\"\\ud800\"", "18446744073709551616",
            ]).prop_map(str::to_owned),
            1 => any::<f64>().prop_map(|number| json!(number).to_string()),
        ];
        leaf.prop_recursive(depth, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(("[a-z]{0,4}", inner), 0..4).prop_map(|fields| {
                    let fields: Vec<String> = fields
                        .iter()
                        .map(|(name, value)| format!("\"{name}\":{value}"))
                        .collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_an_event_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::parse(&bytes, None);
        }

        #[test]
        fn no_event_panics_and_what_is_accepted_is_read_back_the_same(
            texts in prop::collection::vec("\\PC{0,30}", 4), number in any::<f64>(), time in any::<i64>(), at in "[0-9TZ:+-]{0,30}",
        ) {
            for timestamp in [json!(time), json!(number), json!(at)] {
                let body = json!({"customer_id": texts[0], "product_id": texts[1], "event_type": texts[2],
                    "session_id": texts[3], "quantity": number, "price": at, "timestamp": timestamp});
                if let Ok(event) = Event::parse(body.to_string().as_bytes(), None) {
                    let mut back = Event::parse(&event.to_json(), None)?;
                    // serde_json reads some numbers of 17 digits off by one in the last place.
                    for (read, written) in [(&mut back.quantity, event.quantity), (&mut back.price, event.price)] {
                        if let (Some(read), Some(written)) = (read, written)
                            && (*read - written).abs() <= written.abs() * f64::EPSILON
                        {
                            *read = written;
                        }
                    }
                    prop_assert_eq!(back, event);
                }
            }
        }

        /// The log is read by the one, requests and dead letters by the other.
        #[test]
        fn both_ways_of_reading_an_event_accept_and_refuse_the_same(
            fields in prop::collection::vec((field_name(), json_value(3)), 0..12), cut in any::<prop::sample::Index>(), damage in any::<bool>(),
        ) {
            let inner: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
            let mut text = format!("{{{}}}", inner.join(","));
            if damage {
                let at = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect::<Vec<_>>();
                text.truncate(at[cut.index(at.len())]);
            }
            for default_type in [None, Some(EventType::Purchase)] {
                let borrowed = EventRef::parse(text.as_bytes(), default_type.as_ref());
                match (borrowed, Event::parse(text.as_bytes(), default_type)) {
                    (Ok(borrowed), Ok(event)) => {
                        prop_assert_eq!(borrowed.event_id.as_deref(), event.event_id.as_deref());
                        prop_assert_eq!(&*borrowed.customer_id, &*event.customer_id);
                        prop_assert_eq!(borrowed.product_id.as_deref(), event.product_id.as_deref());
                        prop_assert_eq!(borrowed.event_type, event.event_type);
                        prop_assert_eq!(borrowed.timestamp_ms, event.timestamp_ms);
                        prop_assert_eq!((borrowed.quantity, borrowed.price), (event.quantity, event.price));
                        prop_assert_eq!(borrowed.session_id.as_deref(), event.session_id.as_deref());
                        prop_assert_eq!(borrowed.recommendation_id.as_deref(), event.recommendation_id.as_deref());
                    }
                    (Err(error), Err(same)) => prop_assert_eq!(error, same),
                    (borrowed, event) => prop_assert!(false, "{}: {:?} and {:?}", text, borrowed, event),
                }
            }
        }

        #[test]
        fn both_ways_of_reading_refuse_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}\":,0-9eE.+a-z \\\\-]{0,40}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                prop_assert_eq!(EventRef::parse(bytes, None).err(), Event::parse(bytes, None).err());
            }
        }
    }
}
