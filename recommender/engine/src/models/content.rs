//! TF-IDF over title, category and tags, and the catalogue's embeddings where given: new products can be
//! recommended before their first event.
//!
//! An answer reads `TERMS` posting lists of at most `POSTINGS` products, and the embeddings as
//! [`crate::models::embedding`] says.

use ahash::AHashMap;

use std::sync::Arc;

use super::{Basis, Model, Question, embedding::Embeddings};
use crate::{
    event::ProductMeta,
    matrix::{Sparse, keep_strongest},
    scratch::{Candidate, NO_SOURCE, Scratch},
    shared::StoredMeta,
};

/// Products looked at for a term: the ones that it says most about.
const POSTINGS: usize = 500;
/// Terms of the customer's taste that are looked up.
const TERMS: usize = 24;
/// A term in the category or the tags says more than one in the title.
const LABEL_WEIGHT: f32 = 2.0;

/// Terms by product and products by term.
#[derive(Debug, Default)]
pub(crate) struct ContentIndex {
    vectors: Sparse,
    postings: Sparse,
    pub embeddings: Embeddings,
}

impl ContentIndex {
    /// Indexes what the catalogue says, in the order of product ids.
    pub fn build(products: &[Option<Arc<StoredMeta>>]) -> ContentIndex {
        let mut terms: AHashMap<String, u32> = AHashMap::new();
        let mut frequency: Vec<f32> = Vec::new();
        let mut rows: Vec<Vec<(u32, f32)>> = Vec::new();
        for stored in products {
            let mut row: AHashMap<u32, f32> = AHashMap::new();
            let described = stored.as_ref().map(|stored| words(&stored.meta));
            for (word, weight) in described.into_iter().flatten() {
                let next = terms.len() as u32;
                let term = *terms.entry(word).or_insert(next);
                *row.entry(term).or_default() += weight;
            }
            frequency.resize(terms.len(), 0.0);
            for term in row.keys() {
                frequency[*term as usize] += 1.0;
            }
            rows.push(row.into_iter().collect());
        }
        let described = rows.iter().filter(|row| !row.is_empty()).count() as f32;
        let mut vectors = Sparse::new(terms.len());
        for row in &mut rows {
            row.sort_unstable_by_key(|(term, _)| *term);
            for (term, weight) in row.iter_mut() {
                *weight = (1.0 + weight.ln()) * ((1.0 + described) / (1.0 + frequency[*term as usize])).ln();
            }
            let norm = row
                .iter()
                .map(|(_, weight)| weight * weight)
                .sum::<f32>()
                .sqrt()
                .max(f32::MIN_POSITIVE);
            for (_, weight) in row.iter_mut() {
                *weight /= norm;
            }
            vectors.push_row(row);
        }
        let by_term = vectors.transposed();
        let mut postings = Sparse::new(rows.len());
        for term in 0..by_term.rows() {
            let mut list: Vec<(u32, f32)> = by_term.iter_row(term).collect();
            keep_strongest(&mut list, POSTINGS);
            postings.push_row(&mut list);
        }
        ContentIndex {
            vectors,
            postings,
            embeddings: Embeddings::build(products),
        }
    }

    /// Adds what is like the products of `basis`, by words and by embeddings.
    pub fn score(&self, basis: &[Basis], scratch: &mut Scratch) {
        // The strongest terms of the taste, each with the product that brought most of it.
        let mut taste: AHashMap<u32, (f32, f32, u32)> = AHashMap::new();
        for from in basis
            .iter()
            .filter(|from| (from.product as usize) < self.vectors.rows())
        {
            for (term, weight) in self.vectors.iter_row(from.product as usize) {
                let part = weight * from.weight;
                let (sum, largest, source) = taste.entry(term).or_insert((0.0, 0.0, from.product));
                *sum += part;
                if part > *largest {
                    (*largest, *source) = (part, from.product);
                }
            }
        }
        let mut terms: Vec<(u32, (f32, f32, u32))> = taste.into_iter().collect();
        terms.sort_unstable_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(&b.0)));
        for (term, (weight, _, source)) in terms.into_iter().take(TERMS) {
            for (product, value) in self.postings.iter_row(term as usize) {
                scratch.add(product, weight * value, source);
            }
        }
        self.embeddings.score(basis, scratch);
    }

    /// Cosine of two products by words and by embeddings, added up.
    pub fn likeness(&self, a: u32, b: u32) -> f32 {
        let row = |product: u32| {
            let known = (product as usize) < self.vectors.rows();
            known.then(|| self.vectors.row(product as usize))
        };
        let words = match (row(a), row(b)) {
            (Some(a), Some(b)) => sparse_dot(a, b),
            _ => 0.0,
        };
        words + self.embeddings.likeness(a, b).unwrap_or_default()
    }
}

/// Of rows with ascending columns.
fn sparse_dot(a: (&[u32], &[f32]), b: (&[u32], &[f32])) -> f32 {
    let (mut at, mut sum) = (0, 0.0);
    for (column, value) in a.0.iter().zip(a.1) {
        at += b.0[at..].partition_point(|other| other < column);
        if b.0.get(at) == Some(column) {
            sum += value * b.1[at];
        }
    }
    sum
}

fn words(meta: &ProductMeta) -> impl Iterator<Item = (String, f32)> + '_ {
    let split = |text: &str| -> Vec<String> {
        let words = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 1);
        words.map(str::to_lowercase).collect()
    };
    let title = meta
        .title
        .iter()
        .flat_map(move |text| split(text))
        .map(|word| (word, 1.0));
    let labels = meta.category.iter().chain(&meta.tags);
    // A label is a term as a whole, apart from the same word in a title.
    title.chain(labels.map(|label| (format!("\u{1}{}", label.to_lowercase()), LABEL_WEIGHT)))
}

pub(crate) struct Content;

impl Model for Content {
    fn score(&self, question: &Question<'_>, scratch: &mut Scratch) {
        question.shared.content.load().score(question.basis, scratch);
    }

    /// The product of the basis that the candidate is most like, weight considered.
    fn source(&self, question: &Question<'_>, candidate: &Candidate) -> u32 {
        let index = question.shared.content.load();
        let part = |from: &Basis| from.weight * index.likeness(from.product, candidate.product);
        let best = question.basis.iter().max_by(|a, b| part(a).total_cmp(&part(b)));
        best.map_or(NO_SOURCE, |from| from.product)
    }
}
