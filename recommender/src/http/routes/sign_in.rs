//! `/auth/token` and `/auth/verify`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use http::HeaderMap;
use http::header::{self, HeaderName};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::caller::Caller;
use crate::http::input::Body;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::remote::Peer;
use crate::http::tokens::TOKEN_LIFETIME;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(token))
        .routes(routes!(verify))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// The user's name.
    username: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Token {
    /// For `Authorization: Bearer`.
    token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
}

/// Sign in
///
/// Twenty times a minute from one address, ten times for one user.
#[utoipa::path(post, path = "/auth/token", operation_id = "sign_in", tag = "sign-in", request_body = Credentials, responses(
    (status = 200, description = "A token", body = Token),
    (status = 401, description = "Wrong username or password", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn token(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<([(HeaderName, &'static str); 1], Json<Token>), Problem> {
    let credentials: Credentials = body.json()?;
    if let Err(seconds) = app
        .limiter
        .sign_in(app.caller(peer, &headers), &credentials.username)
        .await
    {
        app.metrics.rate_limited.with_label_values(&["sign-in"]).inc();
        return Err(Problem::too_many_requests(seconds));
    }
    match app
        .auth
        .sign_in(&credentials.username, credentials.password)
        .await
    {
        Ok(Some(token)) => Ok((
            [(header::CACHE_CONTROL, "no-store")],
            Json(Token {
                token,
                token_type: "Bearer",
                expires_in: TOKEN_LIFETIME.as_secs(),
            }),
        )),
        // Which of the two was wrong is nobody's business.
        Ok(None) => Err(Problem::unauthorized("wrong username or password")),
        Err(e) => {
            tracing::error!(error = %e, "sign-in failed");
            Err(Problem::internal())
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Verified {
    /// Who.
    user_id: String,
    /// What else is allowed.
    scopes: Vec<String>,
    /// When the token ends, seconds since 1970.
    exp: i64,
}

/// Check a token
#[utoipa::path(get, path = "/auth/verify", operation_id = "verify_token", tag = "sign-in", security(("token" = [])), responses(
    (status = 200, description = "The token is valid", body = Verified),
))]
async fn verify(caller: Caller) -> Result<Json<Verified>, Problem> {
    let claims = caller
        .claims
        .ok_or_else(|| Problem::unauthorized("Invalid token"))?;
    Ok(Json(Verified {
        user_id: claims.user_id.clone(),
        scopes: claims.scopes.clone(),
        exp: claims.exp,
    }))
}
