//! `/v1/customers`: what a customer tells about themselves, and what they may ask for: everything that is known of
//! them, and that it be forgotten.

mod aliases;
mod erase;
mod export;
mod profile;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::http::App;
use crate::privacy::erasing::Means;
use crate::privacy::salts::PREFIX;

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .merge(profile::router())
        .merge(aliases::router())
        .merge(export::router())
        .merge(erase::router())
}

/// A customer's ids: the one that everything is kept under first, then its aliases, and the one that was asked with,
/// which stands in records that others write.
fn ids(app: &App, customer: &str) -> Vec<Arc<str>> {
    let own: Arc<str> = app.name(customer).into();
    let mut ids = vec![Arc::clone(&own)];
    ids.extend(app.directory.aliases(&own));
    if ids.iter().all(|id| **id != *customer) {
        ids.push(customer.into());
    }
    ids
}

/// Aliases among the ids of a customer, as they are told.
fn aliases(ids: &[Arc<str>], customer: &str) -> Vec<Arc<str>> {
    let (own, others) = ids.split_first().expect("a customer has an id");
    let others = others.iter().filter(|id| ***id != *customer);
    // Whoever asks with an alias is told whose it is; a pseudonym is no other id.
    let own = Some(own).filter(|own| ***own != *customer && !own.starts_with(PREFIX));
    own.into_iter().chain(others).cloned().collect()
}

fn means(app: &App) -> Means<'_> {
    Means {
        log: &*app.log,
        privacy: &app.privacy,
        directory: &app.directory,
        impressions: &app.impressions,
    }
}
