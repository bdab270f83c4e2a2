use prometheus::{IntCounterVec, Opts};
use tokio_util::sync::CancellationToken;

use super::super::fake_log::{FakeLog, Fate, NAMES, salt};
use super::*;

/// Ann, who has a profile and was a visit before; both have salts.
struct Shop {
    log: Arc<FakeLog>,
    impressions: Arc<Impressions>,
}

fn profile(email: &str) -> CustomerProfile {
    CustomerProfile {
        email: Some(email.to_owned()),
        ..CustomerProfile::default()
    }
}

impl Shop {
    fn new() -> Self {
        let log = Arc::new(FakeLog::new(false));
        for (n, name) in (1u8..).zip(NAMES) {
            let subject = log.privacy.subject(name);
            assert!(
                log.salts()
                    .take(subject, Some(&salt(n, &format!("pseudonym:{n}"))))
            );
        }
        assert!(log.directory.set_profile("ann", Some(profile("ann@example.com"))));
        let visit = CustomerProfile {
            alias_of: Some("ann".to_owned()),
            ..CustomerProfile::default()
        };
        assert!(log.directory.set_profile("session:1", Some(visit)));
        let outcomes = IntCounterVec::new(Opts::new("a", "b"), &["outcome"]).unwrap();
        let impressions = Arc::new(Impressions::new(outcomes));
        let (running, to) = (Arc::clone(&impressions), Arc::clone(&log));
        tokio::spawn(async move { running.run(to, CancellationToken::new()).await });
        Self { log, impressions }
    }

    fn means(&self) -> Means<'_> {
        Means {
            log: &*self.log,
            privacy: &self.log.privacy,
            directory: &self.log.directory,
            impressions: &self.impressions,
        }
    }

    fn erasing(&self) -> Erasing {
        let ids = ["ann", "session:1"].map(Arc::from).to_vec();
        let mut erasing = Erasing::new(self.means(), "ann", ids);
        // Of the visit too: in this shop profiles stand under plain ids.
        let subjects = ["ann", "session:1"].map(|id| self.log.privacy.subject(id));
        erasing.salts = self.log.salts().doomed(&subjects);
        erasing
    }

    fn hex(&self, name: &str) -> String {
        self.log.privacy.subject(name).hex()
    }

    /// Whose salts there are.
    fn known(&self) -> Vec<&'static str> {
        let subject = |name: &&&str| self.log.privacy.known_as(name).is_some();
        NAMES.iter().filter(subject).copied().collect()
    }
}

#[tokio::test]
async fn everything_that_is_about_a_customer_goes_and_nothing_else() {
    let shop = Shop::new();
    let mut erasing = shop.erasing();
    erasing.go_on(shop.means()).await.unwrap();
    assert!(erasing.had_profile() && erasing.time_ms() > 0);
    let erased = ["ann", "session:1"].map(|name| shop.hex(name));
    assert_eq!(shop.log.written(Table::Erasures), erased);
    assert_eq!(shop.log.taken_out(Table::Profiles), ["ann", "session:1"]);
    assert_eq!(shop.log.taken_out(Table::Impressions), ["ann", "session:1"]);
    assert_eq!(shop.known(), ["bob"]);
    // There is nothing left to do.
    erasing.go_on(shop.means()).await.unwrap();
    assert_eq!(shop.log.taken_out(Table::Profiles).len(), 2);
}

#[tokio::test]
async fn wherever_it_fails_going_on_finishes_it_though_nobody_is_found_any_more() {
    // Two erasures, two profiles, two salts.
    for fails in 0..6 {
        let shop = Shop::new();
        shop.log.will((0..fails).map(|_| Fate::Read).chain([Fate::Fails]));
        let mut erasing = shop.erasing();
        let told = erasing.go_on(shop.means()).await;
        assert!(
            matches!(told, Err(AppendError::Unavailable(_))),
            "{fails}: {told:?}"
        );
        if fails > 1 {
            assert_eq!(
                shop.log.directory.profile("session:1"),
                None,
                "the erasure was read"
            );
        }
        erasing.go_on(shop.means()).await.unwrap();
        assert_eq!(shop.known(), ["bob"], "{fails}");
        let tries = |all: usize, from: usize| all + usize::from((from..from + 2).contains(&fails));
        assert_eq!(shop.log.written(Table::Erasures).len(), tries(2, 0), "{fails}");
        assert_eq!(shop.log.taken_out(Table::Profiles).len(), tries(2, 2), "{fails}");
        assert_eq!(shop.log.taken_out(Table::Salts).len(), tries(2, 4), "{fails}");
    }
}

#[tokio::test]
async fn who_comes_back_before_it_is_finished_keeps_what_is_new() {
    let shop = Shop::new();
    shop.log.will([Fate::Read, Fate::Read, Fate::Fails]);
    let mut erasing = shop.erasing();
    erasing.go_on(shop.means()).await.unwrap_err();
    let back = profile("ann@example.org");
    assert!(shop.log.directory.set_profile("ann", Some(back.clone())));
    let ann = shop.log.privacy.subject("ann");
    assert!(shop.log.salts().take(ann, Some(&salt(9, "pseudonym:9"))));
    erasing.go_on(shop.means()).await.unwrap();
    assert_eq!(shop.log.directory.profile("ann"), Some(back));
    assert_eq!(shop.log.salts().pseudonym(&ann).as_deref(), Some("pseudonym:9"));
}
