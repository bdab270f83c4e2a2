//! Nearest products by the catalogue's embeddings.
//!
//! All of one catalogue have the same length; the most common length is the catalogue's, and vectors of another
//! (or with a number that is not finite, or of zeros only) are counted and otherwise ignored.
//!
//! Cost of an answer, with `n` vectors of `d` numbers: up to `n × d` of two millions each is compared, `n × d`
//! multiplications (a millisecond at the limit). Above that, signatures of 128 bits (signs of random
//! projections, Charikar 2002) choose the `NEAR` that are compared: `16 n` bytes are read and `NEAR × d`
//! multiplications done. Vectors are not copied: the index takes 48 bytes a product beside the catalogue.

use std::sync::Arc;

use ahash::AHashMap;

use super::Basis;
use crate::{
    dense::{dot, dots},
    scratch::{NO_SOURCE, Scratch},
    shared::StoredMeta,
};

/// Numbers that are compared exactly.
const EXACT: usize = 2_000_000;
/// Vectors compared exactly when there are more.
const NEAR: usize = 2_000;
/// Products that get a score.
const FOUND: usize = 500;

/// Where a vector points, coarsely: one bit for each of 128 fixed directions.
pub(crate) type Signature = u128;

/// Catalogue embeddings by product.
#[derive(Debug, Default)]
pub(crate) struct Embeddings {
    length: usize,
    vectors: Vec<Embedded>,
    /// Position in `vectors` by product.
    at: AHashMap<u32, u32>,
    /// Mean direction: what all products have in common says nothing about any.
    mean: Vec<f32>,
    /// Vectors that were ignored.
    pub ignored: usize,
}

struct Embedded {
    product: u32,
    /// One over the length of the vector.
    scale: f32,
    signature: Signature,
    stored: Arc<StoredMeta>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded({})", self.product)
    }
}

impl Embedded {
    fn vector(&self) -> &[f32] {
        self.stored.meta.embedding.as_deref().unwrap_or_default()
    }
}

/// One over a vector's length; none for one that points nowhere.
fn scale(vector: &[f32]) -> Option<f32> {
    let squared = dot(vector, vector);
    (squared.is_finite() && squared > 0.0)
        .then(|| 1.0 / squared.sqrt())
        .filter(|scale| scale.is_finite())
}

/// The signature of a vector: worked out once, when the catalogue tells of it.
pub(crate) fn signature(vector: &[f32]) -> Signature {
    let mut bits = 0;
    for bit in 0..Signature::BITS {
        let mut sum = 0.0;
        for (chunk, values) in vector.chunks(64).enumerate() {
            // Sixty-four random signs at once; the same ones on every replica.
            let mut signs = mix(u64::from(bit) << 32 | chunk as u64);
            for value in values {
                sum += if signs & 1 == 0 { *value } else { -value };
                signs >>= 1;
            }
        }
        bits |= Signature::from(sum > 0.0) << bit;
    }
    bits
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Embeddings {
    /// Takes up the vectors of a catalogue, in the order of product ids.
    pub fn build(products: &[Option<Arc<StoredMeta>>]) -> Embeddings {
        let given = || {
            products.iter().enumerate().filter_map(|(id, stored)| {
                let stored = stored.as_ref()?;
                let vector = stored.meta.embedding.as_deref()?;
                Some((id as u32, stored, vector))
            })
        };
        let mut lengths: AHashMap<usize, usize> = AHashMap::new();
        for (_, _, vector) in given() {
            *lengths.entry(vector.len()).or_default() += 1;
        }
        // Of lengths that are equally common the shorter.
        let common = lengths
            .iter()
            .max_by_key(|(length, count)| (**count, usize::MAX - **length));
        let Some((&length, _)) = common.filter(|(length, _)| **length > 0) else {
            return Embeddings {
                ignored: given().count(),
                ..Embeddings::default()
            };
        };
        let mut embeddings = Embeddings {
            length,
            mean: vec![0.0; length],
            ..Embeddings::default()
        };
        for (product, stored, vector) in given() {
            match scale(vector).filter(|_| vector.len() == length) {
                Some(scale) => {
                    for (mean, value) in embeddings.mean.iter_mut().zip(vector) {
                        *mean += scale * value;
                    }
                    embeddings.at.insert(product, embeddings.vectors.len() as u32);
                    embeddings.vectors.push(Embedded {
                        product,
                        scale,
                        signature: stored.signature,
                        stored: Arc::clone(stored),
                    });
                }
                None => embeddings.ignored += 1,
            }
        }
        for mean in &mut embeddings.mean {
            *mean /= embeddings.vectors.len().max(1) as f32;
        }
        embeddings
    }

    fn of(&self, product: u32) -> Option<&Embedded> {
        self.at.get(&product).map(|at| &self.vectors[*at as usize])
    }

    /// The vector of a product, as the catalogue gives it.
    pub fn vector(&self, product: u32) -> Option<&[f32]> {
        self.of(product).map(Embedded::vector)
    }

    /// All products, each with the product of its vector and this one.
    pub fn products_by_dot(&self, vector: &[f32]) -> Vec<(u32, f32)> {
        if vector.len() != self.length {
            return Vec::new();
        }
        let scores = dots(vector, self.vectors.iter().map(Embedded::vector));
        let products = self.vectors.iter().map(|known| known.product);
        products
            .zip(scores)
            .filter(|(_, score)| score.is_finite())
            .collect()
    }

    /// The vector of a product as a direction.
    pub fn direction(&self, product: u32) -> Option<impl Iterator<Item = f32> + '_> {
        let known = self.of(product)?;
        Some(known.vector().iter().map(|value| value * known.scale))
    }

    /// Cosine of two products.
    pub fn likeness(&self, a: u32, b: u32) -> Option<f32> {
        let (a, b) = (self.of(a)?, self.of(b)?);
        Some(dot(a.vector(), b.vector()) * a.scale * b.scale)
    }

    /// Adds products that are more like the basis than the mean product is, by how much more.
    pub fn score(&self, basis: &[Basis], scratch: &mut Scratch) {
        let mut taste = vec![0f32; self.length];
        let (mut source, mut strongest) = (NO_SOURCE, 0.0);
        for from in basis {
            let Some(direction) = self.direction(from.product) else {
                continue;
            };
            for (sum, value) in taste.iter_mut().zip(direction) {
                *sum += from.weight * value;
            }
            if from.weight > strongest {
                (source, strongest) = (from.product, from.weight);
            }
        }
        if source != NO_SOURCE {
            for (product, score) in self.nearest(&taste) {
                scratch.add(product, score, source);
            }
        }
    }

    /// The products nearest to a direction, with how much nearer they are than the mean, nearest first.
    pub fn nearest(&self, taste: &[f32]) -> Vec<(u32, f32)> {
        if taste.len() != self.length || self.length == 0 {
            return Vec::new();
        }
        let common = dot(taste, &self.mean);
        let near: Vec<&Embedded> = if self.vectors.len() * self.length <= EXACT {
            self.vectors.iter().collect()
        } else {
            self.near(signature(taste)).collect()
        };
        let scores = dots(taste, near.iter().map(|known| known.vector()));
        let score = |(known, score): (&Embedded, f32)| (known.product, score * known.scale - common);
        let mut found: Vec<(u32, f32)> = near.into_iter().zip(scores).map(score).collect();
        found.retain(|(_, score)| score.is_finite() && *score > 0.0);
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if found.len() > FOUND {
            found.select_nth_unstable_by(FOUND, order);
            found.truncate(FOUND);
        }
        found.sort_unstable_by(order);
        found
    }

    /// The vectors whose signatures differ least, at least [`NEAR`] of them where there are so many.
    fn near(&self, signature: Signature) -> impl Iterator<Item = &Embedded> {
        let distance = move |known: &Embedded| (known.signature ^ signature).count_ones();
        let mut histogram = [0usize; Signature::BITS as usize + 1];
        for known in &self.vectors {
            histogram[distance(known) as usize] += 1;
        }
        let mut reached = 0;
        let farthest = histogram.iter().position(|count| {
            reached += count;
            reached >= NEAR
        });
        let farthest = farthest.unwrap_or(histogram.len()) as u32;
        // Of the farthest distance only as many as are needed: thousands may have it.
        let mut room = 2 * NEAR;
        self.vectors.iter().filter(move |known| {
            let distance = distance(known);
            let taken = distance < farthest || distance == farthest && room > 0;
            room -= usize::from(taken && room > 0);
            taken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ProductMeta;

    fn catalogue(vectors: &[Option<Vec<f32>>]) -> Vec<Option<Arc<StoredMeta>>> {
        let stored = |vector: &Option<Vec<f32>>| {
            Some(Arc::new(StoredMeta::new(ProductMeta {
                embedding: vector.clone(),
                ..ProductMeta::titled("x")
            })))
        };
        vectors.iter().map(stored).collect()
    }

    #[test]
    fn vectors_of_another_length_or_without_direction_are_counted_and_ignored() {
        let embeddings = Embeddings::build(&catalogue(&[
            Some(vec![1.0, 0.0]),
            Some(vec![3.0, 4.0]),
            Some(vec![1.0, 0.0, 0.0]),
            Some(vec![0.0, 0.0]),
            Some(vec![f32::NAN, 1.0]),
            None,
        ]));
        assert_eq!((embeddings.ignored, embeddings.vectors.len()), (3, 2));
        assert_eq!(embeddings.likeness(0, 1), Some(0.6));
        assert_eq!(embeddings.likeness(0, 2), None);
    }

    #[test]
    fn signatures_find_the_neighbours_that_comparing_everything_finds() {
        // Clusters of products in 64 dimensions, more of them than are compared one by one.
        let number = |seed: usize| (mix(seed as u64) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        let vectors: Vec<Option<Vec<f32>>> = (0..40_000)
            .map(|id| {
                let center = id % 400;
                let value = |at: usize| number(center * 64 + at) + 0.5 * number((1 << 40) | (id * 64 + at));
                Some((0..64).map(value).collect())
            })
            .collect();
        let embeddings = Embeddings::build(&catalogue(&vectors));
        assert!(embeddings.vectors.len() * 64 > EXACT);
        let taste = vectors[7].clone().unwrap();
        let found: Vec<u32> = embeddings.nearest(&taste).iter().map(|(id, _)| *id).collect();
        let of_the_cluster = found.iter().take(100).filter(|id| **id % 400 == 7).count();
        assert!(of_the_cluster >= 98, "{of_the_cluster}");
    }
}
