use prometheus::{IntCounterVec, Opts};
use recommendation_api::records::CustomerProfile;
use tokio_util::sync::CancellationToken;

use super::super::fake_log::{FakeLog, Fate, salt};
use super::*;

/// Ann, who has a profile and was a visit before; and Bob. All have pseudonyms.
struct Shop {
    log: Arc<FakeLog>,
    impressions: Arc<Impressions>,
}

/// By name, with the pseudonym.
const PEOPLE: [(&str, &str); 3] = [
    ("ann", "pseudonym:1"),
    ("session:1", "pseudonym:2"),
    ("bob", "pseudonym:3"),
];

impl Shop {
    fn new(shared: bool) -> Self {
        let log = Arc::new(FakeLog::new(shared));
        for (n, (name, pseudonym)) in (1u8..).zip(PEOPLE) {
            let subject = log.privacy.subject(name);
            assert!(log.salts().take(subject, Some(&salt(n, pseudonym))));
        }
        let profile = CustomerProfile {
            email: Some("ann@example.com".to_owned()),
            ..CustomerProfile::default()
        };
        assert!(log.directory.set_profile("pseudonym:1", Some(profile.clone())));
        assert!(log.directory.set_profile("pseudonym:3", Some(profile)));
        let visit = CustomerProfile {
            alias_of: Some("pseudonym:1".to_owned()),
            ..CustomerProfile::default()
        };
        assert!(log.directory.set_profile("pseudonym:2", Some(visit)));
        let outcomes = IntCounterVec::new(Opts::new("a", "b"), &["outcome"]).unwrap();
        let impressions = Arc::new(Impressions::new(outcomes));
        let (running, to) = (Arc::clone(&impressions), Arc::clone(&log));
        tokio::spawn(async move { running.run(to, CancellationToken::new()).await });
        Self { log, impressions }
    }

    /// As a request asks for it.
    async fn erase(&self, customer: &str) -> Result<Erased, AppendError> {
        let privacy = &self.log.privacy;
        let name = privacy.known_as(customer).unwrap_or_else(|| customer.to_owned());
        let whose = self.log.directory.canonical(&name);
        let means = Means {
            log: &*self.log,
            privacy,
            directory: &self.log.directory,
            impressions: &self.impressions,
        };
        means.erase(customer, whose.as_deref().unwrap_or(&name)).await
    }

    /// Who has a salt.
    fn salted(&self) -> Vec<&'static str> {
        let people = PEOPLE.iter().map(|(name, _)| *name);
        people
            .filter(|name| self.log.privacy.known_as(name).is_some())
            .collect()
    }

    /// Of whose profile the log tells something.
    fn profiled(&self) -> Vec<&'static str> {
        let people = PEOPLE.iter();
        people
            .filter(|(_, pseudonym)| self.log.directory.has_record(pseudonym))
            .map(|(name, _)| *name)
            .collect()
    }
}

#[tokio::test]
async fn everything_that_is_about_a_customer_goes_and_nothing_else() {
    for shared in [true, false] {
        let shop = Shop::new(shared);
        let erased = shop.erase("ann").await.unwrap();
        let ids: Vec<&str> = erased.ids.iter().map(|id| &**id).collect();
        assert_eq!(ids, ["pseudonym:1", "pseudonym:2", "ann"]);
        assert!(erased.had_profile && erased.time_ms > 0);
        let subjects = ids.iter().map(|id| shop.log.privacy.subject(id).hex());
        assert_eq!(shop.log.written(Table::Erasures), subjects.collect::<Vec<_>>());
        assert_eq!(
            shop.log.taken_out(Table::Profiles),
            ["pseudonym:1", "pseudonym:2"]
        );
        assert_eq!(shop.log.taken_out(Table::Impressions), ids);
        assert_eq!((shop.salted(), shop.profiled()), (vec!["bob"], vec!["bob"]));
        // A tombstone names whom it is about: there is no need of another.
        let again = shop.erase("ann").await.unwrap();
        assert!(!again.had_profile);
        assert_eq!(shop.log.taken_out(Table::Profiles).len(), 2);
    }
}

#[tokio::test]
async fn wherever_it_fails_asking_once_more_finishes_it() {
    // Three erasures, the visit's salt, two profiles, the customer's salt.
    for fails in 0..7 {
        let shop = Shop::new(false);
        shop.log.will((0..fails).map(|_| Fate::Read).chain([Fate::Fails]));
        let told = shop.erase("ann").await.err();
        assert!(
            matches!(told, Some(AppendError::Unavailable(_))),
            "{fails}: {told:?}"
        );
        assert_ne!((shop.salted(), shop.profiled()), (vec!["bob"], vec!["bob"]));
        shop.erase("ann").await.unwrap();
        assert_eq!(
            (shop.salted(), shop.profiled()),
            (vec!["bob"], vec!["bob"]),
            "{fails}"
        );
    }
}

#[tokio::test]
async fn whoever_asks_by_the_visit_finishes_it_too() {
    for fails in 0..7 {
        let shop = Shop::new(false);
        shop.log.will((0..fails).map(|_| Fate::Read).chain([Fate::Fails]));
        assert!(shop.erase("session:1").await.is_err(), "{fails}");
        shop.erase("session:1").await.unwrap();
        assert_eq!(
            (shop.salted(), shop.profiled()),
            (vec!["bob"], vec!["bob"]),
            "{fails}"
        );
    }
}
