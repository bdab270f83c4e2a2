use super::*;
use crate::counts::Ordered;

const RULES: HistoryRules = HistoryRules {
    capacity: 3,
    window: 3,
    repeats: Repeats::Log,
    max_per_minute: 0,
};

fn names() -> Ordered {
    let mut names = Ordered::default();
    (0..10).for_each(|n| names.push(format!("p{n}").into()));
    names
}

fn event(product: u32, kind: EventKind, weight: f32, time_ms: i64) -> Weighted {
    Weighted {
        product,
        kind,
        units: units(weight),
        time_ms,
    }
}

#[test]
fn a_return_before_its_purchase_cancels_it_all_the_same() {
    let bought = event(1, EventKind::Purchase, 5.0, 100);
    let returned = event(1, EventKind::Return, -5.0, 200);
    let (mut forward, mut backward) = (History::default(), History::default());
    for event in [&bought, &returned] {
        forward.record(event, &RULES, &names());
    }
    for event in [&returned, &bought] {
        backward.record(event, &RULES, &names());
    }
    assert_eq!(forward.entries, backward.entries);
    assert_eq!(
        (forward.entries[0].interest, forward.entries[0].purchases),
        (0, 0)
    );
}

#[test]
fn a_full_history_lets_the_oldest_product_go_and_refuses_older_ones() {
    let mut history = History::default();
    for (product, time) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        history.record(&event(product, EventKind::View, 1.0, time), &RULES, &names());
    }
    assert_eq!(
        history.entries.iter().map(|e| e.product).collect::<Vec<_>>(),
        [4, 3, 2]
    );
    assert!(matches!(
        history.record(&event(9, EventKind::View, 1.0, 5), &RULES, &names()),
        Recorded::TooOld
    ));
}

#[test]
fn more_events_in_a_minute_than_allowed_are_damped() {
    let rules = HistoryRules {
        max_per_minute: 2,
        ..RULES
    };
    let mut history = History::default();
    for n in 0..2 {
        let outcome = history.record(
            &event(n, EventKind::View, 1.0, 60_000 + i64::from(n)),
            &rules,
            &names(),
        );
        assert!(matches!(outcome, Recorded::Changed(_)));
    }
    assert!(matches!(
        history.record(&event(7, EventKind::View, 1.0, 60_500), &rules, &names()),
        Recorded::Damped
    ));
    assert!(matches!(
        history.record(&event(7, EventKind::View, 1.0, 120_000), &rules, &names()),
        Recorded::Changed(_)
    ));
}
