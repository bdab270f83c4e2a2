//! The shape of a data set, and what hyper-parameters follow from it before anything is searched.

use super::{als::AlsParams, ease::EaseParams};
use crate::matrix::Sparse;

/// Who has what, in numbers.
///
/// The rules below are straight lines through what a search finds on validation sets of six public data sets, from check-ins
/// (.07 % of all pairs are known) over books, music and gifts to films (4.4 %). They are where to start, and within a
/// few per cent of what is found by a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Customers with a product.
    pub customers: usize,
    /// Products with a customer.
    pub products: usize,
    /// Pairs of both.
    pub pairs: usize,
}

impl Shape {
    /// Of interactions, customers by products.
    pub fn of(interactions: &Sparse) -> Shape {
        Shape {
            customers: interactions.rows(),
            products: interactions.width(),
            pairs: interactions.entries(),
        }
    }

    /// The share of all pairs that is known.
    fn density(self) -> f64 {
        self.pairs as f64 / (self.customers as f64 * self.products as f64).max(1.0)
    }

    /// How much `Rp3Beta` holds frequent candidates back. Where everyone knows everything, what is frequent says
    /// little about anybody.
    pub fn walk_beta(self) -> f32 {
        (0.2 + 14.0 * self.density()).min(0.8) as f32
    }

    /// `ImplicitAls`: what was not observed counts the more the more has been observed, so that both sides stay in
    /// proportion (Rendle et al. 2021 found 0.02 at .14 % and 0.1 at .5 %), and many observations of few products
    /// want more regularisation.
    pub fn als(self) -> AlsParams {
        let density = self.density();
        AlsParams {
            unobserved: (10.0 * density).clamp(0.01, 0.5) as f32,
            regularization: (0.004 + 0.15 * density).min(0.02) as f32,
            ..AlsParams::default()
        }
    }

    /// `ImplicitAls` where all that counts is what is found: in large catalogues 128 factors find a tenth less than
    /// 256 do, in small ones more than 64 learn by heart.
    pub fn als_factors(self) -> usize {
        (self.products / 50).clamp(64, 256).next_multiple_of(16)
    }

    /// `Ease`: the regularisation, in customers, grows with the root of how many customers a product has.
    pub fn ease(self) -> EaseParams {
        let customers = self.pairs as f64 / self.products.max(1) as f64;
        EaseParams {
            regularization: (15.0 * customers.sqrt()).clamp(20.0, 1_000.0) as f32,
            ..EaseParams::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_data_is_regularised_more_and_its_frequent_products_are_held_back() {
        let check_ins = Shape {
            customers: 29_858,
            products: 40_981,
            pairs: 810_128,
        };
        let films = Shape {
            customers: 6_022,
            products: 3_043,
            pairs: 796_244,
        };
        assert!((check_ins.walk_beta() - 0.21).abs() < 0.01 && films.walk_beta() > 0.79);
        assert_eq!(check_ins.als().unobserved, 0.01);
        assert!((films.als().unobserved - 0.43).abs() < 0.01);
        assert_eq!((check_ins.als_factors(), films.als_factors()), (256, 64));
        assert!(check_ins.ease().regularization < 70.0 && films.ease().regularization > 240.0);
    }

    #[test]
    fn no_data_has_a_shape_too() {
        let none = Shape {
            customers: 0,
            products: 0,
            pairs: 0,
        };
        assert_eq!((none.walk_beta(), none.als().unobserved), (0.2, 0.01));
        assert_eq!(none.ease().regularization, 20.0);
    }
}
