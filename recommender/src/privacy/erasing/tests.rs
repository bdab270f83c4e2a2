use prometheus::{IntCounterVec, Opts};
use recommendation_api::records::CustomerProfile;
use tokio_util::sync::CancellationToken;

use super::super::fake_log::{FakeLog, Fate, salt};
use super::*;

/// Ann, who has a profile and was three visits before, one of which came to another; and Bob. All have pseudonyms.
struct Shop {
    log: Arc<FakeLog>,
    impressions: Arc<Impressions>,
}

/// By name, with the pseudonym, and whose alias it is.
const PEOPLE: [(&str, &str, Option<&str>); 5] = [
    ("ann", "pseudonym:1", None),
    ("session:1", "pseudonym:2", Some("pseudonym:1")),
    ("session:2", "pseudonym:3", Some("pseudonym:1")),
    ("session:3", "pseudonym:4", Some("pseudonym:2")),
    ("bob", "pseudonym:5", None),
];
const ALL: [&str; 4] = ["pseudonym:1", "pseudonym:2", "pseudonym:3", "pseudonym:4"];

impl Shop {
    fn new(shared: bool) -> Self {
        let log = Arc::new(FakeLog::new(shared));
        for (n, (name, pseudonym, whose)) in (1u8..).zip(PEOPLE) {
            let subject = log.privacy.subject(name);
            assert!(log.salts().take(subject, Some(&salt(n, pseudonym))));
            let profile = CustomerProfile {
                email: Some(format!("{name}@example.com")),
                alias_of: whose.map(str::to_owned),
                ..CustomerProfile::default()
            };
            assert!(log.directory.set_profile(pseudonym, Some(profile)));
        }
        let outcomes = IntCounterVec::new(Opts::new("a", "b"), &["outcome"]).unwrap();
        let impressions = Arc::new(Impressions::new(outcomes));
        let (running, to) = (Arc::clone(&impressions), Arc::clone(&log));
        tokio::spawn(async move { running.run(to, CancellationToken::new()).await });
        Self { log, impressions }
    }

    /// As a request asks for it.
    async fn erase(&self, customer: &str) -> Result<Erased, AppendError> {
        let means = Means {
            log: &*self.log,
            privacy: &self.log.privacy,
            directory: &self.log.directory,
            impressions: &self.impressions,
        };
        means.erase(customer).await
    }

    /// Who has a salt.
    fn salted(&self) -> Vec<&'static str> {
        let people = PEOPLE.iter().map(|(name, ..)| *name);
        people
            .filter(|name| self.log.privacy.known_as(name).is_some())
            .collect()
    }

    /// Of whose profile the log tells something.
    fn profiled(&self) -> Vec<&'static str> {
        let people = PEOPLE.iter();
        people
            .filter(|(_, pseudonym, _)| self.log.directory.has_record(pseudonym))
            .map(|(name, ..)| *name)
            .collect()
    }
}

#[tokio::test]
async fn everything_that_is_about_a_customer_goes_and_nothing_else() {
    for shared in [true, false] {
        let shop = Shop::new(shared);
        let erased = shop.erase("ann").await.unwrap();
        let ids: Vec<&str> = erased.ids.iter().map(|id| &**id).collect();
        assert_eq!(ids, [&ALL[..], &["ann"]].concat());
        assert!(erased.had_profile && erased.time_ms > 0);
        let subjects = ids.iter().map(|id| shop.log.privacy.subject(id).hex());
        assert_eq!(shop.log.written(Table::Erasures), subjects.collect::<Vec<_>>());
        assert_eq!((shop.salted(), shop.profiled()), (vec!["bob"], vec!["bob"]));
        let mut shown = shop.log.taken_out(Table::Impressions);
        shown.sort();
        assert_eq!(shown, [&["ann"], &ALL[..]].concat());
        let again = shop.erase("ann").await.unwrap();
        assert!(!again.had_profile);
        // A tombstone names whom it is about: there is no need of another.
        let profiles = ["pseudonym:4", "pseudonym:3", "pseudonym:2", "pseudonym:1"];
        assert_eq!(shop.log.taken_out(Table::Profiles), profiles);
    }
}

/// Asks for the erasure, which fails at that write, and once more.
async fn in_two(shop: &Shop, customer: &str, fails: usize) {
    shop.log.will((0..fails).map(|_| Fate::Read).chain([Fate::Fails]));
    let told = shop.erase(customer).await.err();
    let case = format!("{customer}, {fails}");
    assert!(
        matches!(told, Some(AppendError::Unavailable(_))),
        "{case}: {told:?}"
    );
    assert_ne!(
        (shop.salted(), shop.profiled()),
        (vec!["bob"], vec!["bob"]),
        "{case}"
    );
    shop.erase(customer).await.unwrap();
    assert_eq!(
        (shop.salted(), shop.profiled()),
        (vec!["bob"], vec!["bob"]),
        "{case}"
    );
}

#[tokio::test]
async fn wherever_it_fails_asking_once_more_by_the_same_id_finishes_it() {
    // Five erasures, three salts of others, four profiles, the asker's salt.
    let cases =
        (0..13).flat_map(|fails| ["ann", "session:1", "session:2", "session:3"].map(|who| (who, fails)));
    let cases = cases.map(async |(customer, fails)| in_two(&Shop::new(false), customer, fails).await);
    join_all(cases).await;
}

#[tokio::test]
async fn with_other_replicas_too() {
    // The first and the last of four profiles, and the asker's salt.
    let cases = [("ann", 8), ("ann", 11), ("session:3", 11), ("session:3", 12)];
    join_all(cases.map(async |(customer, fails)| in_two(&Shop::new(true), customer, fails).await)).await;
}

#[tokio::test]
async fn a_profile_that_was_written_under_the_old_name_meanwhile_goes_too() {
    let shop = Shop::new(false);
    let salt_of_ann = Arc::new(tokio::sync::Notify::new());
    let fates = (0..12).map(|_| Fate::Read);
    shop.log.will(fates.chain([Fate::Held(Arc::clone(&salt_of_ann))]));
    let late = CustomerProfile {
        email: Some("late@example.com".to_owned()),
        ..CustomerProfile::default()
    };
    let (erased, ()) = tokio::join!(shop.erase("ann"), async {
        while shop.log.taken_out(Table::Salts).len() < 4 {
            tokio::task::yield_now().await;
        }
        assert!(shop.log.directory.set_profile("pseudonym:1", Some(late)));
        salt_of_ann.notify_one();
    });
    erased.unwrap();
    assert_eq!((shop.salted(), shop.profiled()), (vec!["bob"], vec!["bob"]));
}
