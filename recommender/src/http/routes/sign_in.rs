//! `/auth/token` and `/auth/verify`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{self, HeaderName};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::http::App;
use crate::http::caller::Caller;
use crate::http::input::Body;
use crate::http::problem::Problem;
use crate::http::tokens::TOKEN_LIFETIME;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/auth/token", post(token))
        .route("/auth/verify", get(verify))
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: SecretString,
}

#[derive(Serialize)]
struct Token {
    token: String,
    token_type: &'static str,
    expires_in: u64,
}

async fn token(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<([(HeaderName, &'static str); 1], Json<Token>), Problem> {
    let credentials: Credentials = body.json()?;
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

#[derive(Serialize)]
struct Verified {
    user_id: String,
    scopes: Vec<String>,
    exp: i64,
}

async fn verify(caller: Caller) -> Result<Json<Verified>, Problem> {
    let claims = caller.0.ok_or_else(|| Problem::unauthorized("Invalid token"))?;
    Ok(Json(Verified {
        user_id: claims.user_id,
        scopes: claims.scopes,
        exp: claims.exp,
    }))
}
