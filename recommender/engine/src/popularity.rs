//! Popularity with exponential decay, exact in integers and therefore independent of the order of events.
//!
//! Each customer counts for a product once, with the interest of that customer, at the time of the last
//! event between the two: a hundred clicks by one visitor do not make a bestseller. Time is cut into buckets
//! of an eighth of a half-life, and whatever is older than sixteen half-lives counts nothing.

/// Buckets in a half-life.
const PER_HALF_LIFE: i64 = 8;
/// Buckets that count.
const HORIZON: i64 = 16 * PER_HALF_LIFE;

/// Interest in one product by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    /// (bucket, summed interest), oldest first, no bucket twice, no sum 0.
    sums: Vec<(i64, i64)>,
}

/// Which bucket a time falls into.
pub(crate) fn bucket(time_ms: i64, half_life_ms: i64) -> i64 {
    time_ms.div_euclid((half_life_ms / PER_HALF_LIFE).max(1))
}

impl Buckets {
    /// From what [`Buckets::sums`] told; `None` where that is out of order.
    pub fn from_sums(sums: Vec<(i64, i64)>) -> Option<Self> {
        let ordered = sums.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (ordered && sums.iter().all(|(_, sum)| *sum != 0)).then_some(Buckets { sums })
    }

    /// Summed interest by bucket, oldest first.
    pub fn sums(&self) -> &[(i64, i64)] {
        &self.sums
    }

    /// Adds to a bucket (or takes back). `newest` is the newest bucket of all products.
    pub fn add(&mut self, bucket: i64, amount: i64, newest: i64) {
        // Both adding and taking back are ignored past the horizon, so that dropping old sums never
        // leaves a negative one behind.
        if amount == 0 || bucket <= newest - HORIZON {
            return;
        }
        match self.find(bucket) {
            Ok(at) => {
                self.sums[at].1 += amount;
                if self.sums[at].1 == 0 {
                    self.sums.remove(at);
                }
            }
            Err(at) => {
                self.sums.insert(at, (bucket, amount));
                let old = |(bucket, _): &(i64, i64)| *bucket <= newest - HORIZON;
                if self.sums.first().is_some_and(old) {
                    let old = self.sums.partition_point(old);
                    self.sums.drain(..old);
                }
            }
        }
    }

    /// Where a bucket is, or belongs. Of a product that is wanted every day none is missing: then it is as far from the
    /// last as it is older, and looking there saves a search that waits for memory at each step.
    fn find(&self, bucket: i64) -> Result<usize, usize> {
        let Some((last, _)) = self.sums.last() else {
            return Err(0);
        };
        let end = self.sums.len();
        match usize::try_from(last - bucket) {
            Err(_) => Err(end),
            Ok(older) if older < end && self.sums[end - 1 - older].0 == bucket => Ok(end - 1 - older),
            Ok(_) => self.sums.binary_search_by_key(&bucket, |(b, _)| *b),
        }
    }

    /// Looks where the newest is, for no other reason than to have it fetched.
    pub fn peek(&self) -> i64 {
        self.sums.last().map_or(0, |(_, sum)| *sum)
    }

    /// The newest bucket that holds anything.
    pub fn newest(&self) -> Option<i64> {
        self.sums.last().map(|(bucket, _)| *bucket)
    }

    /// Decayed interest as of the newest bucket. Decay is the same for all products, so an order by this
    /// stays right as time goes by.
    pub fn score(&self, newest: i64) -> f32 {
        let recent = self.sums.iter().filter(|(bucket, _)| *bucket > newest - HORIZON);
        let decayed = |&(bucket, sum): &(i64, i64)| {
            sum as f64 * (-((newest - bucket) as f64) / PER_HALF_LIFE as f64).exp2()
        };
        recent.map(decayed).sum::<f64>() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    #[test]
    fn interest_of_one_half_life_ago_counts_half() {
        let (mut old, mut new) = (Buckets::default(), Buckets::default());
        let newest = bucket(60 * DAY, 30 * DAY);
        old.add(bucket(30 * DAY, 30 * DAY), 16, newest);
        new.add(newest, 16, newest);
        assert_eq!(old.score(newest) * 2.0, new.score(newest));
    }

    #[test]
    fn what_is_past_the_horizon_neither_counts_nor_comes_back_as_a_debt() {
        let mut buckets = Buckets::default();
        buckets.add(0, 16, 0);
        buckets.add(HORIZON + 1, 1, HORIZON + 1);
        buckets.add(0, -16, HORIZON + 1);
        assert_eq!(buckets.score(HORIZON + 1), 1.0);
    }
}
