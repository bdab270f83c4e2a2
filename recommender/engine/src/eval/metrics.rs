//! Metrics of ranked answers: of relevance, and of what is shown.

use serde::Serialize;

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

/// Takes answers one by one.
pub struct Collector<'a> {
    k: usize,
    /// Customers of each product in training, ascending.
    buyers: &'a [Vec<u32>],
    customers: usize,
    catalogue: usize,
    shown: Vec<u64>,
    sums: Metrics,
    novelty: (f64, u64),
}

impl<'a> Collector<'a> {
    /// `buyers` are the training customers of each product, ascending and distinct; `catalogue` is how many
    /// products count for coverage and Gini.
    pub fn new(k: usize, buyers: &'a [Vec<u32>], customers: usize, catalogue: usize) -> Self {
        let shown = vec![0; buyers.len()];
        Collector {
            k,
            buyers,
            customers,
            catalogue,
            shown,
            sums: Metrics::default(),
            novelty: (0.0, 0),
        }
    }

    /// Takes one answer, best first and of distinct products; the products to be found are `wanted`, of
    /// which there is at least one.
    pub fn add(&mut self, answer: &[u32], wanted: &[u32]) {
        let answer = &answer[..answer.len().min(self.k)];
        let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let (mut hits, mut gain, mut first) = (0usize, 0.0, None);
        for (rank, product) in answer.iter().enumerate() {
            if wanted.contains(product) {
                hits += 1;
                gain += discount(rank);
                first.get_or_insert(rank);
            }
        }
        let ideal: f64 = (0..wanted.len().min(self.k)).map(discount).sum();
        self.sums.recall += hits as f64 / wanted.len() as f64;
        self.sums.ndcg += gain / ideal;
        self.sums.hit_rate += f64::from(u8::from(hits > 0));
        self.sums.mrr += first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64);
        self.sums.diversity += self.spread(answer);
        self.sums.users += 1;
        for &product in answer {
            let Some(buyers) = self.buyers.get(product as usize) else {
                continue;
            };
            self.shown[product as usize] += 1;
            if !buyers.is_empty() {
                self.novelty.0 -= (buyers.len() as f64 / self.customers as f64).log2();
                self.novelty.1 += 1;
            }
        }
    }

    fn spread(&self, answer: &[u32]) -> f64 {
        let (mut sum, mut pairs) = (0.0, 0u32);
        for (at, &a) in answer.iter().enumerate() {
            for &b in &answer[at + 1..] {
                pairs += 1;
                if let (Some(a), Some(b)) = (self.buyers.get(a as usize), self.buyers.get(b as usize)) {
                    sum += cosine(a, b);
                }
            }
        }
        if pairs == 0 {
            0.0
        } else {
            1.0 - sum / f64::from(pairs)
        }
    }

    /// The means.
    pub fn finish(mut self) -> Metrics {
        let questions = (self.sums.users.max(1)) as f64;
        let covered = self.shown.iter().filter(|shown| **shown > 0).count();
        self.shown.sort_unstable();
        // Products outside the catalogue were never bought: they are the zeros in front.
        let from = self.shown.len().saturating_sub(self.catalogue);
        Metrics {
            recall: self.sums.recall / questions,
            ndcg: self.sums.ndcg / questions,
            hit_rate: self.sums.hit_rate / questions,
            mrr: self.sums.mrr / questions,
            coverage: covered as f64 / self.catalogue.max(1) as f64,
            novelty: self.novelty.0 / self.novelty.1.max(1) as f64,
            diversity: self.sums.diversity / questions,
            gini: gini(&self.shown[from..]),
            users: self.sums.users,
        }
    }
}

fn cosine(a: &[u32], b: &[u32]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        let order = a[i].cmp(&b[j]);
        common += usize::from(order.is_eq());
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
    common as f64 / ((a.len() * b.len()) as f64).sqrt()
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

    #[test]
    fn a_hit_on_rank_two_of_two_wanted_scores_as_by_hand() {
        let buyers = vec![vec![0, 1], vec![0], vec![1], vec![0, 1]];
        let mut collector = Collector::new(2, &buyers, 2, 4);
        collector.add(&[0, 1, 2], &[1, 2]);
        let metrics = collector.finish();
        let ideal = 1.0 + 1.0 / 3f64.log2();
        assert!((metrics.recall - 0.5).abs() < 1e-12);
        assert!((metrics.ndcg - (1.0 / 3f64.log2()) / ideal).abs() < 1e-12);
        assert_eq!((metrics.hit_rate, metrics.mrr, metrics.coverage), (1.0, 0.5, 0.5));
        assert!((metrics.novelty - 0.5).abs() < 1e-12);
        assert!((metrics.diversity - (1.0 - 1.0 / 2f64.sqrt())).abs() < 1e-12);
        assert!((metrics.gini - 0.5).abs() < 1e-12);
    }
}
