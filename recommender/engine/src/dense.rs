//! Vectors of numbers, multiplied eight at a time where the processor has instructions for it (AVX2), else four.
//!
//! What is summed in which order is written here and does not depend on those instructions: from equal vectors every
//! processor works out the same, to the bit.

use pulp::{Arch, NullaryFnOnce};

const LANES: usize = 16;
const _: () = assert!(LANES.is_power_of_two());

/// Does work with the widest of these instructions. What it calls must be inlined into it, or is compiled for any
/// processor.
pub(crate) fn widest<W: NullaryFnOnce>(work: W) -> W::Output {
    Arch::new().dispatch(work)
}

/// Summed in lanes, so that it can be vectorised, in an order that never changes.
#[inline(always)]
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
    // In halves: one after the other, each would wait for the one before.
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0] + rest
}

/// `y += scale x`.
#[inline(always)]
pub(crate) fn axpy(scale: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

struct Dots<'a, I> {
    vector: &'a [f32],
    others: I,
}

impl<'b, I: Iterator<Item = &'b [f32]>> NullaryFnOnce for Dots<'_, I> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        let mut dots = Vec::with_capacity(self.others.size_hint().0);
        for other in self.others {
            dots.push(dot(self.vector, other));
        }
        dots
    }
}

/// The products of a vector with others, in their order.
pub(crate) fn dots<'b>(vector: &[f32], others: impl Iterator<Item = &'b [f32]>) -> Vec<f32> {
    widest(Dots { vector, others })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(length: usize) -> (Vec<f32>, Vec<f32>) {
        let a = (0..length).map(|at| (at as f32 * 0.7).sin()).collect();
        (a, (0..length).map(|at| (at as f32 * 1.3).cos()).collect())
    }

    #[test]
    fn a_product_of_vectors_is_right_whatever_their_length() {
        for length in 0..70 {
            let (a, b) = vectors(length);
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-5, "{length}");
        }
    }

    #[test]
    fn the_widest_instructions_give_the_same_to_the_bit() {
        for length in 0..200 {
            let (a, b) = vectors(length);
            let (plain, wide) = (dot(&a, &b), dots(&a, [&b[..], &a].into_iter()));
            assert_eq!(
                [wide[0].to_bits(), wide[1].to_bits()],
                [plain.to_bits(), dot(&a, &a).to_bits()]
            );
        }
    }

    #[test]
    fn the_order_of_sums_is_written_down() {
        // Sevenths, which rounding tells apart in any other order. From a sum of 16 lanes, in halves, and the rest in turn.
        let a: Vec<f32> = (0..37).map(|at| 1.0 / (at as f32 + 7.0)).collect();
        let b: Vec<f32> = (0..37).map(|at| (at as f32 - 18.0) / 7.0).collect();
        let lane = |lane: usize| 0.0 + a[lane] * b[lane] + a[lane + 16] * b[lane + 16];
        let halves = |lanes: &[f32]| -> Vec<f32> {
            let (low, high) = lanes.split_at(lanes.len() / 2);
            low.iter().zip(high).map(|(x, y)| x + y).collect()
        };
        let mut lanes: Vec<f32> = (0..16).map(lane).collect();
        while lanes.len() > 1 {
            lanes = halves(&lanes);
        }
        let rest: f32 = (32..37).map(|at| a[at] * b[at]).sum();
        for found in [dot(&a, &b), dots(&a, [&b[..]].into_iter())[0]] {
            assert_eq!(found.to_bits(), (lanes[0] + rest).to_bits());
        }
    }
}
