use super::*;

const WINDOWS: DriftWindows = DriftWindows {
    slice_ms: 1_000,
    current: 2,
    reference: 4,
};

/// Products by a law that favours the first; a fixed generator.
struct Shop(u64);

impl Shop {
    fn draw(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        ((uniform * uniform * n as f64) as u64).min(n - 1)
    }

    fn slice(&mut self, drift: &mut Drift, slice: i64, prefix: &str, kind: EventKind) {
        for n in 0..1_000 {
            let product = format!("{prefix}{}", self.draw(300));
            drift.observe(&product, kind, slice * 1_000 + n % 1_000);
        }
    }
}

#[test]
fn the_index_is_that_of_the_textbook() {
    // 0.5 and 0.5 become 0.8 and 0.2: 0.3·ln(1.6) + (−0.3)·ln(0.4) = 0.41589 (half an event does not show).
    let index = psi(&[500_000, 500_000], &[800_000, 200_000]);
    assert!((index - 0.41589).abs() < 1e-4, "{index}");
    assert_eq!(psi(&[10, 0, 20], &[10, 0, 20]), 0.0);
    assert_eq!(psi(&[], &[]), 0.0);
}

#[test]
fn chance_alone_is_no_drift_even_in_small_samples() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    (0..10).for_each(|slice| shop.slice(&mut drift, slice, "p", EventKind::View));
    let report = drift.report(9_999).unwrap();
    assert!(report.worst() < 0.02, "{report:?}");
    assert_eq!((report.reference_events, report.current_events), (4_000, 2_000));
}

#[test]
fn other_products_drift_and_so_do_other_types() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    (0..6).for_each(|slice| shop.slice(&mut drift, slice, "p", EventKind::View));
    let mut types = drift.clone();
    (6..8).for_each(|slice| shop.slice(&mut drift, slice, "q", EventKind::View));
    let report = drift.report(7_999).unwrap();
    assert!(report.products > 1.0 && report.event_types < 0.02, "{report:?}");
    (6..8).for_each(|slice| shop.slice(&mut types, slice, "p", EventKind::Purchase));
    let report = types.report(7_999).unwrap();
    assert!(report.products < 0.2 && report.event_types > 1.0, "{report:?}");
}

#[test]
fn what_has_become_usual_is_no_drift_any_more() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    (0..6).for_each(|slice| shop.slice(&mut drift, slice, "p", EventKind::View));
    // The first slices of new products are new in the reference too, until they have left it.
    (6..16).for_each(|slice| shop.slice(&mut drift, slice, "q", EventKind::View));
    let report = drift.report(15_999).unwrap();
    assert!(report.worst() < 0.05, "{report:?}");
}

#[test]
fn what_changes_slowly_drifts_from_what_the_models_were_made_from_until_they_are_made_anew() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    // Each slice, a few more of its events are of what the season brings.
    let slice = |shop: &mut Shop, drift: &mut Drift, slice: i64| {
        let season = u64::try_from((slice - 6).max(0) * 2).unwrap();
        for n in 0..1_000 {
            let of_season = shop.draw(100) < season.min(60);
            let product = format!("{}{}", if of_season { "s" } else { "p" }, shop.draw(300));
            drift.observe(&product, EventKind::View, slice * 1_000 + n);
        }
    };
    (0..6).for_each(|n| slice(&mut shop, &mut drift, n));
    assert_eq!(drift.report(5_999).unwrap().since_fit, None);
    drift.fitted(Some(5_999));
    assert!(drift.report(5_999).unwrap().since_fit.unwrap() < 0.02);
    let mut seen = Vec::new();
    for n in 6..40 {
        slice(&mut shop, &mut drift, n);
        seen.push(drift.report(n * 1_000 + 999).unwrap());
    }
    let last = seen.last().unwrap();
    assert!(last.products < 0.1 && last.since_fit.unwrap() > 0.5, "{seen:?}");
    drift.fitted(Some(39_999));
    let report = drift.report(39_999).unwrap();
    assert!(
        report.since_fit.unwrap() < 0.1 && report.worst() < 0.2,
        "{report:?}"
    );
    drift.fitted(None);
    assert_eq!(drift.report(39_999).unwrap().since_fit, None);
}

#[test]
fn the_first_days_of_a_log_are_no_drift() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    for slice in 0..6 {
        shop.slice(&mut drift, slice, "p", EventKind::View);
        let worst = drift
            .report(slice * 1_000 + 999)
            .map_or(0.0, |report| report.worst());
        assert!(worst < 0.15, "slice {slice}: {worst}");
    }
}

#[test]
fn too_few_events_say_nothing_and_old_ones_do_not_count() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    assert_eq!(drift.report(0), None);
    (0..6).for_each(|slice| shop.slice(&mut drift, slice, "p", EventKind::View));
    assert!(drift.report(5_999).is_some());
    drift.observe("p1", EventKind::View, -50_000);
    assert_eq!(drift.report(5_999).unwrap().reference_events, 4_000);
    // Nobody comes any more: the current window is empty.
    assert_eq!(drift.report(7_999), None);
    assert_eq!(drift.report(i64::MAX), None);
}

#[test]
fn what_was_written_counts_on_as_if_nothing_had_happened() {
    let (mut shop, mut drift) = (Shop(7), Drift::new(WINDOWS));
    (0..6).for_each(|slice| shop.slice(&mut drift, slice, "p", EventKind::View));
    let mut read: Drift = serde_json::from_str(&serde_json::to_string(&drift).unwrap()).unwrap();
    assert_eq!(read.report(5_999), drift.report(5_999));
}
