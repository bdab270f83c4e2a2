//! A log that is read as soon as it is written, unless it is told what becomes of a write.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use recommendation_api::config::RecommenderConfig;
use recommendation_api::pipeline::serving::Pseudonymization;
use recommendation_api::records::{Ends, Product, Salt};
use recommendation_api::{Event, Impression};
use secrecy::SecretString;
use tokio::sync::Notify;

use super::salts::Salts;
use super::{Privacy, Subject};
use crate::directory::Directory;
use crate::log::{AppendError, Appended, Log, Table};

/// What becomes of a write.
pub enum Fate {
    Read,
    Fails,
    /// Nobody reads it back.
    Unread,
    /// Read, and then another replica's write of this salt.
    Undone(Subject, Vec<u8>),
    /// Another replica's salt stands first.
    Second(Vec<u8>),
    /// Read once somebody says so.
    Held(Arc<Notify>),
}

pub struct FakeLog {
    pub privacy: Privacy,
    pub directory: Directory,
    /// By order of writes.
    fates: Mutex<VecDeque<Fate>>,
    /// Tables and keys, and whether the write was to take out what stands there.
    puts: Mutex<Vec<(Table, String, bool)>>,
}

/// Who is erased, by the names under which there are profiles.
const NAMES: [&str; 4] = ["pseudonym:1", "pseudonym:2", "pseudonym:3", "pseudonym:4"];

impl FakeLog {
    /// With pseudonyms; `shared` with other replicas.
    pub fn new(shared: bool) -> Self {
        let mut config = RecommenderConfig::default();
        config.privacy.pseudonymization = Pseudonymization::PerCustomerSalt;
        Self {
            privacy: Privacy::new(&SecretString::from("key"), &config, !shared),
            directory: Directory::default(),
            fates: Mutex::default(),
            puts: Mutex::default(),
        }
    }

    /// What becomes of the next writes.
    pub fn will(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }

    pub fn salts(&self) -> &Salts {
        self.privacy.salts.as_ref().unwrap()
    }

    /// Keys of a table that were taken out, or tried to.
    pub fn taken_out(&self, table: Table) -> Vec<String> {
        self.keys(table, true)
    }

    /// Keys of a table that were written, or tried to.
    pub fn written(&self, table: Table) -> Vec<String> {
        self.keys(table, false)
    }

    fn keys(&self, table: Table, out: bool) -> Vec<String> {
        let puts = self.puts.lock().unwrap();
        let such = puts.iter().filter(|put| (put.0, put.2) == (table, out));
        such.map(|(_, key, _)| key.clone()).collect()
    }

    fn read(&self, table: Table, key: &str, value: Option<&[u8]>) {
        match table {
            Table::Salts => {
                let subject = Subject::parse(key.as_bytes()).expect("keyed by subject");
                assert!(self.salts().take(subject, value));
            }
            // As the ingest thread does.
            Table::Erasures => {
                let is_this = |name: &&str| self.privacy.subject(name).hex() == key;
                if let Some(name) = NAMES.iter().copied().find(is_this) {
                    self.directory.forget_profile(name, i64::MAX);
                }
            }
            // A table leaves no tombstone to be read.
            Table::Profiles if self.privacy.shared => {
                assert!(value.is_none());
                self.directory.set_profile(key, None);
            }
            Table::Profiles | Table::Impressions => {}
        }
    }
}

/// A record of the salts topic.
pub fn salt(salt: u8, pseudonym: &str) -> Vec<u8> {
    let salt = hex::encode([salt; 32]);
    serde_json::to_vec(&Salt {
        salt,
        pseudonym: pseudonym.to_owned(),
    })
    .unwrap()
}

impl Log for FakeLog {
    fn append<'a>(&'a self, _: &'a [Event]) -> BoxFuture<'a, Appended> {
        Box::pin(async { Vec::new() })
    }

    fn put_products<'a>(&'a self, _: &'a [Product]) -> BoxFuture<'a, Appended> {
        Box::pin(async { Vec::new() })
    }

    fn put_impressions<'a>(&'a self, _: &'a [Impression]) -> BoxFuture<'a, Appended> {
        Box::pin(async { Vec::new() })
    }

    fn put<'a>(
        &'a self,
        table: Table,
        key: &'a str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        // Of these nobody is told a fate.
        let fate = match table {
            Table::Impressions => None,
            _ => self.fates.lock().unwrap().pop_front(),
        };
        self.puts
            .lock()
            .unwrap()
            .push((table, key.to_owned(), value.is_none()));
        Box::pin(async move {
            match fate.unwrap_or(Fate::Read) {
                Fate::Fails => return Err(AppendError::Unavailable("cut".into())),
                Fate::Unread => {}
                Fate::Read => self.read(table, key, value.as_deref()),
                Fate::Undone(other, salt) => {
                    self.read(table, key, value.as_deref());
                    assert!(self.salts().take(other, Some(&salt)));
                }
                Fate::Second(first) => self.read(table, key, Some(&first)),
                Fate::Held(until) => {
                    until.notified().await;
                    self.read(table, key, value.as_deref());
                }
            }
            Ok(())
        })
    }

    fn ends(&self) -> BoxFuture<'_, Result<Ends, AppendError>> {
        Box::pin(async { Ok(Ends::new()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
