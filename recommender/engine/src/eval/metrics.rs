//! Metrics of ranked answers: of relevance, and of what is shown.

use serde::Serialize;

use super::likeness::Likeness;

/// Means over all questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Hits over the products to be found.
    pub recall: f64,
    /// Discounted gain of the hits over that of the best order of min(products to be found, k).
    pub ndcg: f64,
    /// Share of questions with a hit.
    pub hit_rate: f64,
    /// Reciprocal rank of the first hit.
    pub mrr: f64,
    /// Share of the training catalogue in any answer.
    pub coverage: f64,
    /// Mean surprise of what is shown, in bits: -log2 of the share of customers who have it.
    pub novelty: f64,
    /// Mean over answers of 1 - mean pairwise cosine of what is shown, by training customers.
    pub diversity: f64,
    /// How unequally the catalogue is shown: 0 all alike, 1 a single product.
    pub gini: f64,
    /// Questions asked.
    pub users: usize,
}

/// Takes answers one by one; several collectors over parts of the questions are merged.
pub struct Collector<'a> {
    k: usize,
    likeness: &'a Likeness,
    shown: Vec<u64>,
    sums: Metrics,
    novelty: (f64, u64),
}

/// What an answer is worth: hits, discounted gain over the ideal one, and the rank of the first hit from 1.
pub(super) fn relevance(answer: &[u32], wanted: &[u32], k: usize) -> (usize, f64, Option<usize>) {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let (mut hits, mut gain, mut first) = (0usize, 0.0, None);
    for (rank, product) in answer.iter().take(k).enumerate() {
        if wanted.contains(product) {
            hits += 1;
            gain += discount(rank);
            first.get_or_insert(rank + 1);
        }
    }
    let ideal: f64 = (0..wanted.len().min(k)).map(discount).sum();
    (hits, gain / ideal, first)
}

impl<'a> Collector<'a> {
    /// Of answers of `k` products.
    pub fn new(k: usize, likeness: &'a Likeness) -> Self {
        Collector {
            k,
            likeness,
            shown: vec![0; likeness.products()],
            sums: Metrics::default(),
            novelty: (0.0, 0),
        }
    }

    /// Takes one answer, best first and of distinct products; the products to be found are `wanted`, of
    /// which there is at least one.
    pub fn add(&mut self, answer: &[u32], wanted: &[u32]) {
        let answer = &answer[..answer.len().min(self.k)];
        let (hits, gain, first) = relevance(answer, wanted, self.k);
        self.sums.recall += hits as f64 / wanted.len() as f64;
        self.sums.ndcg += gain;
        self.sums.hit_rate += f64::from(u8::from(hits > 0));
        self.sums.mrr += first.map_or(0.0, |rank| 1.0 / rank as f64);
        self.sums.diversity += self.spread(answer);
        self.sums.users += 1;
        for &product in answer {
            let Some(shown) = self.shown.get_mut(product as usize) else {
                continue;
            };
            *shown += 1;
            if let Some(bits) = self.likeness.surprise(product) {
                self.novelty.0 += bits;
                self.novelty.1 += 1;
            }
        }
    }

    fn spread(&self, answer: &[u32]) -> f64 {
        let (mut sum, mut pairs) = (0.0, 0u32);
        for (at, &a) in answer.iter().enumerate() {
            for &b in &answer[at + 1..] {
                pairs += 1;
                sum += self.likeness.cosine(a, b);
            }
        }
        if pairs == 0 {
            0.0
        } else {
            1.0 - sum / f64::from(pairs)
        }
    }

    /// Takes over what another collector of the same data was told.
    pub fn merge(&mut self, other: Collector<'_>) {
        for (shown, more) in self.shown.iter_mut().zip(other.shown) {
            *shown += more;
        }
        self.sums.recall += other.sums.recall;
        self.sums.ndcg += other.sums.ndcg;
        self.sums.hit_rate += other.sums.hit_rate;
        self.sums.mrr += other.sums.mrr;
        self.sums.diversity += other.sums.diversity;
        self.sums.users += other.sums.users;
        self.novelty.0 += other.novelty.0;
        self.novelty.1 += other.novelty.1;
    }

    /// The means.
    pub fn finish(self) -> Metrics {
        let questions = (self.sums.users.max(1)) as f64;
        let catalogue = self.likeness.catalogue();
        // A product outside of the catalogue (only ever sent back) can be shown, but covers nothing.
        let mut shown: Vec<u64> = catalogue.iter().map(|&id| self.shown[id as usize]).collect();
        let covered = shown.iter().filter(|shown| **shown > 0).count();
        shown.sort_unstable();
        Metrics {
            recall: self.sums.recall / questions,
            ndcg: self.sums.ndcg / questions,
            hit_rate: self.sums.hit_rate / questions,
            mrr: self.sums.mrr / questions,
            coverage: covered as f64 / shown.len().max(1) as f64,
            novelty: self.novelty.0 / self.novelty.1.max(1) as f64,
            diversity: self.sums.diversity / questions,
            gini: gini(&shown),
            users: self.sums.users,
        }
    }
}

/// Of ascending counts.
fn gini(ascending: &[u64]) -> f64 {
    let total: u64 = ascending.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let n = ascending.len() as f64;
    let weighted: f64 = ascending
        .iter()
        .enumerate()
        .map(|(at, count)| (at + 1) as f64 * *count as f64)
        .sum();
    (2.0 * weighted / (n * total as f64)) - (n + 1.0) / n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four_products() -> Likeness {
        Likeness::new(vec![vec![0, 1], vec![0], vec![1], vec![0, 1]], 2)
    }

    #[test]
    fn a_hit_on_rank_two_of_two_wanted_scores_as_by_hand() {
        let likeness = four_products();
        let mut collector = Collector::new(2, &likeness);
        collector.add(&[0, 1, 2], &[1, 2]);
        let metrics = collector.finish();
        let ideal = 1.0 + 1.0 / 3f64.log2();
        assert!((metrics.recall - 0.5).abs() < 1e-12);
        assert!((metrics.ndcg - (1.0 / 3f64.log2()) / ideal).abs() < 1e-12);
        assert_eq!((metrics.hit_rate, metrics.mrr, metrics.coverage), (1.0, 0.5, 0.5));
        // Product 0 has both customers (0 bits), product 1 one of two (1 bit).
        assert!((metrics.novelty - 0.5).abs() < 1e-12);
        assert!((metrics.diversity - (1.0 - 1.0 / 2f64.sqrt())).abs() < 1e-12);
        assert!((metrics.gini - 0.5).abs() < 1e-12);
    }

    #[test]
    fn means_are_over_questions_and_the_ideal_gain_stops_at_k() {
        let likeness = four_products();
        let mut collector = Collector::new(2, &likeness);
        // Both places hit, of three wanted: recall 2/3, a perfect order.
        collector.add(&[1, 2], &[0, 1, 2]);
        // No hit; an answer of one product has no pairs, and no variety.
        collector.add(&[3], &[0]);
        let metrics = collector.finish();
        assert!((metrics.recall - 1.0 / 3.0).abs() < 1e-12);
        assert!((metrics.ndcg - 0.5).abs() < 1e-12);
        assert_eq!(
            (metrics.hit_rate, metrics.mrr, metrics.coverage),
            (0.5, 0.5, 0.75)
        );
        // Products 1 and 2 have no customer in common: 1 - 0 for the first answer, 0 for the second.
        assert!((metrics.diversity - 0.5).abs() < 1e-12);
        // Shown once each but product 0: ascending 0 1 1 1, Gini 2 (2 + 3 + 4) / (4 * 3) - 5 / 4.
        assert!((metrics.gini - 0.25).abs() < 1e-12);
    }

    #[test]
    fn parts_merged_are_the_whole() {
        let likeness = four_products();
        let answers = [([0, 1], [1, 2]), ([2, 3], [3, 0]), ([1, 3], [0, 2])];
        let mut whole = Collector::new(2, &likeness);
        let mut parts = Collector::new(2, &likeness);
        for (answer, wanted) in &answers {
            whole.add(answer, wanted);
            let mut part = Collector::new(2, &likeness);
            part.add(answer, wanted);
            parts.merge(part);
        }
        assert_eq!(whole.finish(), parts.finish());
    }
}
