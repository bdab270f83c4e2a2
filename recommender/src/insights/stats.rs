//! Intervals and tests. Customers are drawn into arms, so customers are what is counted as independent: answers to one
//! customer hang together, and a test that took each for itself would find differences where there are none.

/// The two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// What counts as significant, over all comparisons of an experiment together.
pub const ALPHA: f64 = 0.05;

/// An estimate with its 95 % confidence interval; none where too little is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower and upper end.
    pub ends: Option<(f64, f64)>,
    /// Variance of the estimate.
    variance: f64,
}

impl Interval {
    fn around(value: f64, variance: f64, known: bool) -> Self {
        let half = Z * variance.sqrt();
        Self {
            value,
            ends: known.then_some((value - half, value + half)),
            variance,
        }
    }
}

/// Share of `n` that are `hits`, with Wilson's interval (Wilson, "Probable Inference, the Law of Succession, and
/// Statistical Inference", JASA 1927).
pub fn share(hits: u64, n: u64) -> Interval {
    if n == 0 {
        return Interval::around(0.0, 0.0, false);
    }
    let (count, total) = (hits as f64, n as f64);
    let p = count / total;
    let scale = 1.0 + Z * Z / total;
    let center = (p + Z * Z / (2.0 * total)) / scale;
    let half = Z / scale * (p * (1.0 - p) / total + Z * Z / (4.0 * total * total)).sqrt();
    Interval {
        value: p,
        ends: Some(((center - half).max(0.0), (center + half).min(1.0))),
        variance: p * (1.0 - p) / total,
    }
}

/// Sums over customers of a numerator `y` and a denominator `x`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Moments {
    /// Adds a customer.
    pub fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// The ratio of the sums, by the delta method (Deng, Knoblich and Lu, "Applying the Delta Method in Metric
    /// Analytics", KDD 2018, section 2): clicks per answer, where a customer gets several answers. With `x = 1` it is
    /// the mean of `y` with its usual interval.
    pub fn ratio(&self) -> Interval {
        if self.x <= 0.0 {
            return Interval::around(0.0, 0.0, false);
        }
        let r = self.y / self.x;
        if self.n < 2.0 {
            return Interval::around(r, 0.0, false);
        }
        // The mean of y − r·x is 0: its variance over customers, per squared mean of x.
        let spread = (self.yy - 2.0 * r * self.xy + r * r * self.xx).max(0.0) / (self.n - 1.0);
        let mean = self.x / self.n;
        Interval::around(r, spread / (self.n * mean * mean), true)
    }
}

/// How far `b` is from `a`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// `b − a`, with its interval.
    pub difference: Interval,
    /// How likely so large a difference would be if there were none; `None` where too little is known.
    pub p_value: Option<f64>,
}

/// Compares two estimates (Welch: the arms' variances differ).
pub fn compare(a: Interval, b: Interval) -> Difference {
    let known = a.ends.is_some() && b.ends.is_some();
    let variance = a.variance + b.variance;
    let difference = Interval::around(b.value - a.value, variance, known);
    let p_value = (known && variance > 0.0).then(|| two_sided(difference.value / variance.sqrt()));
    Difference { difference, p_value }
}

/// Compares two shares, by the pooled test.
pub fn compare_shares(a: (u64, u64), b: (u64, u64)) -> Difference {
    let plain = compare(share(a.0, a.1), share(b.0, b.1));
    let n = (a.1 + b.1) as f64;
    let pooled = (a.0 + b.0) as f64 / n.max(1.0);
    let variance = pooled * (1.0 - pooled) * (1.0 / (a.1 as f64) + 1.0 / (b.1 as f64));
    let p_value =
        (a.1 > 0 && b.1 > 0 && variance > 0.0).then(|| two_sided(plain.difference.value / variance.sqrt()));
    Difference { p_value, ..plain }
}

/// The probability that a standard normal number is at least so far from 0.
fn two_sided(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The complementary error function for `x ≥ 0`, to 1.2e-7 of its value (Press et al., "Numerical Recipes", 2nd
/// edition, section 6.2, `erfcc`).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let series = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let sum = series.iter().rev().fold(0.0, |sum, term| sum * t + term);
    t * (sum - x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by, "{a} is not {b}");
    }

    #[test]
    fn tails_of_the_normal_distribution_are_those_of_the_tables() {
        for (z, p) in [
            (0.0, 1.0),
            (1.0, 0.317_310_5),
            (1.959_964, 0.05),
            (2.575_829, 0.01),
            (4.0, 6.334e-5),
        ] {
            near(two_sided(z), p, 1e-6);
            near(two_sided(-z), p, 1e-6);
        }
    }

    #[test]
    fn wilsons_interval_is_that_of_the_textbook() {
        // Agresti and Coull (1998): 0 of 10 gives an upper end of 0.278.
        let (low, high) = share(0, 10).ends.unwrap();
        near(low, 0.0, 1e-12);
        near(high, 0.2775, 1e-3);
        let (low, high) = share(45, 100).ends.unwrap();
        near(low, 0.3561, 1e-3);
        near(high, 0.5476, 1e-3);
        assert_eq!(share(0, 0).ends, None);
    }

    #[test]
    fn a_ratio_of_ones_is_a_mean_and_answers_of_one_customer_hang_together() {
        let mut mean = Moments::default();
        [1.0, 2.0, 3.0, 4.0].iter().for_each(|y| mean.add(1.0, *y));
        let found = mean.ratio();
        // Variance 5/3, of the mean 5/12.
        near(found.value, 2.5, 1e-12);
        near(found.ends.unwrap().1, 2.5 + Z * (5.0_f64 / 12.0).sqrt(), 1e-9);
        // A hundred customers of ten answers each, who click on all or none of them, know as much as a hundred answers.
        let mut clustered = Moments::default();
        (0..100).for_each(|n| clustered.add(10.0, if n % 2 == 0 { 10.0 } else { 0.0 }));
        let (low, high) = clustered.ratio().ends.unwrap();
        near(high - low, 2.0 * Z * 0.05, 2e-3);
    }

    #[test]
    fn differences_are_tested_as_by_hand() {
        // 100 of 1000 against 130 of 1000: z = 2.103, p = 0.0355.
        let found = compare_shares((100, 1_000), (130, 1_000));
        near(found.p_value.unwrap(), 0.0355, 3e-4);
        near(found.difference.value, 0.03, 1e-12);
        assert_eq!(compare_shares((0, 0), (1, 2)).p_value, None);
        assert_eq!(
            compare_shares((0, 5), (0, 5)).p_value,
            None,
            "nobody did anything"
        );
    }
}
