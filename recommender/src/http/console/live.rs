//! Live events as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), to those who
//! watch and only while they do. A message a fifth of a second at most, of so many events at most; what is beyond is
//! counted, not sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use recommendation_api::event::rfc3339;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::http::App;
use crate::http::caller::{CUSTOMERS_READ, Caller};
use crate::http::problem::Problem;
use crate::watching::{MAX_WATCHERS, Seen, Watcher};

/// Events of one message at most.
const MOST: usize = 40;
/// Least time between two messages.
const PAUSE: Duration = Duration::from_millis(200);
/// A message at least this often, so that both ends know that the other is there.
const QUIET: Duration = Duration::from_secs(1);
/// A stream ends by itself, before its connection is closed for its age; the page opens the next.
const LASTS: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Message {
    /// Oldest first.
    events: Vec<LiveEvent>,
    /// Further events since the last message.
    missed: u64,
    /// Events learned in all: what a rate is taken from.
    learned: u64,
}

#[derive(Serialize)]
struct LiveEvent {
    customer_id: String,
    event_type: &'static str,
    product_id: String,
    title: String,
    /// When it happened.
    time: String,
    /// From the log to the model, milliseconds.
    took_ms: i64,
}

/// Events as they are learned.
pub(super) async fn events(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    caller.require_scope(CUSTOMERS_READ)?;
    let Some(watcher) = app.watching.watch() else {
        let detail = format!("{MAX_WATCHERS} already watch");
        return Err(Problem::unavailable(detail, 5));
    };
    let end = Instant::now() + LASTS;
    let messages = stream::unfold((app, watcher, None), move |(app, mut watcher, last)| async move {
        if let Some(last) = last {
            sleep(PAUSE.saturating_sub(Instant::now().duration_since(last))).await;
        }
        if Instant::now() >= end || app.draining.is_cancelled() {
            return None;
        }
        let message = next(&app, &mut watcher).await;
        let event = Event::default()
            .json_data(&message)
            .unwrap_or_else(|_| Event::default().comment("not written"));
        let state = (app, watcher, Some(Instant::now()));
        Some((Ok::<_, Infallible>(event), state))
    });
    Ok(Sse::new(messages).into_response())
}

async fn next(app: &App, watcher: &mut Watcher) -> Message {
    // Nobody's events are lost when time is up: `next` takes them only in its last step.
    let (mut seen, mut missed) = timeout(QUIET, watcher.next(usize::MAX)).await.unwrap_or_default();
    let beyond = seen.len().saturating_sub(MOST);
    missed += beyond as u64;
    seen.drain(..beyond);
    Message {
        events: seen.iter().map(|seen| told(app, seen)).collect(),
        missed,
        learned: app.progress.load().events,
    }
}

fn told(app: &App, seen: &Seen) -> LiveEvent {
    let title = app.reader.product(&seen.product).and_then(|meta| meta.title);
    LiveEvent {
        customer_id: seen.customer.to_string(),
        event_type: seen.kind,
        title: title.unwrap_or_else(|| seen.product.to_string()),
        product_id: seen.product.to_string(),
        time: rfc3339(seen.time_ms),
        took_ms: (seen.learned_ms - seen.produced_ms).max(0),
    }
}
