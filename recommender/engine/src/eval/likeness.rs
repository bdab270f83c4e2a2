//! Who has what: how alike two products are by their customers, and how surprising each is.

/// From this share of customers on (one in so many), the customers of a product are kept as bits.
const DENSE: usize = 64;

/// The customers of each product in training.
pub struct Likeness {
    products: Vec<Customers>,
    catalogue: Vec<u32>,
    customers: usize,
}

enum Customers {
    /// Ascending.
    Few(Vec<u32>),
    /// A bit per customer, and how many are set: two popular products are compared word by word, which on
    /// millions of interactions makes the difference between seconds and hours.
    Many(Vec<u64>, usize),
}

impl Customers {
    fn len(&self) -> usize {
        match self {
            Customers::Few(list) => list.len(),
            Customers::Many(_, count) => *count,
        }
    }
}

impl Likeness {
    /// `buyers` are the training customers of each product, ascending and distinct, out of `customers`. The
    /// products with any are the catalogue.
    pub fn new(buyers: Vec<Vec<u32>>, customers: usize) -> Self {
        let with_any = |(id, list): (usize, &Vec<u32>)| (!list.is_empty()).then_some(id as u32);
        let catalogue = buyers.iter().enumerate().filter_map(with_any).collect();
        let pack = |list: Vec<u32>| {
            if list.len() <= customers / DENSE + 1 {
                return Customers::Few(list);
            }
            let mut bits = vec![0u64; customers.div_ceil(64)];
            for &customer in &list {
                bits[customer as usize / 64] |= 1 << (customer % 64);
            }
            Customers::Many(bits, list.len())
        };
        Likeness {
            products: buyers.into_iter().map(pack).collect(),
            catalogue,
            customers,
        }
    }

    /// How many products are known.
    pub fn products(&self) -> usize {
        self.products.len()
    }

    /// The products that someone had in training.
    pub fn catalogue(&self) -> &[u32] {
        &self.catalogue
    }

    /// -log2 of the share of customers who have it; `None` if nobody has.
    pub fn surprise(&self, product: u32) -> Option<f64> {
        let count = self.products.get(product as usize)?.len();
        (count > 0).then(|| -(count as f64 / self.customers as f64).log2())
    }

    /// Cosine of two products as sets of customers.
    pub fn cosine(&self, a: u32, b: u32) -> f64 {
        let (Some(a), Some(b)) = (self.products.get(a as usize), self.products.get(b as usize)) else {
            return 0.0;
        };
        if a.len() == 0 || b.len() == 0 {
            return 0.0;
        }
        let common = match (a, b) {
            (Customers::Few(a), Customers::Few(b)) => merge(a, b),
            (Customers::Few(few), Customers::Many(bits, _))
            | (Customers::Many(bits, _), Customers::Few(few)) => {
                let has = |customer: &&u32| bits[**customer as usize / 64] >> (**customer % 64) & 1 == 1;
                few.iter().filter(has).count()
            }
            (Customers::Many(a, _), Customers::Many(b, _)) => {
                a.iter().zip(b).map(|(a, b)| (a & b).count_ones() as usize).sum()
            }
        };
        common as f64 / (a.len() as f64 * b.len() as f64).sqrt()
    }
}

fn merge(a: &[u32], b: &[u32]) -> usize {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        let order = a[i].cmp(&b[j]);
        common += usize::from(order.is_eq());
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_bits_give_the_same_cosine() {
        let every = |step: usize| (0..1_000u32).step_by(step).collect::<Vec<_>>();
        // 1,000 and 500 customers are kept as bits, 10 and 5 as lists.
        let likeness = Likeness::new(vec![every(1), every(2), every(100), every(200), vec![]], 1_000);
        let close = |a, b, common: f64, product: f64| {
            let cosine = likeness.cosine(a, b);
            assert!(
                (cosine - common / product.sqrt()).abs() < 1e-12,
                "{a} {b} {cosine}"
            );
        };
        close(0, 1, 500.0, 500_000.0);
        close(1, 2, 10.0, 5_000.0);
        close(2, 3, 5.0, 50.0);
        close(3, 0, 5.0, 5_000.0);
        assert_eq!((likeness.cosine(0, 4), likeness.cosine(0, 9)), (0.0, 0.0));
        assert_eq!(likeness.catalogue(), [0, 1, 2, 3]);
        assert_eq!((likeness.surprise(1), likeness.surprise(4)), (Some(1.0), None));
    }
}
