//! Counting which products interest the same customers, of all customers at once.

use super::{Loaded, in_parts};
use crate::{counts::share, rows::Row, writer::Writer};

/// Products whose rows a thread sums up before it takes others: some are of nearly all customers.
const PRODUCTS_AT_ONCE: usize = 16;

/// A customer whom a product interests.
#[derive(Clone, Copy, Default)]
struct Interested {
    /// Where what is counted of the customer begins. (Events are numbered in as many bits.)
    start: u32,
    length: u32,
    /// In the product, times [`share`]: 16 bits and 15.
    interest: u32,
}

/// What a thread sums rows up with.
struct Sums {
    of: Vec<i64>,
    touched: Vec<u32>,
    counts: Vec<(u32, i64)>,
    cut: bool,
    pairs: i64,
}

impl Sums {
    fn new(products: usize) -> Self {
        Sums {
            of: vec![0; products],
            touched: Vec::new(),
            counts: Vec::new(),
            cut: false,
            pairs: 0,
        }
    }
}

impl Writer {
    /// Row by row: every row is summed up densely, touching each pair once per customer and row.
    pub(super) fn count_pairs(&mut self, customers: &[Loaded], threads: usize) {
        let (products, window) = (self.names.len(), self.config.limits.pair_history);
        let (damping, capacity) = (self.config.damping, self.config.limits.row_capacity);
        // What is counted of each customer lies side by side: a row reads that of many of them, in no order that
        // memory would favour, and nothing else.
        let mut lines: Vec<(u32, u16)> = Vec::new();
        let mut ends: Vec<usize> = Vec::with_capacity(customers.len());
        let mut starts = vec![0usize; products + 1];
        for Loaded { history, .. } in customers {
            for entry in history.counted(window).filter(|entry| entry.interest > 0) {
                lines.push((entry.product, entry.interest));
                starts[entry.product as usize + 1] += 1;
            }
            ends.push(lines.len());
        }
        for at in 0..products {
            starts[at + 1] += starts[at];
        }
        let mut fill = starts.clone();
        let mut interested = vec![Interested::default(); starts[products]];
        let mut start = 0;
        for (Loaded { history, .. }, end) in customers.iter().zip(ends) {
            let share = share(history.degree, damping);
            for &(product, interest) in &lines[start..end] {
                let at = &mut fill[product as usize];
                interested[*at] = Interested {
                    start: start as u32,
                    length: (end - start) as u32,
                    interest: u32::from(interest) * share as u32,
                };
                *at += 1;
            }
            start = end;
        }
        let count = |sums: &mut Sums, first: usize, rows: &mut [Row]| {
            for (product, counted) in (first..).zip(rows) {
                for one in &interested[starts[product]..starts[product + 1]] {
                    let (start, interest) = (one.start as usize, i64::from(one.interest));
                    for &(other, its) in &lines[start..start + one.length as usize] {
                        let sum = &mut sums.of[other as usize];
                        if *sum == 0 {
                            sums.touched.push(other);
                        }
                        *sum += interest * i64::from(its);
                    }
                }
                sums.counts.clear();
                for other in sums.touched.drain(..) {
                    let sum = std::mem::take(&mut sums.of[other as usize]);
                    if other as usize != product {
                        sums.counts.push((other, sum));
                    }
                }
                let mut row = Row::from_counts(&sums.counts, products);
                sums.cut |= row.prune(capacity, products) > 0;
                sums.pairs += row.len() as i64;
                *counted = row;
            }
        };
        let new = || Sums::new(products);
        for sums in in_parts(&mut self.counts.rows, PRODUCTS_AT_ONCE, threads, new, count) {
            self.counts.cut |= sums.cut;
            self.counts.pairs += sums.pairs;
        }
    }
}
