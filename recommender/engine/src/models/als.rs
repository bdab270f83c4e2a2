//! iALS: matrix factorisation of implicit feedback by alternating least squares, with the settings that
//! Rendle et al. (2021) showed to make it competitive again: an unobserved weight, and a regularisation
//! that grows with frequency. Each row is solved by a few steps of conjugate gradients, warm-started.

use serde::{Deserialize, Serialize};

use crate::matrix::Sparse;

/// Hyper-parameters of [`Als::fit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AlsParams {
    /// Length of the vectors.
    pub factors: usize,
    /// Passes over customers and products.
    pub epochs: usize,
    /// Weight of a cell that nothing was observed in, against 1 for an observed one.
    pub unobserved: f32,
    /// Regularisation.
    pub regularization: f32,
    /// How regularisation grows with the frequency of a row: 0 not at all, 1 in proportion.
    pub frequency: f32,
    /// Steps of conjugate gradients per row.
    pub steps: usize,
}

impl Default for AlsParams {
    fn default() -> Self {
        AlsParams {
            factors: 128,
            epochs: 12,
            unobserved: 0.01,
            regularization: 0.003,
            frequency: 1.0,
            steps: 3,
        }
    }
}

/// Fitted product vectors; customers are folded in from their history when asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Als {
    params: AlsParams,
    /// Product vectors, row by row.
    products: Vec<f32>,
    /// `unobserved` times the Gram matrix of the product vectors.
    gram: Vec<f32>,
    /// Added to the customers' diagonal for products not observed.
    ridge: f32,
}

const LANES: usize = 16;

/// Summed in lanes, so that it can be vectorised, in an order that never changes.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn axpy(scale: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// `weight` times the sum of outer products of the rows.
fn gram(rows: &[f32], factors: usize, weight: f32) -> Vec<f32> {
    let mut gram = vec![0f32; factors * factors];
    for row in rows.chunks_exact(factors) {
        for (at, &value) in row.iter().enumerate() {
            axpy(value, row, &mut gram[at * factors..(at + 1) * factors]);
        }
    }
    for value in &mut gram {
        *value *= weight;
    }
    gram
}

/// What a row is solved against.
struct System<'a> {
    factors: usize,
    gram: &'a [f32],
    others: &'a [f32],
    steps: usize,
}

#[derive(Default)]
struct Work {
    residual: Vec<f32>,
    direction: Vec<f32>,
    image: Vec<f32>,
}

impl System<'_> {
    fn vector(&self, id: u32) -> &[f32] {
        let at = id as usize * self.factors;
        &self.others[at..at + self.factors]
    }

    /// `image = (gram + sum of weight v vᵀ + ridge) x`.
    fn apply(&self, columns: &[u32], weights: &[f32], ridge: f32, x: &[f32], image: &mut [f32]) {
        for (at, out) in image.iter_mut().enumerate() {
            *out = dot(&self.gram[at * self.factors..(at + 1) * self.factors], x) + ridge * x[at];
        }
        for (&column, &weight) in columns.iter().zip(weights) {
            let vector = self.vector(column);
            axpy(weight * dot(vector, x), vector, image);
        }
    }

    /// Improves `x` towards the solution for a row with these observations.
    fn solve(&self, columns: &[u32], weights: &[f32], ridge: f32, x: &mut [f32], work: &mut Work) {
        let Work {
            residual,
            direction,
            image,
        } = work;
        for buffer in [&mut *residual, &mut *direction, &mut *image] {
            buffer.clear();
            buffer.resize(self.factors, 0.0);
        }
        self.apply(columns, weights, ridge, x, image);
        for (&column, &weight) in columns.iter().zip(weights) {
            axpy(weight, self.vector(column), residual);
        }
        axpy(-1.0, image, residual);
        direction.copy_from_slice(residual);
        let mut energy = dot(residual, residual);
        for _ in 0..self.steps {
            if energy < 1e-12 {
                return;
            }
            self.apply(columns, weights, ridge, direction, image);
            let step = energy / dot(direction, image);
            axpy(step, direction, x);
            axpy(-step, image, residual);
            let next = dot(residual, residual);
            let ratio = next / energy;
            for (d, r) in direction.iter_mut().zip(residual.iter()) {
                *d = r + ratio * *d;
            }
            energy = next;
        }
    }
}

/// A half step: every row of `rows` is solved against `others`.
fn half(matrix: &Sparse, rows: &mut [f32], others: &[f32], params: &AlsParams, threads: usize) {
    let factors = params.factors;
    let gram = gram(others, factors, params.unobserved);
    let system = System {
        factors,
        gram: &gram,
        others,
        steps: params.steps,
    };
    let absent = params.unobserved * matrix.width() as f32;
    let per_thread = matrix.rows().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (part, chunk) in rows.chunks_mut(per_thread * factors).enumerate() {
            let system = &system;
            scope.spawn(move || {
                let mut work = Work::default();
                for (at, x) in chunk.chunks_exact_mut(factors).enumerate() {
                    let (columns, weights) = matrix.row(part * per_thread + at);
                    let ridge =
                        params.regularization * (columns.len() as f32 + absent).powf(params.frequency);
                    system.solve(columns, weights, ridge, x, &mut work);
                }
            });
        }
    });
}

impl Als {
    /// Fits vectors to interactions (customers by products). The result is the same for any number of
    /// threads.
    pub fn fit(interactions: &Sparse, params: &AlsParams, threads: usize) -> Als {
        let factors = params.factors;
        let by_product = interactions.transposed();
        let mut customers = vec![0f32; interactions.rows() * factors];
        let scale = 0.1 / (factors as f32).sqrt();
        let mut state = 0x2545_F491_4F6C_DD1Du64;
        let mut products: Vec<f32> = (0..by_product.rows() * factors)
            .map(|_| {
                // Sum of four uniform numbers: near enough to normal for a start.
                let uniform = |state: &mut u64| {
                    *state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
                };
                scale * 1.7 * (0..4).map(|_| uniform(&mut state)).sum::<f32>()
            })
            .collect();
        for _ in 0..params.epochs {
            half(interactions, &mut customers, &products, params, threads);
            half(&by_product, &mut products, &customers, params, threads);
        }
        let gram = gram(&products, factors, params.unobserved);
        let ridge = params.unobserved * interactions.width() as f32;
        Als {
            params: params.clone(),
            products,
            gram,
            ridge,
        }
    }

    /// The vector of a customer with these products.
    pub fn fold_in(&self, columns: &[u32], weights: &[f32]) -> Vec<f32> {
        let factors = self.params.factors;
        let steps = self.params.steps * 4;
        let system = System {
            factors,
            gram: &self.gram,
            others: &self.products,
            steps,
        };
        let mut x = vec![0f32; factors];
        let size = columns.len() as f32 + self.ridge;
        let ridge = self.params.regularization * size.powf(self.params.frequency);
        system.solve(columns, weights, ridge, &mut x, &mut Work::default());
        x
    }

    /// How well a product fits a customer's vector.
    pub fn score(&self, customer: &[f32], product: u32) -> f32 {
        let at = product as usize * self.params.factors;
        dot(customer, &self.products[at..at + self.params.factors])
    }

    /// How alike two products are.
    pub fn likeness(&self, a: u32, b: u32) -> f32 {
        let row = |product: u32| {
            let at = product as usize * self.params.factors;
            &self.products[at..at + self.params.factors]
        };
        dot(row(a), row(b))
    }

    /// Whether the parts fit together: to be asked of what was read from outside.
    pub fn is_consistent(&self) -> bool {
        let factors = self.params.factors;
        factors > 0 && self.products.len().is_multiple_of(factors) && self.gram.len() == factors * factors
    }

    /// How many products have a vector.
    pub fn products(&self) -> usize {
        self.products.len() / self.params.factors.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let scores: Vec<f32> = (0..6).map(|product| model.score(&customer, product)).collect();
        assert!(
            scores[3..].iter().all(|other| scores[2] > other + 0.2),
            "{scores:?}"
        );
    }
}
