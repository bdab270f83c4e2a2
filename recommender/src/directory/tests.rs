use proptest::prelude::*;

use super::*;

fn profile(address: &str) -> Option<CustomerProfile> {
    Some(CustomerProfile {
        email: Some(address.into()),
        ..CustomerProfile::default()
    })
}

#[test]
fn a_profile_that_was_written_after_an_erasure_stays() {
    let directory = Directory::default();
    let profile = || Some(CustomerProfile::default());
    for (written_ms, stays) in [(0, false), (1_000, false), (1_001, true)] {
        assert!(directory.take_profile("ann", profile(), written_ms));
        assert_eq!(directory.forget_profile("ann", 1_000), !stays);
        assert_eq!(directory.profile("ann").is_some(), stays, "{written_ms}");
    }
    // Nor does an old time outlive its profile.
    directory.set_profile("ann", profile());
    assert!(directory.forget_profile("ann", 1_000));
}

#[test]
fn an_address_leads_to_the_customer_who_has_it_now() {
    let directory = Directory::new(10);
    directory.set_profile("ann", profile("Ann@Example.com"));
    assert_eq!(directory.customer_of("ann@example.COM").as_deref(), Some("ann"));
    directory.set_profile("ann", profile("ann@example.org"));
    assert_eq!(directory.customer_of("ann@example.com"), None);
    directory.set_profile("bob", profile("ann@example.org"));
    directory.set_profile("ann", None);
    assert_eq!(directory.customer_of("ann@example.org").as_deref(), Some("bob"));
    assert!(directory.profile("ann").is_none());
}

fn alias(whose: &str) -> Option<CustomerProfile> {
    Some(CustomerProfile {
        alias_of: Some(whose.into()),
        ..CustomerProfile::default()
    })
}

#[test]
fn aliases_lead_to_their_customer_and_back_and_never_in_a_circle() {
    let directory = Directory::new(10);
    assert_eq!(directory.canonical("visit"), None);
    assert!(directory.set_profile("visit", alias("old")) && directory.set_profile("old", alias("ann")));
    assert_eq!(directory.canonical("visit").as_deref(), Some("ann"));
    assert_eq!(directory.canonical("ann"), None);
    let known: Vec<Arc<str>> = vec!["old".into(), "visit".into()];
    assert_eq!(directory.aliases("ann"), known);
    assert!(!directory.set_profile("ann", alias("visit")), "a circle");
    assert!(!directory.set_profile("bob", alias("bob")));
    directory.set_profile("old", None);
    assert_eq!(directory.canonical("visit").as_deref(), Some("old"));
    directory.set_profile("visit", None);
    assert!(directory.aliases("old").is_empty() && directory.canonical("visit").is_none());
}

#[test]
fn whom_an_erasure_forgot_is_found_until_the_log_tells_of_them_no_more() {
    let directory = Directory::default();
    let family = |id| {
        let ids = directory.family(id).ids;
        ids.iter().map(|id| id.to_string()).collect::<Vec<_>>()
    };
    directory.set_profile("ann", profile("ann@example.com"));
    directory.set_profile("visit", alias("ann"));
    directory.set_profile("older", alias("visit"));
    let all = ["ann", "visit", "older"];
    for (known, id) in [(true, "ann"), (true, "visit"), (false, "ann"), (false, "visit")] {
        assert_eq!(family("older"), all, "{id}");
        assert!(directory.has_record(id));
        if known {
            assert!(directory.forget_profile(id, 1));
            assert_eq!(
                (directory.profile(id), family(id)),
                (None, all.map(str::to_owned).to_vec())
            );
        }
    }
    assert!(directory.aliases("ann").is_empty(), "nothing is told of them");
    let lineage = directory.family("older").lineage;
    assert!(
        lineage.iter().map(|id| &**id).eq(all),
        "down to who was asked about"
    );
    // A tombstone, and a profile of who has come back.
    directory.set_profile("visit", None);
    assert_eq!(
        (directory.has_record("visit"), family("ann")),
        (false, vec!["ann".to_owned()])
    );
    directory.set_profile("ann", profile("ann@example.org"));
    assert!(directory.forget_profile("older", 1));
    directory.set_profile("older", alias("ann"));
    assert_eq!(family("older"), ["ann", "older"]);
    assert_eq!(directory.aliases("ann").len(), 1);
    // What was taken out is what was known then.
    let known = directory.profile("ann");
    directory.set_profile("ann", profile("ann@example.net"));
    directory.taken_out("ann", known.as_ref());
    assert!(directory.profile("ann").is_some(), "who has come back");
    let known = directory.profile("ann");
    assert!(directory.forget_profile("ann", 1));
    directory.taken_out("ann", known.as_ref());
    assert!(!directory.has_record("ann"), "forgotten meanwhile");
}

#[test]
fn a_record_that_there_is_no_room_for_is_known_to_stand_in_the_log() {
    let directory = Directory::new(1);
    directory.set_profile("ann", profile("ann@example.com"));
    assert!(directory.forget_profile("ann", 1));
    assert!(directory.set_profile("bob", profile("bob@example.com")));
    assert!(!directory.set_profile("ann", profile("ann@example.org")));
    assert!(directory.has_record("ann"));
}

#[test]
fn a_refusal_is_remembered_even_where_there_is_no_room() {
    let directory = Directory::new(0);
    let said = |consent| {
        Some(CustomerProfile {
            consent: Some(consent),
            ..CustomerProfile::default()
        })
    };
    assert!(!directory.set_profile("ann", said(true)) && directory.set_profile("ann", said(false)));
    assert_eq!(directory.consent("ann"), Some(false));
    directory.set_profile("ann", None);
    assert_eq!(directory.consent("ann"), None);
}

#[test]
fn there_is_room_for_so_many_and_a_known_one_may_always_change() {
    let directory = Directory::new(1);
    assert!(directory.set_profile("ann", profile("a@b")));
    assert!(!directory.set_profile("bob", profile("b@b")));
    assert!(directory.set_profile("ann", profile("c@b")));
    assert_eq!(directory.customer_of("b@b"), None);
}

fn shop(id: &str) -> Option<Option<String>> {
    match id {
        "22720" => Some(Some("SET OF 3 CAKE TINS".into())),
        "85123A" => Some(None),
        "mug" => Some(Some("Red mug".into())),
        _ => None,
    }
}

#[test]
fn ids_and_titles_are_found_in_a_text_in_their_order() {
    let directory = Directory::new(1);
    directory.set_title("22720", "SET OF 3 CAKE TINS");
    directory.set_title("mug", "Blue mug");
    directory.set_title("mug", "Red mug");
    let text = "Hello, is the red  mug (85123A) sold with a Set of 3 cake-tins? And a blue mug? Red mug!";
    assert_eq!(directory.mentioned(text, 9, shop), ["mug", "85123A", "22720"]);
    assert_eq!(directory.mentioned(text, 1, shop), ["mug"]);
    assert!(directory.mentioned("nothing of ours", 9, shop).is_empty());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", title in "\\PC{0,40}") {
        let directory = Directory::new(1);
        directory.set_title("p-1", &title);
        let found = directory.mentioned(&text, 3, |id| (id == "p-1").then(|| Some(title.clone())));
        prop_assert!(found.len() <= 1);
    }
}
