use super::*;

/// Numbers between -0.5 and 0.5.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 11u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn turning_both_sides_changes_no_score_and_leaves_a_diagonal() {
    let (mut rows, mut others) = (numbers(7 * 5), numbers(600 * 5));
    let scores = |rows: &[f32], others: &[f32]| -> Vec<f32> {
        let score = |at: usize| dot(&rows[at % 7 * 5..][..5], &others[at * 5..][..5]);
        (0..600).map(score).collect()
    };
    let before = scores(&rows, &others);
    let spectrum = turn(&mut rows, &mut others, 5, 2);
    let after = scores(&rows, &others);
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5));
    let gram = gram(&mut others, 5, 1);
    for row in 0..5 {
        for column in 0..5 {
            let expected = if row == column {
                f64::from(spectrum[row])
            } else {
                0.0
            };
            assert!(
                (gram[(row, column)] - expected).abs() < 1e-3,
                "{gram:?} {spectrum:?}"
            );
        }
    }
}

#[test]
fn a_row_solved_satisfies_its_normal_equations() {
    let mut others = numbers(40 * 6);
    let mut spectrum = turn(&mut [], &mut others, 6, 1);
    spectrum.iter_mut().for_each(|own| *own *= 0.1);
    let system = System {
        factors: 6,
        spectrum: &spectrum,
        others: &others,
        steps: 20,
    };
    let (columns, weights) = ([1, 5, 39], [1.0, 0.5, 2.0]);
    let mut x = vec![0f32; 6];
    system.solve(&columns, &weights, 0.3, &mut x, &mut Work::default());
    // 0.1 × Gram × x + sum of w (v·x) v + 0.3 x = sum of w v, with the Gram matrix summed anew.
    let mut left: Vec<f32> = x.iter().map(|value| 0.3 * value).collect();
    let mut right = vec![0f32; 6];
    for other in others.chunks_exact(6) {
        axpy(0.1 * dot(other, &x), other, &mut left);
    }
    for (column, weight) in columns.iter().zip(weights) {
        let vector = &others[*column as usize * 6..][..6];
        axpy(weight * dot(vector, &x), vector, &mut left);
        axpy(weight, vector, &mut right);
    }
    assert!(
        left.iter().zip(&right).all(|(a, b)| (a - b).abs() < 1e-4),
        "{left:?} {right:?}"
    );
}

#[test]
fn a_row_is_solved_the_same_to_the_bit_with_any_instructions() {
    let (others, spectrum) = (numbers(90 * 37), vec![0.2f32; 37]);
    let system = System {
        factors: 37,
        spectrum: &spectrum,
        others: &others,
        steps: 9,
    };
    let (columns, weights): (Vec<u32>, Vec<f32>) =
        (0..90).step_by(7).map(|at| (at, 1.0 / (at + 1) as f32)).unzip();
    let solved = |wide: bool| -> Vec<u32> {
        let (mut x, mut work) = (vec![0f32; 37], Work::default());
        if wide {
            system.solve(&columns, &weights, 0.3, &mut x, &mut work);
        } else {
            Solve {
                system: &system,
                columns: &columns,
                weights: &weights,
                ridge: 0.3,
                x: &mut x,
                work: &mut work,
            }
            .call();
        }
        x.iter().map(|value| value.to_bits()).collect()
    };
    assert_eq!(solved(true), solved(false));
}

#[test]
fn two_tastes_are_told_apart() {
    let mut matrix = Sparse::new(6);
    for customer in 0..20u32 {
        let from = if customer % 2 == 0 { 0 } else { 3 };
        // Everyone lacks one product of their taste, in turn.
        let mut row: Vec<(u32, f32)> = (from..from + 3)
            .filter(|p| customer % 5 == 0 || p % 3 != customer % 3)
            .map(|p| (p, 1.0))
            .collect();
        matrix.push_row(&mut row);
    }
    let params = AlsParams {
        factors: 2,
        regularization: 0.05,
        ..AlsParams::default()
    };
    let model = Als::fit(&matrix, &params, 2);
    assert_eq!(model, Als::fit(&matrix, &params, 1));
    let customer = model.fold_in(&[0, 1], &[1.0, 1.0]);
    let scores: Vec<f32> = model.scores(&customer, 0..6);
    assert!(
        scores[3..].iter().all(|other| scores[2] > other + 0.2),
        "{scores:?}"
    );
}
