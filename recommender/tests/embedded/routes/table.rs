//! Which answer each kind of caller gets by each route.

use serde_json::{Value, json};

use crate::support::event;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum As {
    Nobody,
    /// A publishable key.
    Key,
    /// A key that nobody has.
    WrongKey,
    /// The customer ann.
    Ann,
    /// The customer bob.
    Bob,
    /// A program with every scope.
    Program,
    /// A token that nobody signed.
    Forged,
}

use self::As::{Ann, Bob, Forged, Key, Nobody, Program, WrongKey};

pub(super) struct Row {
    pub method: &'static str,
    /// As in the document.
    pub route: &'static str,
    /// As it is asked.
    pub path: &'static str,
    pub body: Option<Value>,
    pub expected: &'static [(As, u16)],
}

fn row(
    method: &'static str,
    route: &'static str,
    path: &'static str,
    body: Option<Value>,
    expected: &'static [(As, u16)],
) -> Row {
    Row {
        method,
        route,
        path,
        body,
        expected,
    }
}

const OPEN: &[(As, u16)] = &[
    (Nobody, 200),
    (Key, 200),
    (Ann, 200),
    (Program, 200),
    (Forged, 200),
];
/// What is not personal, where there are publishable keys.
const PUBLIC: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 200),
    (WrongKey, 401),
    (Ann, 200),
    (Program, 200),
    (Forged, 401),
];
const UNKNOWN: &[(As, u16)] = &[(Nobody, 401), (Key, 404), (Forged, 401)];
const OF_ANN: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 401),
    (Ann, 200),
    (Bob, 403),
    (Program, 200),
    (Forged, 401),
];
const WRITTEN_OF_ANN: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 401),
    (Ann, 202),
    (Bob, 403),
    (Program, 202),
    (Forged, 401),
];
const PROGRAMS: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 401),
    (Ann, 403),
    (Program, 202),
    (Forged, 401),
];
const EVENTS: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 400),
    (WrongKey, 401),
    (Ann, 403),
    (Program, 202),
    (Forged, 401),
];

/// A batch is answered item by item: that of a key is taken, and its event refused.
const PROGRAMS_AND_KEYS: &[(As, u16)] = &[
    (Nobody, 401),
    (Key, 202),
    (Ann, 403),
    (Program, 202),
    (Forged, 401),
];

pub(super) fn table() -> Vec<Row> {
    let one = || Some(event("ann", "cup", "view"));
    let mail = || Some(json!({"email": "ann@example.com", "subject": "Order", "message": "Where is it?"}));
    vec![
        row(
            "GET",
            "/v1/recommendations/{customer_id}",
            "/v1/recommendations/ann",
            None,
            OF_ANN,
        ),
        row(
            "GET",
            "/v1/recommendations/{customer_id}",
            "/v1/recommendations/ann?limit=5&algorithm=ItemKnn&placement=home&category=kitchen&exclude=a,b&diversity=0.5&explain=true",
            None,
            &[(Ann, 200)],
        ),
        row(
            "GET",
            "/v1/recommendations/{customer_id}",
            "/v1/recommendations/ann?limit=0",
            None,
            &[(Ann, 400), (Nobody, 401)],
        ),
        row(
            "POST",
            "/v1/recommendations",
            "/v1/recommendations",
            Some(json!({"recent": ["cup"]})),
            PUBLIC,
        ),
        row(
            "POST",
            "/v1/recommendations",
            "/v1/recommendations",
            Some(json!({"limit": 1000})),
            &[(Key, 400)],
        ),
        row("GET", "/v1/trending", "/v1/trending?limit=3", None, PUBLIC),
        row("GET", "/v1/trending", "/v1/trending?limt=3", None, &[(Key, 400)]),
        row(
            "GET",
            "/v1/products/{product_id}",
            "/v1/products/cup",
            None,
            PUBLIC,
        ),
        row(
            "GET",
            "/v1/products/{product_id}",
            "/v1/products/nothing",
            None,
            UNKNOWN,
        ),
        row(
            "PUT",
            "/v1/products/{product_id}",
            "/v1/products/cup",
            Some(json!({"title": "Cup"})),
            PROGRAMS,
        ),
        row(
            "PUT",
            "/v1/products/{product_id}",
            "/v1/products/batch",
            Some(json!({"title": "Batch"})),
            PROGRAMS,
        ),
        row(
            "PUT",
            "/v1/products/{product_id}",
            "/v1/products/cup",
            Some(json!({"price": -1})),
            &[(Program, 400)],
        ),
        row(
            "POST",
            "/v1/products/batch",
            "/v1/products/batch",
            Some(json!({"products": [{"product_id": "mug"}]})),
            PROGRAMS,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/similar",
            "/v1/products/cup/similar",
            None,
            PUBLIC,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/similar",
            "/v1/products/nothing/similar",
            None,
            UNKNOWN,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/bought-together",
            "/v1/products/cup/bought-together",
            None,
            PUBLIC,
        ),
        row(
            "GET",
            "/v1/products/{product_id}/bought-together",
            "/v1/products/nothing/bought-together",
            None,
            UNKNOWN,
        ),
        row("POST", "/v1/events", "/v1/events", one(), EVENTS),
        row(
            "POST",
            "/v1/events",
            "/v1/events",
            Some(json!({"event_type": "view", "product_id": "cup", "session_id": "s1"})),
            &[(Key, 202), (Program, 400), (Nobody, 401)],
        ),
        row(
            "POST",
            "/v1/events/batch",
            "/v1/events/batch",
            Some(json!([event("ann", "cup", "view")])),
            PROGRAMS_AND_KEYS,
        ),
        row(
            "PUT",
            "/v1/customers/{customer_id}/profile",
            "/v1/customers/ann/profile",
            Some(json!({"email": "ann@example.com", "attributes": {"skin": "dry"}, "consent": true})),
            WRITTEN_OF_ANN,
        ),
        row(
            "PUT",
            "/v1/customers/{customer_id}/profile",
            "/v1/customers/ann/profile",
            Some(json!({"email": "nobody"})),
            &[(Ann, 400)],
        ),
        row(
            "GET",
            "/v1/customers/{customer_id}",
            "/v1/customers/ann",
            None,
            OF_ANN,
        ),
        row(
            "POST",
            "/v1/customers/{customer_id}/aliases",
            "/v1/customers/ann/aliases",
            Some(json!({"session_id": "visit-1"})),
            WRITTEN_OF_ANN,
        ),
        row(
            "POST",
            "/v1/customers/{customer_id}/aliases",
            "/v1/customers/ann/aliases",
            Some(json!({"alias": "old-ann"})),
            &[(Ann, 403), (Program, 202)],
        ),
        row(
            "POST",
            "/v1/customers/{customer_id}/aliases",
            "/v1/customers/ann/aliases",
            Some(json!({})),
            &[(Ann, 400)],
        ),
        row(
            "DELETE",
            "/v1/customers/{customer_id}",
            "/v1/customers/ann",
            None,
            WRITTEN_OF_ANN,
        ),
        row(
            "POST",
            "/webhook",
            "/webhook",
            Some(json!({"event": "click", "customer_id": "ann", "product_id": "cup"})),
            OPEN,
        ),
        row(
            "POST",
            "/webhook",
            "/webhook",
            Some(json!({"event": "click"})),
            &[(Nobody, 400)],
        ),
        row("POST", "/gmail-webhook", "/gmail-webhook", mail(), OPEN),
        row(
            "POST",
            "/gmail-webhook",
            "/gmail-webhook",
            Some(json!({"email": "x"})),
            &[(Nobody, 400)],
        ),
        row(
            "POST",
            "/gmail-webhook",
            "/gmail-webhook",
            Some(json!({"message": {"data": "e30="}, "subscription": "s"})),
            &[(Nobody, 401), (Forged, 401)],
        ),
        row(
            "GET",
            "/api/resource",
            "/api/resource",
            None,
            &[
                (Nobody, 200),
                (Key, 200),
                (Ann, 200),
                (Bob, 200),
                (Forged, 200),
                (Program, 429),
            ],
        ),
        row(
            "POST",
            "/auth/token",
            "/auth/token",
            Some(json!({"username": "ann", "password": "wrong"})),
            &[(Nobody, 401)],
        ),
        row(
            "POST",
            "/auth/token",
            "/auth/token",
            Some(json!({"username": 7})),
            &[(Nobody, 400)],
        ),
        row(
            "GET",
            "/auth/verify",
            "/auth/verify",
            None,
            &[
                (Nobody, 401),
                (Key, 401),
                (Ann, 200),
                (Program, 200),
                (Forged, 401),
            ],
        ),
        row(
            "GET",
            "/v1/insights",
            "/v1/insights?days=1",
            None,
            &[
                (Nobody, 401),
                (Key, 401),
                (Ann, 403),
                (Program, 200),
                (Forged, 401),
            ],
        ),
        row("GET", "/v1/snippet.js", "/v1/snippet.js", None, OPEN),
        row("GET", "/openapi.json", "/openapi.json", None, OPEN),
        row("GET", "/docs", "/docs", None, OPEN),
    ]
}
