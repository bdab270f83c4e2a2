//! What is kept and what is told of it.

mod simulator;

use std::collections::HashSet;

use proptest::prelude::*;
use recommendation_api::{Event, ShownItem};

use super::report::{Ask, Report};
use super::*;

const NOW: i64 = 1_700_000_000_000;

fn event(customer: &str, product: &str, kind: &str, answer: Option<&str>, price: Option<f64>) -> Event {
    let json = serde_json::json!({"customer_id": customer, "product_id": product, "event_type": kind,
        "recommendation_id": answer, "price": price});
    Event::parse(json.to_string().as_bytes(), None).unwrap()
}

fn impression(
    id: &str,
    customer: &str,
    arm: &str,
    placement: Option<&str>,
    time_ms: i64,
    items: &[&str],
) -> Impression {
    let shown = |product: &&str| ShownItem {
        product_id: (*product).to_owned(),
        explored: false,
        probability: 1.0,
    };
    Impression {
        recommendation_id: id.into(),
        customer_id: customer.into(),
        time_ms,
        experiment: Some("e".into()),
        arm: arm.into(),
        placement: placement.map(Into::into),
        algorithm: arm.into(),
        model_version: "1".into(),
        fallback: "personal".into(),
        sampled: 1.0,
        items: items.iter().map(shown).collect(),
    }
}

fn report_of(insights: &Insights, days: u8) -> Report {
    insights.freeze().report(&Ask {
        days,
        limit: 10,
        control: &|_| Some("A".into()),
        shows: &|product| product != "POST",
        title: &|_| None,
    })
}

fn act(insights: &mut Insights, event: &Event, time_ms: i64) {
    insights.event(&event.customer_id, &event.borrowed(), time_ms);
}

fn show(insights: &mut Insights, impression: &Impression) {
    insights.impression(&impression.customer_id, impression);
}

/// A record of either topic.
#[derive(Clone)]
enum Record {
    Event(Event, i64),
    Shown(Impression),
}

fn take(insights: &mut Insights, record: &Record) {
    match record {
        Record::Event(event, time_ms) => act(insights, event, *time_ms),
        Record::Shown(impression) => show(insights, impression),
    }
}

/// A small shop's week, made by a law.
fn records(seed: u64, n: u64) -> Vec<Record> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = xxhash_rust::xxh3::xxh3_64(&state.to_le_bytes());
        state % below
    };
    (0..n)
        .map(|i| {
            let time_ms = NOW + (i as i64) * 7 * DAY_MS / n as i64;
            let (customer, product) = (format!("c{}", draw(20)), format!("p{}", draw(8)));
            if draw(3) == 0 {
                let arm = if draw(2) == 0 { "A" } else { "B" };
                let other = format!("p{}", draw(8));
                Record::Shown(impression(
                    &format!("r{i}"),
                    &customer,
                    arm,
                    Some("home"),
                    time_ms,
                    &[&product, &other],
                ))
            } else {
                let kind = ["view", "cart", "purchase", "return"][draw(4) as usize];
                Record::Event(
                    event(&customer, &product, kind, None, Some(draw(100) as f64 / 3.0)),
                    time_ms,
                )
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn figures_do_not_depend_on_the_order_of_the_topics_nor_on_a_restart(seed in any::<u64>(), cut in 0..300_usize) {
        let all = records(seed, 300);
        let (mut in_order, mut apart, mut restarted) = (Insights::default(), Insights::default(), Insights::default());
        all.iter().for_each(|record| take(&mut in_order, record));
        // All of one topic, then all of the other.
        let is_event = |record: &&Record| matches!(record, Record::Event(..));
        all.iter().filter(is_event).for_each(|record| take(&mut apart, record));
        all.iter().filter(|record| !is_event(record)).for_each(|record| take(&mut apart, record));
        // A snapshot in between, and the impressions before it once more.
        all[..cut].iter().for_each(|record| take(&mut restarted, record));
        let mut restarted = codec::read(&codec::write(&restarted.freeze())).unwrap();
        all[..cut].iter().filter(|record| !is_event(record)).for_each(|record| take(&mut restarted, record));
        all[cut..].iter().for_each(|record| take(&mut restarted, record));
        for days in [1, 7] {
            let expected = report_of(&in_order, days);
            prop_assert_eq!(&report_of(&apart, days), &expected);
            prop_assert_eq!(&report_of(&restarted, days), &expected);
        }
    }

    #[test]
    fn foreign_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<u16>(), to in any::<u8>()) {
        prop_assert!(codec::read(&bytes).is_err() || bytes[0] == 1);
        let mut insights = Insights::default();
        records(1, 30).iter().for_each(|record| take(&mut insights, record));
        let mut damaged = codec::write(&insights.freeze());
        let at = usize::from(at) % damaged.len();
        damaged[at] = to;
        // No panic, whatever it makes of it.
        if let Ok(read) = codec::read(&damaged) {
            let _ = report_of(&read, 7);
        }
    }
}

#[test]
fn an_experiment_is_told_by_arm_and_placement_and_against_its_control() {
    let mut insights = Insights::default();
    for n in 0..200_i64 {
        let (customer, arm) = (format!("c{n}"), if n % 2 == 0 { "A" } else { "B" });
        let placement = if n < 100 { Some("home") } else { None };
        show(
            &mut insights,
            &impression(
                &format!("r{n}"),
                &customer,
                arm,
                placement,
                NOW + n,
                &["cup", "mug"],
            ),
        );
        // Every tenth of A, every second of B.
        if n % 20 == 0 || n % 4 == 1 {
            act(
                &mut insights,
                &event(&customer, "cup", "view", None, None),
                NOW + n + 1,
            );
            act(
                &mut insights,
                &event(&customer, "cup", "purchase", None, Some(2.5)),
                NOW + n + 2,
            );
        }
    }
    let report = report_of(&insights, 7);
    let [experiment] = &report.experiments[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (experiment.name.as_deref(), experiment.control.as_deref()),
        (Some("e"), Some("A"))
    );
    let told: Vec<_> = experiment
        .arms
        .iter()
        .map(|arm| {
            (
                arm.arm.as_str(),
                arm.placement.as_deref(),
                arm.customers,
                arm.converted_customers,
                arm.revenue,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("A", None, 100, 10, 25.0),
            ("A", Some("unspecified"), 50, 5, 12.5),
            ("A", Some("home"), 50, 5, 12.5),
            ("B", None, 100, 50, 125.0),
            ("B", Some("unspecified"), 50, 25, 62.5),
            ("B", Some("home"), 50, 25, 62.5),
        ]
    );
    let [comparison] = &experiment.comparisons[..] else {
        panic!("one other arm")
    };
    assert!(comparison.conversion.significant && comparison.click_through.significant);
    assert!((comparison.conversion.difference - 0.4).abs() < 1e-9);
    assert!((comparison.revenue_per_customer.difference - 1.0).abs() < 1e-9);
    let conversion = experiment.arms[0].conversion;
    assert!(conversion.low.unwrap() < 0.1 && conversion.high.unwrap() > 0.1);
}

#[test]
fn funnel_products_pairs_and_activity_are_counted() {
    let mut insights = Insights::default();
    for n in 0..8 {
        let customer = format!("c{n}");
        for product in ["cup", "saucer", "POST"] {
            for kind in ["view", "cart", "purchase"] {
                act(
                    &mut insights,
                    &event(&customer, product, kind, None, Some(2.0)),
                    NOW + n,
                );
            }
        }
        act(
            &mut insights,
            &event(&customer, "hat", "click", None, None),
            NOW + 3 * DAY_MS + n,
        );
        act(
            &mut insights,
            &event("bob", "cup", "purchase", None, None),
            NOW + 3 * DAY_MS,
        );
    }
    let report = report_of(&insights, 7);
    let funnel = &report.funnel;
    assert_eq!((funnel.viewed, funnel.carted, funnel.purchased), (32, 24, 25));
    assert_eq!((funnel.carted_after_view, funnel.purchased_after_cart), (24, 24));
    assert_eq!((funnel.events.click, funnel.events.purchase), (8, 32));
    let top: Vec<_> = report
        .top_products
        .iter()
        .map(|p| (&*p.product_id, p.buyers, p.revenue))
        .collect();
    assert_eq!(top, [("cup", 9, 16.0), ("saucer", 8, 16.0), ("hat", 0, 0.0)]);
    let rising: Vec<_> = report
        .rising_products
        .iter()
        .map(|p| (&*p.product_id, p.customers_in_last_day))
        .collect();
    assert_eq!(rising, [("hat", 8)]);
    let [pair] = &report.bought_together[..] else {
        panic!("{:?}", report.bought_together)
    };
    assert_eq!(
        (pair.product_ids.each_ref().map(|p| p.as_str()), pair.customers),
        (["cup", "saucer"], 8)
    );
    assert_eq!((report.activity.customers, report.activity.buyers), (9, 9));
    assert_eq!(
        (
            report.activity.with_6_to_20_events,
            report.activity.active_in_last_day
        ),
        (9, 9)
    );
    assert_eq!(report.quality.purchases_without_price, 8);
    // The last day alone.
    let today = report_of(&insights, 1);
    assert_eq!((today.funnel.viewed, today.funnel.purchased), (8, 1));
}

#[test]
fn what_is_past_its_time_or_erased_is_gone() {
    let mut insights = Insights::default();
    act(&mut insights, &event("old", "cup", "purchase", None, None), NOW);
    act(
        &mut insights,
        &event("ann", "cup", "purchase", None, None),
        NOW + KEPT_MS,
    );
    assert_eq!(insights.freeze().customers().count(), 2);
    act(
        &mut insights,
        &event("bob", "cup", "purchase", None, None),
        NOW + KEPT_MS + DAY_MS,
    );
    assert_eq!(
        insights.freeze().customers().count(),
        2,
        "the old one was swept away"
    );
    act(&mut insights, &event("late", "cup", "purchase", None, None), NOW);
    show(
        &mut insights,
        &impression("r", "ann", "A", None, NOW + KEPT_MS, &["cup"]),
    );
    let before = codec::write(&insights.freeze()).len();
    insights.erase(xxh3_64(b"ann"), NOW + KEPT_MS);
    // What was shown before, and is read only now, stays away; what comes after does not.
    show(
        &mut insights,
        &impression("r", "ann", "A", None, NOW + KEPT_MS, &["cup"]),
    );
    let kept = insights.freeze();
    assert_eq!(kept.customers().count(), 1);
    assert!(codec::write(&kept).len() < before);
    assert_eq!(report_of(&insights, 7).activity.customers, 1);
    assert!(report_of(&insights, 7).experiments.is_empty());
    show(
        &mut insights,
        &impression("s", "ann", "A", None, NOW + KEPT_MS + 1, &["cup"]),
    );
    assert_eq!(report_of(&insights, 7).experiments[0].arms[0].answers, 1);
}

#[test]
fn a_visit_that_turns_out_to_be_a_customers_takes_its_answers_along() {
    let mut insights = Insights::default();
    show(
        &mut insights,
        &impression("r", "session:1", "A", None, NOW, &["cup"]),
    );
    insights.fold("session:1", "ann");
    act(
        &mut insights,
        &event("ann", "cup", "purchase", None, Some(3.0)),
        NOW + 1,
    );
    let report = report_of(&insights, 7);
    assert_eq!(report.experiments[0].arms[0].revenue, 3.0);
    assert_eq!(report.activity.customers, 1);
}

#[test]
fn what_does_not_fit_is_kept_of_fewer_customers_and_told_of_all() {
    let room = 200_000;
    let mut insights = Insights::with_room(room);
    let customers = 20_000;
    for n in 0..customers {
        show(
            &mut insights,
            &impression(&format!("r{n}"), &n.to_string(), "A", None, NOW + n, &["cup"]),
        );
        if n % 4 == 0 {
            act(
                &mut insights,
                &event(&n.to_string(), "cup", "purchase", None, Some(1.0)),
                NOW + n + 1,
            );
        }
    }
    let kept = insights.freeze();
    let bytes: usize = kept.shards.iter().map(|shard| shard.bytes()).sum();
    assert!(bytes <= room, "{bytes}");
    let report = report_of(&insights, 7);
    assert!(report.share_of_customers < 0.2);
    let arm = &report.experiments[0].arms[0];
    let close = |told: f64, truth: f64| assert!((told / truth - 1.0).abs() < 0.2, "{told} {truth}");
    close(arm.customers as f64, customers as f64);
    close(arm.revenue, customers as f64 / 4.0);
    close(arm.conversion.value, 0.25);
}

#[test]
fn placements_that_strangers_make_up_do_not_fill_the_memory() {
    let mut insights = Insights::default();
    for n in 0..2 * MAX_CELLS {
        let placement = format!("place {n}");
        show(
            &mut insights,
            &impression(&format!("r{n}"), "ann", "A", Some(&placement), NOW, &["cup"]),
        );
    }
    let kept = insights.freeze();
    assert!(kept.cells.len() <= MAX_CELLS + 1);
    let placements: HashSet<_> = kept
        .cells
        .iter()
        .filter_map(|cell| cell.placement.clone())
        .collect();
    assert!(placements.contains(OTHER));
}
