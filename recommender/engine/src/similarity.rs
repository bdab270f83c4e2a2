//! How alike `ItemKnn` takes two products to be: both ways are worked out from the same integer counts when a
//! list is published, so either equals what a batch over the whole log would say.

use serde::{Deserialize, Serialize};

/// The measure of likeness behind `ItemKnn` and "similar products".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// Cosine of the customers' interests, with shrinkage in its denominator.
    #[default]
    #[serde(alias = "Cosine")]
    Cosine,
    /// Common customers weighted by BM25's length normalisation of both products. Scores are not bounded by 1.
    #[serde(alias = "Bm25", alias = "BM25")]
    Bm25,
}

/// Parameters of [`Similarity::Bm25`] (Robertson and Zaragoza 2009, section 3.4), with products as documents and
/// customers as terms. Two of its three parts are in the counts already: repeated events saturate by
/// [`crate::Repeats`], and customers of many products count less by `damping`. What is left is the length of
/// the document.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bm25 {
    /// How slowly a product's weight falls with its length: a large value makes it fall as `1 / length`.
    pub k1: f32,
    /// How much length matters at all, between 0 and 1.
    pub b: f32,
}

impl Default for Bm25 {
    fn default() -> Self {
        Bm25 { k1: 10.0, b: 0.5 }
    }
}

/// BM25 with the mean length of the products as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    bm25: Bm25,
    mean: f32,
}

impl Lengths {
    /// Measures the mean of the products that have customers at all.
    pub fn measure(bm25: Bm25, degrees: &[i64]) -> Lengths {
        let (mut sum, mut products) = (0i64, 0i64);
        for degree in degrees.iter().filter(|degree| **degree > 0) {
            sum += degree;
            products += 1;
        }
        // In integers up to here, so that the order in which products became known does not matter.
        let mean = (sum as f64 / products.max(1) as f64) as f32;
        Lengths {
            bm25,
            mean: mean.max(f32::MIN_POSITIVE),
        }
    }

    /// What a customer of a product with this summed interest counts for it: 1 at the mean length.
    pub fn weight(&self, degree: i64) -> f32 {
        let Bm25 { k1, b } = self.bm25;
        let length = 1.0 - b + b * degree as f32 / self.mean;
        (k1 + 1.0) / (k1 * length + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_of_mean_length_counts_one_and_longer_ones_less() {
        let lengths = Lengths::measure(Bm25 { k1: 1.0, b: 0.5 }, &[0, 16, 48]);
        // Mean 32. At 96: 1 - 0.5 + 0.5 * 3 = 2, so 2 / (2 + 1).
        assert_eq!([32, 96].map(|degree| lengths.weight(degree)), [1.0, 2.0 / 3.0]);
    }
}
