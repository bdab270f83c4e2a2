//! Errors as RFC 9457 has them. `detail` is for people and never tells the cause of an internal error;
//! `field` names what is at fault; `request_id` finds the log line.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use recommendation_api::EventError;
use serde::Serialize;

use crate::log::AppendError;

/// A request's id, as its header carries it. Cheap to clone.
#[derive(Clone)]
pub(super) struct RequestId(pub HeaderValue);

impl RequestId {
    /// As text; it is made of harmless characters only.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

tokio::task_local! {
    /// Id of the request that this task answers; set by [`super::observe`].
    pub(super) static REQUEST_ID: RequestId;
}

/// An error answer.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    retry_after: Option<u64>,
    event_id: Option<String>,
    retry_ids: Vec<Option<String>>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
            retry_after: None,
            event_id: None,
            retry_ids: Vec::new(),
        }
    }

    /// With the id to send the event again with: it may have been written all the same.
    #[must_use]
    pub fn about_event(self, event_id: String) -> Self {
        Self {
            event_id: Some(event_id),
            ..self
        }
    }

    /// With the ids to send a refused batch again with, in the order of its items; none for an item that is
    /// malformed. Some of them may have been written all the same.
    #[must_use]
    pub fn about_batch(self, retry_ids: Vec<Option<String>>) -> Self {
        Self { retry_ids, ..self }
    }

    /// 400: this field is wrong.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::BAD_REQUEST, detail)
        }
    }

    /// 400 without a field: the body as a whole.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401, with a challenge.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "the route exists, but not for this method",
        )
    }

    /// 409: it was received before.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit} bytes"),
        )
    }

    /// 429: again after so many seconds.
    pub fn too_many_requests(retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests");
        Self {
            retry_after: Some(retry_after),
            ..problem
        }
    }

    /// 503: again after so many seconds.
    pub fn unavailable(detail: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// 500: the cause stands in the log only.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Something broke!")
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Detail and field, for one item of a batch.
    pub fn item(&self) -> ItemError {
        ItemError {
            detail: self.detail.clone(),
            field: self.field.clone(),
        }
    }
}

/// What is wrong with one item of a batch.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ItemError {
    /// For people.
    detail: String,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        let problem = Self::bad_request(error.to_string());
        Self {
            field: error.field().map(str::to_owned),
            ..problem
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            // What the log said is for the log file: it may name brokers.
            AppendError::Unavailable(cause) => {
                tracing::warn!(cause, "append not acknowledged");
                Self::unavailable(
                    "the event log did not acknowledge; send it again with the same event_id",
                    1,
                )
            }
            AppendError::Refused(cause) => {
                Self::bad_request(format!("the event log refuses the record: {cause}"))
            }
        }
    }
}

/// An error, as RFC 9457 has it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Always `about:blank`: the status says what kind it is.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong and what to do, for people.
    detail: String,
    /// The field or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Send the event again with this id: it may have been written all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// Send the batch again with these ids, one per item in the order sent; null where the item is malformed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retry_ids: Vec<Option<String>>,
    /// Finds the log line.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
            field: self.field,
            event_id: self.event_id,
            retry_ids: self.retry_ids,
            request_id: REQUEST_ID.try_with(|id| id.as_str().to_owned()).ok(),
        });
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
