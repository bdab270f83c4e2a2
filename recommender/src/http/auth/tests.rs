use std::sync::Mutex;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;

use super::*;
use crate::clock::now_ms;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn auth(dir: &Path, config: &AuthConfig) -> Auth {
    std::fs::write(dir.join("key"), KEY).unwrap();
    Auth::new(config, dir.join("key"), dir).unwrap()
}

fn token(key: &str, issuer: &str, lifetime: u64) -> String {
    mint(
        &SecretString::from(key),
        "17850",
        &[],
        issuer,
        Duration::from_secs(lifetime),
    )
    .unwrap()
}

fn detail(problem: &Problem) -> String {
    serde_json::to_value(problem.item()).unwrap()["detail"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn tokens_of_strangers_and_expired_ones_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let auth = auth(dir.path(), &AuthConfig::default());
    assert_eq!(auth.check_own(&token(KEY, "", 60)).unwrap().user_id, "17850");
    assert_eq!(
        detail(
            &auth
                .check_own(&token("another key of good length", "", 60))
                .unwrap_err()
        ),
        "Invalid token"
    );
    let claims = Claims {
        user_id: "c".into(),
        scopes: vec![],
        iss: None,
        iat: 0,
        exp: now_ms() / 1000 - 1,
    };
    let old = jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(KEY.as_bytes()),
    )
    .unwrap();
    assert_eq!(detail(&auth.check_own(&old).unwrap_err()), "Token expired");
}

#[test]
fn a_token_without_signature_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let auth = auth(dir.path(), &AuthConfig::default());
    let good = token(KEY, "", 60);
    let body = good.split('.').nth(1).unwrap();
    // {"alg":"none"}
    assert!(auth.check_own(&format!("eyJhbGciOiJub25lIn0.{body}.")).is_err());
    assert!(auth.check_own(&good[..good.len() - 2]).is_err());
}

#[test]
fn the_issuer_is_checked_where_one_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let auth = auth(
        dir.path(),
        &AuthConfig {
            issuer: "shop".into(),
            ..AuthConfig::default()
        },
    );
    assert!(auth.check_own(&token(KEY, "shop", 60)).is_ok());
    assert!(auth.check_own(&token(KEY, "other", 60)).is_err());
    assert!(auth.check_own(&token(KEY, "", 60)).is_err());
}

#[test]
fn a_rotated_key_signs_and_the_previous_one_is_still_accepted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("previous"), "the previous key of good length").unwrap();
    let config = AuthConfig {
        previous_jwt_secret_file: Some("previous".into()),
        ..AuthConfig::default()
    };
    let auth = auth(dir.path(), &config);
    assert!(
        auth.check_own(&token("the previous key of good length", "", 60))
            .is_ok()
    );
    std::fs::write(dir.path().join("previous"), KEY).unwrap();
    std::fs::write(dir.path().join("key"), "a new key that is long enough").unwrap();
    auth.reload();
    assert!(
        auth.check_own(&token("a new key that is long enough", "", 60))
            .is_ok()
    );
    assert!(auth.check_own(&token(KEY, "", 60)).is_ok());
    assert!(
        auth.check_own(&token("the previous key of good length", "", 60))
            .is_err()
    );
}

/// As a request is checked, twice: the second time it was checked lately.
async fn user(auth: &Auth, token: &str) -> Result<String, String> {
    let first = auth.verify(token).await;
    let again = auth.verify(token).await;
    let told = |result: Result<Arc<Claims>, Problem>| {
        let user = result.map(|claims| claims.user_id.clone());
        user.map_err(|problem| detail(&problem))
    };
    let first = told(first);
    assert_eq!(first, told(again));
    first
}

#[tokio::test]
async fn a_token_that_was_checked_ends_at_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let auth = auth(dir.path(), &AuthConfig::default());
    let token = token(KEY, "", 1);
    assert_eq!(user(&auth, &token).await, Ok("17850".to_owned()));
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(user(&auth, &token).await, Err("Token expired".to_owned()));
}

#[tokio::test]
async fn a_token_that_was_checked_does_not_outlive_the_rotation_that_drops_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let auth = auth(dir.path(), &AuthConfig::default());
    let old = token(KEY, "", 60);
    assert!(user(&auth, &old).await.is_ok());
    auth.reload();
    assert!(user(&auth, &old).await.is_ok(), "nothing has changed");
    let other = "a new key that is long enough";
    std::fs::write(dir.path().join("key"), other).unwrap();
    auth.reload();
    assert_eq!(user(&auth, &old).await, Err("Invalid token".to_owned()));
    assert!(user(&auth, &token(other, "", 60)).await.is_ok());
}

/// A key set that the test can change, and its address.
async fn key_set(keys: Vec<Jwk>) -> (String, Arc<Mutex<JwkSet>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let set = Arc::new(Mutex::new(JwkSet { keys }));
    let served = Arc::clone(&set);
    let route = axum::routing::get(move || async move { axum::Json(served.lock().unwrap().clone()) });
    let router = axum::Router::new().route("/keys", route);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, set)
}

#[tokio::test]
async fn a_provider_may_sign_with_es256_until_its_key_is_taken_away() {
    let key = EncodingKey::from_ec_der(include_bytes!("../../../tests/data/ec.der"));
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("ec".into());
    let mut other = jwk.clone();
    other.common.key_id = Some("other".into());
    let (jwks_url, set) = key_set(vec![jwk]).await;
    let dir = tempfile::tempdir().unwrap();
    let config = AuthConfig {
        jwks_url,
        issuer: "https://id.example".into(),
        ..AuthConfig::default()
    };
    let auth = auth(dir.path(), &config);
    let header = Header {
        kid: Some("ec".into()),
        ..Header::new(Algorithm::ES256)
    };
    let claims = |exp: i64| serde_json::json!({"sub": "ann", "iss": "https://id.example", "exp": exp});
    let sign = |header: &Header, exp: i64| jsonwebtoken::encode(header, &claims(exp), &key).unwrap();
    let now = now_ms() / 1000;
    let good = sign(&header, now + 60);
    assert_eq!(user(&auth, &good).await, Ok("ann".to_owned()));
    assert_eq!(
        user(&auth, &sign(&header, now - 60)).await,
        Err("Token expired".to_owned())
    );
    let (body, signature) = good.rsplit_once('.').unwrap();
    let changed: String = signature.chars().rev().collect();
    assert_eq!(
        user(&auth, &format!("{body}.{changed}")).await,
        Err("Invalid token".to_owned())
    );
    // Its token lives on, the key that signed it does not.
    set.lock().unwrap().keys = vec![other];
    auth.jwks.as_ref().unwrap().read_again().await;
    assert_eq!(user(&auth, &good).await, Err("Invalid token".to_owned()));
}

#[tokio::test]
async fn what_is_not_valid_is_never_kept() {
    let dir = tempfile::tempdir().unwrap();
    let auth = auth(dir.path(), &AuthConfig::default());
    let stranger = token("another key of good length", "", 60);
    assert_eq!(user(&auth, &stranger).await, Err("Invalid token".to_owned()));
    // The same bytes once its key is accepted: nothing was remembered of the refusal either.
    std::fs::write(dir.path().join("key"), "another key of good length").unwrap();
    auth.reload();
    assert!(user(&auth, &stranger).await.is_ok());
}

#[test]
fn a_key_that_can_be_guessed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "secret").unwrap();
    assert!(matches!(
        read_key(&dir.path().join("key")),
        Err(AuthError::WeakKey(_))
    ));
}

proptest! {
    #[test]
    fn no_text_is_a_valid_token_or_makes_it_panic(text in "(\\PC{0,120}|[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60})") {
        let key = DecodingKey::from_secret(KEY.as_bytes());
        let _ = jsonwebtoken::decode_header(&text);
        prop_assert!(jsonwebtoken::decode::<Claims>(&text, &key, &Validation::new(Algorithm::HS256)).is_err());
    }

    #[test]
    fn no_change_of_a_valid_token_leaves_it_valid_or_makes_it_panic(at in any::<prop::sample::Index>(), byte in b' '..b'~') {
        let key = DecodingKey::from_secret(KEY.as_bytes());
        let good = token(KEY, "", 60);
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        let _ = jsonwebtoken::decode_header(&changed);
        prop_assert!(jsonwebtoken::decode::<Claims>(&changed, &key, &Validation::new(Algorithm::HS256)).is_err());
    }
}
