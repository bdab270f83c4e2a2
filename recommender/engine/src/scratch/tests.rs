use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn keys_stand_in_the_order_of_scores_and_ties_of_products(bits in prop::collection::vec(any::<u32>(), 0..60)) {
        // Few that differ, so that some are equal.
        let scores: Vec<f32> = bits.iter().map(|bits| f32::from_bits(bits & 0xC060_0000)).collect();
        let mut keys: Vec<u64> = scores.iter().zip(0..).map(|(score, at)| key(*score, at)).collect();
        in_order(&mut keys, |a, b| b.cmp(&a));
        let mut expected: Vec<usize> = (0..scores.len()).collect();
        expected.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(b.cmp(a)));
        prop_assert!(keys.iter().map(|key| *key as u32 as usize).eq(expected));
        for bits in bits {
            prop_assert_eq!(ascending(descending(f32::from_bits(bits))).to_bits(), bits);
        }
    }
}

proptest! {
    #[test]
    fn all_at_once_are_as_one_by_one(
        lists in prop::collection::vec((prop::collection::vec((0u32..40, -4i32..8), 0..12), 1u32..4, 0u32..5), 0..12),
    ) {
        let mut plain: std::collections::BTreeMap<u32, (f32, f32, u32)> = Default::default();
        let mut found = Scratch::with(10, |scratch| {
            for (list, weight, source) in &lists {
                let (products, parts): (Vec<u32>, Vec<f32>) = list.iter().map(|(p, part)| (*p, *part as f32)).unzip();
                scratch.add_all(&products, &parts, *weight as f32, *source);
                for (product, part) in products.iter().zip(parts) {
                    let part = *weight as f32 * part;
                    // Of equally strong sources the first stays.
                    let known = plain.entry(*product).or_insert((0.0, part, *source));
                    known.0 += part;
                    if part > known.1 {
                        (known.1, known.2) = (part, *source);
                    }
                }
            }
            let mut out = Vec::new();
            scratch.best(100, |_| true, |a, b| a.cmp(&b), &mut out);
            out
        });
        found.sort_by_key(|one| one.product);
        let expected = plain.into_iter().map(|(product, (score, _, source))| Candidate { product, score, source });
        prop_assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn an_answer_that_panicked_leaves_no_marks() {
    let panics = || {
        Scratch::with(10, |scratch| {
            scratch.mark_one(3, 0);
            panic!("on purpose");
        })
    };
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(Scratch::with(10, |scratch| scratch.marked(3)), None);
}

#[test]
fn the_best_are_found_however_many_are_left_out() {
    let best = Scratch::with(1_000, |scratch| {
        for product in 0..1_000u32 {
            scratch.add(product, (product * 7 % 1_000) as f32, NO_SOURCE);
        }
        let mut out = Vec::new();
        scratch.best(3, |product| product % 100 == 0, |a, b| a.cmp(&b), &mut out);
        out
    });
    // 7p mod 1000 for p = 0, 100, …, 900 is largest for 700 (900), 400 (800) and 100 (700).
    assert_eq!(
        best.iter().map(|c| c.product).collect::<Vec<_>>(),
        [700, 400, 100]
    );
}

#[test]
fn a_candidate_remembers_its_strongest_source_and_the_next_answer_starts_empty() {
    let all = |scratch: &mut Scratch| {
        let mut out = Vec::new();
        scratch.best(10, |_| true, |a, b| a.cmp(&b), &mut out);
        out
    };
    let first = Scratch::with(10, |scratch| {
        scratch.add(1, 0.5, 7);
        scratch.add(1, 2.0, 8);
        scratch.add(1, 1.0, 9);
        all(scratch)
    });
    assert_eq!(
        first,
        [Candidate {
            product: 1,
            score: 3.5,
            source: 8
        }]
    );
    assert!(Scratch::with(10, all).is_empty());
}
