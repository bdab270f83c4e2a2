//! EASE for catalogues that are too large for the closed form: each product is explained by the products nearest
//! to it instead of by all.
//!
//! A column of EASE's weights is a ridge regression of one product on all others (Steck 2019, section 3), and
//! the weights that matter are of products that share customers with it. So each column is solved on its own
//! over the `neighborhood` products of the largest cosine, exactly (Cholesky): the columns of SLIM with its
//! features selected by nearness (Ning and Karypis 2011, fsSLIM) and EASE's quadratic penalty. With a neighbourhood of
//! everything it is EASE.
//!
//! Cost with `p` products and a neighbourhood of `m`: `p × m³ / 6` multiplications and memory of
//! `8 × p × GRAM_ROW` bytes, in place of `p³` and `12 × p²`.

use pulp::NullaryFnOnce;

use super::ease::EaseParams;
use crate::{
    dense::{dot, widest},
    matrix::{Sparse, keep_strongest},
};

/// Counts kept of a product with others.
const GRAM_ROW: usize = 1_000;

/// Weights from each product of a history (row) to candidates (column), the strongest of each row kept. The same
/// for any number of threads.
pub(crate) fn fit(interactions: &Sparse, params: &EaseParams, threads: usize) -> Sparse {
    let products = interactions.width();
    let (gram, diagonal) = gram(interactions, threads);
    // Products by the columns that explain them.
    let explained = in_parts(products, threads, |part| {
        let mut solver = Solver::new(&gram, &diagonal, params);
        let mut rows = Sparse::new(products);
        for product in part {
            rows.push_row(&mut solver.solve(product as u32));
        }
        rows
    });
    let mut columns = Sparse::new(products);
    let mut row: Vec<(u32, f32)> = Vec::new();
    for part in &explained {
        for at in 0..part.rows() {
            row.clear();
            row.extend(part.iter_row(at));
            columns.push_row(&mut row);
        }
    }
    let by_source = columns.transposed();
    let mut weights = Sparse::new(products);
    for source in 0..products {
        row.clear();
        row.extend(by_source.iter_row(source));
        keep_strongest(&mut row, params.keep);
        weights.push_row(&mut row);
    }
    weights
}

/// Runs `work` on as many ranges of products as there are threads; the results come in order.
fn in_parts<T: Send>(
    products: usize,
    threads: usize,
    work: impl Fn(std::ops::Range<usize>) -> T + Sync,
) -> Vec<T> {
    let size = products.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..products)
            .step_by(size)
            .map(|from| {
                let work = &work;
                scope.spawn(move || work(from..(from + size).min(products)))
            })
            .collect();
        let joined = handles.into_iter().map(|handle| handle.join());
        joined
            .map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// What products have in common, the strongest of each row, and apart from it the diagonal.
fn gram(interactions: &Sparse, threads: usize) -> (Vec<Sparse>, Vec<f32>) {
    let products = interactions.width();
    let by_product = interactions.transposed();
    let parts = in_parts(products, threads, |part| {
        let mut rows = Sparse::new(products);
        let mut diagonal = Vec::with_capacity(part.len());
        let mut sums = vec![0f32; products];
        let mut touched: Vec<u32> = Vec::new();
        let mut row: Vec<(u32, f32)> = Vec::new();
        for product in part {
            for (customer, x) in by_product.iter_row(product) {
                for (other, y) in interactions.iter_row(customer as usize) {
                    let sum = &mut sums[other as usize];
                    if *sum == 0.0 {
                        touched.push(other);
                    }
                    *sum += x * y;
                }
            }
            row.clear();
            diagonal.push(sums[product]);
            for other in touched.drain(..) {
                let sum = std::mem::take(&mut sums[other as usize]);
                if other as usize != product && sum != 0.0 {
                    row.push((other, sum));
                }
            }
            keep_strongest(&mut row, GRAM_ROW);
            rows.push_row(&mut row);
        }
        (rows, diagonal)
    });
    let (rows, diagonals): (Vec<Sparse>, Vec<Vec<f32>>) = parts.into_iter().unzip();
    (rows, diagonals.concat())
}

/// Buffers of one thread.
struct Solver<'a> {
    gram: &'a [Sparse],
    /// Rows in each part of `gram` but the last.
    part: usize,
    diagonal: &'a [f32],
    params: &'a EaseParams,
    /// Position plus one in the neighbourhood, by product.
    marks: Vec<u32>,
    matrix: Vec<f32>,
}

impl<'a> Solver<'a> {
    fn new(gram: &'a [Sparse], diagonal: &'a [f32], params: &'a EaseParams) -> Self {
        Solver {
            gram,
            part: gram.first().map_or(1, |part| part.rows().max(1)),
            diagonal,
            params,
            marks: vec![0; diagonal.len()],
            matrix: Vec::new(),
        }
    }

    fn row(&self, product: u32) -> impl Iterator<Item = (u32, f32)> + use<'a> {
        let gram: &'a [Sparse] = self.gram;
        gram[product as usize / self.part].iter_row(product as usize % self.part)
    }

    /// The weights with which its neighbourhood explains a product.
    fn solve(&mut self, product: u32) -> Vec<(u32, f32)> {
        let mut near: Vec<(u32, f32)> = self
            .row(product)
            .map(|(other, count)| {
                (
                    other,
                    count / self.diagonal[other as usize].max(f32::MIN_POSITIVE).sqrt(),
                )
            })
            .collect();
        keep_strongest(&mut near, self.params.neighborhood);
        near.sort_unstable_by_key(|(other, _)| *other);
        let size = near.len();
        for (at, (other, _)) in near.iter().enumerate() {
            self.marks[*other as usize] = at as u32 + 1;
        }
        let mut right = vec![0f32; size];
        for (other, count) in self.row(product) {
            if let Some(at) = self.marks[other as usize].checked_sub(1) {
                right[at as usize] = count;
            }
        }
        self.matrix.clear();
        self.matrix.resize(size * size, 0.0);
        for (at, (other, _)) in near.iter().enumerate() {
            for (third, count) in self.row(*other) {
                if let Some(to) = self.marks[third as usize].checked_sub(1) {
                    // Kept in either row it counts in both; only what is below the diagonal is read.
                    let (low, high) = (at.min(to as usize), at.max(to as usize));
                    self.matrix[high * size + low] = count;
                }
            }
            self.matrix[at * size + at] = self.diagonal[*other as usize] + self.params.regularization;
        }
        for (other, _) in &near {
            self.marks[*other as usize] = 0;
        }
        widest(Explain {
            matrix: &mut self.matrix,
            right: &mut right,
        });
        near.iter().map(|(other, _)| *other).zip(right).collect()
    }
}

/// A system to be solved in place, with a symmetric matrix.
struct Explain<'a> {
    matrix: &'a mut [f32],
    right: &'a mut [f32],
}

impl NullaryFnOnce for Explain<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let size = self.right.len();
        cholesky(self.matrix, size);
        substitute(self.matrix, size, self.right);
    }
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor. Counts that were cut may leave a matrix
/// that is not quite positive: such a pivot is taken as small as rounding.
#[inline(always)]
fn cholesky(matrix: &mut [f32], size: usize) {
    for at in 0..size {
        let (above, rest) = matrix.split_at_mut(at * size);
        let own = &mut rest[..size];
        for to in 0..at {
            let other = &above[to * size..to * size + to + 1];
            own[to] = (own[to] - dot(&own[..to], &other[..to])) / other[to];
        }
        let pivot = own[at] - dot(&own[..at], &own[..at]);
        own[at] = pivot.max(own[at] * f32::EPSILON).max(f32::MIN_POSITIVE).sqrt();
    }
}

/// Solves `L Lᵀ x = right` in place.
#[inline(always)]
fn substitute(lower: &[f32], size: usize, right: &mut [f32]) {
    for at in 0..size {
        let row = &lower[at * size..at * size + at + 1];
        right[at] = (right[at] - dot(&row[..at], &right[..at])) / row[at];
    }
    for at in (0..size).rev() {
        let row = &lower[at * size..at * size + at + 1];
        right[at] /= row[at];
        let solved = right[at];
        for (value, factor) in right[..at].iter_mut().zip(row) {
            *value -= solved * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ease;

    fn interactions() -> Sparse {
        let mut matrix = Sparse::new(12);
        let mut state = 7u64;
        for _ in 0..60 {
            let mut row: Vec<(u32, f32)> = Vec::new();
            for product in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if (state >> 33).is_multiple_of(3) {
                    row.push((product, 1.0));
                }
            }
            matrix.push_row(&mut row);
        }
        matrix
    }

    #[test]
    fn with_a_neighbourhood_of_everything_it_is_the_closed_form() {
        let params = EaseParams {
            regularization: 5.0,
            ..EaseParams::default()
        };
        let exact = ease::fit(&interactions(), &params).expect("twelve products are few");
        let sparse = fit(&interactions(), &params, 2);
        for row in 0..12 {
            let (exact, sparse): (Vec<_>, Vec<_>) =
                (exact.iter_row(row).collect(), sparse.iter_row(row).collect());
            assert_eq!(exact.len(), sparse.len());
            for ((a, x), (b, y)) in exact.into_iter().zip(sparse) {
                assert_eq!(a, b);
                assert!((x - y).abs() < 1e-5, "{x} {y}");
            }
        }
    }

    #[test]
    fn the_model_does_not_depend_on_the_number_of_threads() {
        let params = EaseParams {
            neighborhood: 4,
            ..EaseParams::default()
        };
        assert_eq!(fit(&interactions(), &params, 1), fit(&interactions(), &params, 3));
    }
}
