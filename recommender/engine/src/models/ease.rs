//! EASE^R (Steck 2019): the best linear map from a history to itself that may not use a product to predict
//! itself, in closed form.

use faer::{Mat, Side, linalg::solvers::DenseSolveCore};

use super::ease_sparse;
use crate::matrix::{Sparse, keep_strongest};

/// Hyper-parameters of [`fit`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EaseParams {
    /// Regularisation, in customers.
    pub regularization: f32,
    /// Weights kept per product.
    pub keep: usize,
    /// The closed form is for catalogues of up to this many products: memory is 12 bytes times the square of their
    /// number.
    pub max_products: usize,
    /// In larger catalogues each product is explained by this many others, the nearest; 0 refuses them.
    pub neighborhood: usize,
}

impl Default for EaseParams {
    fn default() -> Self {
        EaseParams {
            regularization: 200.0,
            keep: 100,
            max_products: 20_000,
            neighborhood: 200,
        }
    }
}

/// Why there is no model.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EaseError {
    /// Too many products for a closed form.
    #[error(
        "{products} products are more than the {limit} that Ease is computed for in closed form; allow a neighbourhood, or \
         use ItemKnn or Rp3Beta"
    )]
    TooLarge {
        /// Products that occur in the interactions.
        products: usize,
        /// [`EaseParams::max_products`].
        limit: usize,
    },
    /// The matrix could not be factorised.
    #[error("the product counts cannot be inverted; raise the regularisation")]
    NotPositive,
}

/// Weights from each product of a history (row) to candidates (column), the strongest of each row kept.
pub fn fit(interactions: &Sparse, params: &EaseParams) -> Result<Sparse, EaseError> {
    let products = interactions.width();
    if products > params.max_products && params.neighborhood > 0 {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        return Ok(ease_sparse::fit(interactions, params, threads));
    }
    if products > params.max_products {
        return Err(EaseError::TooLarge {
            products,
            limit: params.max_products,
        });
    }
    let mut gram = Mat::<f32>::zeros(products, products);
    for customer in 0..interactions.rows() {
        let (columns, values) = interactions.row(customer);
        for (&b, &y) in columns.iter().zip(values) {
            let column = gram.col_as_slice_mut(b as usize);
            for (&a, &x) in columns.iter().zip(values) {
                column[a as usize] += x * y;
            }
        }
    }
    for at in 0..products {
        gram[(at, at)] += params.regularization;
    }
    let inverse = gram
        .llt(Side::Lower)
        .map_err(|_| EaseError::NotPositive)?
        .inverse();
    drop(gram);
    let mut weights = Sparse::new(products);
    let mut row: Vec<(u32, f32)> = Vec::with_capacity(products);
    let diagonal: Vec<f32> = (0..products).map(|at| inverse[(at, at)]).collect();
    for from in 0..products {
        row.clear();
        // The inverse is symmetric, so its column is its row; the weight to a candidate is divided by the
        // candidate's own diagonal.
        let column = inverse.col_as_slice(from);
        let weight = |to: usize| -column[to] / diagonal[to];
        row.extend(
            (0..products)
                .filter(|to| *to != from)
                .map(|to| (to as u32, weight(to))),
        );
        keep_strongest(&mut row, params.keep);
        weights.push_row(&mut row);
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_closed_form() {
        let mut matrix = Sparse::new(2);
        for row in [&mut [(0, 1.0), (1, 1.0)][..], &mut [(0, 1.0)], &mut [(1, 1.0)]] {
            matrix.push_row(row);
        }
        // G = [[2, 1], [1, 2]] + 1 on the diagonal; the inverse is [[3, -1], [-1, 3]] / 8.
        let params = EaseParams {
            regularization: 1.0,
            ..EaseParams::default()
        };
        let weights = fit(&matrix, &params).unwrap();
        let (columns, values) = weights.row(0);
        assert_eq!(columns, [1]);
        assert!((values[0] - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_catalogue_too_large_is_refused_with_a_reason() {
        let params = EaseParams {
            max_products: 1,
            neighborhood: 0,
            ..EaseParams::default()
        };
        assert_eq!(
            fit(&Sparse::new(2), &params),
            Err(EaseError::TooLarge {
                products: 2,
                limit: 1
            })
        );
    }
}
