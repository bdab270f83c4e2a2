//! iALS: matrix factorisation of implicit feedback by alternating least squares, with the settings that
//! Rendle et al. (2021) showed to make it competitive again: an unobserved weight, and a regularisation
//! that grows with frequency.
//!
//! Every row is a system of `unobserved × Gram matrix + what was observed + ridge`. Before each half step both sides
//! are turned into the axes in which the Gram matrix is diagonal, which changes no score and no penalty. Then a row
//! costs `nonzeros × factors` a step instead of `factors²` more, and conjugate gradients preconditioned
//! with the diagonal are there in a few steps.

use std::sync::Mutex;

use faer::{
    Accum, Mat, MatMut, MatRef, Par, Side,
    linalg::{matmul::matmul, solvers::SelfAdjointEigen},
};
use pulp::NullaryFnOnce;
use serde::{Deserialize, Serialize};

use crate::{
    dense::{axpy, dot, dots, widest},
    matrix::Sparse,
};

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
    /// Diagonal of `unobserved` times the Gram matrix of the product vectors, which has nothing beside it.
    spectrum: Vec<f32>,
    /// Added to the customers' diagonal for products not observed.
    ridge: f32,
}

/// Rows that are taken at once: what is summed in which order does not depend on the number of threads.
const BLOCK: usize = 512;

/// Runs `work` on blocks of rows, as they come free, with their number; the results in the order of rows.
fn in_blocks<T: Send>(
    rows: &mut [f32],
    factors: usize,
    threads: usize,
    work: impl Fn(usize, &mut [f32], &mut Work) -> T + Sync,
) -> Vec<T> {
    let queue = Mutex::new(rows.chunks_mut(BLOCK * factors).enumerate());
    let run = || {
        let (mut buffers, mut done) = (Work::default(), Vec::new());
        loop {
            // A panic of another thread is passed on where it is joined.
            let next = queue
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .next();
            let Some((at, block)) = next else { return done };
            done.push((at, work(at, block, &mut buffers)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for helper in helpers {
            done.extend(
                helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Blocks whose Gram matrices are kept until they are added up: of a million rows all of them would be half a gigabyte.
const GRAMS: usize = 64;

/// The Gram matrix of rows.
fn gram(rows: &mut [f32], factors: usize, threads: usize) -> Mat<f64> {
    let mut sum = Mat::<f64>::zeros(factors, factors);
    for slab in rows.chunks_mut(GRAMS * BLOCK * factors) {
        let parts = in_blocks(slab, factors, threads, |_, block, _| {
            let block = MatRef::from_row_major_slice(block, block.len() / factors, factors);
            let mut part = Mat::<f32>::zeros(factors, factors);
            matmul(&mut part, Accum::Replace, block.transpose(), block, 1.0, Par::Seq);
            part
        });
        for part in parts {
            faer::zip!(&mut sum, &part).for_each(|faer::unzip!(sum, part)| *sum += f64::from(*part));
        }
    }
    sum
}

/// Turns both sides into the axes of the Gram matrix of `others`; answers its diagonal there. Scores and lengths
/// stay what they were.
fn turn(rows: &mut [f32], others: &mut [f32], factors: usize, threads: usize) -> Vec<f32> {
    let gram = gram(others, factors, threads);
    // Numbers that are not finite have no axes; they would not have had a solution either.
    let Ok(axes) = SelfAdjointEigen::new(gram.as_ref(), Side::Lower) else {
        return (0..factors).map(|at| gram[(at, at)] as f32).collect();
    };
    let turning = Mat::<f32>::from_fn(factors, factors, |row, column| axes.U()[(row, column)] as f32);
    for side in [rows, others] {
        in_blocks(side, factors, threads, |_, block, work| {
            let height = block.len() / factors;
            work.turned.clear();
            work.turned.resize(block.len(), 0.0);
            matmul(
                MatMut::from_row_major_slice_mut(&mut work.turned, height, factors),
                Accum::Replace,
                MatRef::from_row_major_slice(block, height, factors),
                &turning,
                1.0,
                Par::Seq,
            );
            block.copy_from_slice(&work.turned);
        });
    }
    let diagonal = axes.S().column_vector();
    (0..factors).map(|at| diagonal[at].max(0.0) as f32).collect()
}

/// What a row is solved against.
struct System<'a> {
    factors: usize,
    /// Of the unobserved.
    spectrum: &'a [f32],
    others: &'a [f32],
    steps: usize,
}

#[derive(Default)]
struct Work {
    residual: Vec<f32>,
    direction: Vec<f32>,
    image: Vec<f32>,
    diagonal: Vec<f32>,
    scaled: Vec<f32>,
    turned: Vec<f32>,
}

/// A row to be solved.
struct Solve<'a> {
    system: &'a System<'a>,
    columns: &'a [u32],
    weights: &'a [f32],
    ridge: f32,
    x: &'a mut [f32],
    work: &'a mut Work,
}

/// What is left of a residual that is not worth another step.
const SOLVED: f32 = 1e-8;

impl System<'_> {
    #[inline(always)]
    fn vector(&self, id: u32) -> &[f32] {
        let at = id as usize * self.factors;
        &self.others[at..at + self.factors]
    }

    /// `image = (spectrum + sum of weight v vᵀ + ridge) x`.
    #[inline(always)]
    fn apply(&self, columns: &[u32], weights: &[f32], ridge: f32, x: &[f32], image: &mut [f32]) {
        for ((out, x), own) in image.iter_mut().zip(x).zip(self.spectrum) {
            *out = (own + ridge) * x;
        }
        for (&column, &weight) in columns.iter().zip(weights) {
            let vector = self.vector(column);
            axpy(weight * dot(vector, x), vector, image);
        }
    }

    /// Improves `x` towards the solution for a row with these observations.
    fn solve(&self, columns: &[u32], weights: &[f32], ridge: f32, x: &mut [f32], work: &mut Work) {
        widest(Solve {
            system: self,
            columns,
            weights,
            ridge,
            x,
            work,
        });
    }
}

impl NullaryFnOnce for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Solve {
            system,
            columns,
            weights,
            ridge,
            x,
            work,
        } = self;
        let Work {
            residual,
            direction,
            image,
            diagonal,
            scaled,
            ..
        } = work;
        for buffer in [
            &mut *residual,
            &mut *direction,
            &mut *image,
            &mut *diagonal,
            &mut *scaled,
        ] {
            buffer.clear();
            buffer.resize(system.factors, 0.0);
        }
        for (out, own) in diagonal.iter_mut().zip(system.spectrum) {
            *out = (own + ridge).max(f32::MIN_POSITIVE);
        }
        system.apply(columns, weights, ridge, x, image);
        for (&column, &weight) in columns.iter().zip(weights) {
            let vector = system.vector(column);
            for ((sum, own), value) in residual.iter_mut().zip(&mut *diagonal).zip(vector) {
                *sum += weight * value;
                *own += weight * value * value;
            }
        }
        divide(residual, diagonal, scaled);
        let enough = SOLVED * dot(residual, scaled);
        axpy(-1.0, image, residual);
        divide(residual, diagonal, scaled);
        direction.copy_from_slice(scaled);
        let mut energy = dot(residual, scaled);
        for _ in 0..system.steps {
            if energy <= enough {
                return;
            }
            system.apply(columns, weights, ridge, direction, image);
            let step = energy / dot(direction, image);
            if !step.is_finite() {
                return;
            }
            axpy(step, direction, x);
            axpy(-step, image, residual);
            divide(residual, diagonal, scaled);
            let next = dot(residual, scaled);
            let ratio = next / energy;
            for (d, s) in direction.iter_mut().zip(&*scaled) {
                *d = s + ratio * *d;
            }
            energy = next;
        }
    }
}

/// A residual, each number in units of its diagonal.
#[inline(always)]
fn divide(residual: &[f32], diagonal: &[f32], scaled: &mut [f32]) {
    for ((out, value), own) in scaled.iter_mut().zip(residual).zip(diagonal) {
        *out = value / own;
    }
}

/// A half step: every row of `rows` is solved against `others`.
fn half(matrix: &Sparse, rows: &mut [f32], others: &mut [f32], params: &AlsParams, threads: usize) {
    let factors = params.factors;
    let mut spectrum = turn(rows, others, factors, threads);
    spectrum.iter_mut().for_each(|own| *own *= params.unobserved);
    let system = System {
        factors,
        spectrum: &spectrum,
        others,
        steps: params.steps,
    };
    let absent = params.unobserved * matrix.width() as f32;
    in_blocks(rows, factors, threads, |block, rows, work| {
        for (at, x) in rows.chunks_exact_mut(factors).enumerate() {
            let (columns, weights) = matrix.row(block * BLOCK + at);
            let ridge = params.regularization * (columns.len() as f32 + absent).powf(params.frequency);
            system.solve(columns, weights, ridge, x, work);
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
            half(interactions, &mut customers, &mut products, params, threads);
            half(&by_product, &mut products, &mut customers, params, threads);
        }
        let mut spectrum = turn(&mut [], &mut products, factors, threads);
        spectrum.iter_mut().for_each(|own| *own *= params.unobserved);
        let ridge = params.unobserved * interactions.width() as f32;
        Als {
            params: params.clone(),
            products,
            spectrum,
            ridge,
        }
    }

    /// The vector of a customer with these products.
    pub fn fold_in(&self, columns: &[u32], weights: &[f32]) -> Vec<f32> {
        let factors = self.params.factors;
        let steps = self.params.steps * 3;
        let system = System {
            factors,
            spectrum: &self.spectrum,
            others: &self.products,
            steps,
        };
        let mut x = vec![0f32; factors];
        let size = columns.len() as f32 + self.ridge;
        let ridge = self.params.regularization * size.powf(self.params.frequency);
        system.solve(columns, weights, ridge, &mut x, &mut Work::default());
        x
    }

    /// How well products fit a customer's vector.
    pub fn scores(&self, customer: &[f32], products: impl Iterator<Item = u32>) -> Vec<f32> {
        dots(customer, products.map(|product| self.row(product)))
    }

    /// How alike a product is to others.
    pub fn likeness(&self, product: u32, others: impl Iterator<Item = u32>) -> Vec<f32> {
        self.scores(self.row(product), others)
    }

    fn row(&self, product: u32) -> &[f32] {
        let at = product as usize * self.params.factors;
        &self.products[at..at + self.params.factors]
    }

    /// Whether the parts fit together: to be asked of what was read from outside.
    pub fn is_consistent(&self) -> bool {
        let factors = self.params.factors;
        factors > 0 && self.products.len().is_multiple_of(factors) && self.spectrum.len() == factors
    }

    /// How many products have a vector.
    pub fn products(&self) -> usize {
        self.products.len() / self.params.factors.max(1)
    }
}

#[cfg(test)]
mod tests;
