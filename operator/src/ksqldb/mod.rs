//! ksqlDB: the REST client, the parts of its answers that are acted on, and what must be known of a statement's
//! text to apply it declaratively. Facts about the server are from recorded exchanges with ksqlDB 7.9.9.

mod client;
pub mod defaults;
mod error;
pub mod http;
pub mod parse;
mod protocol;
pub mod variables;

pub use client::{Credentials, KsqlClient};
pub use error::KsqlError;
pub use protocol::{Applied, Listing, Query, Source, SourceKind};
