//! What one customer did, in little room: most events name no answer and have no price.

use super::kept::{Act, Step};

/// Tells that a second word follows.
const MORE: u64 = 1 << 40;

/// Events in words of 16 bytes, in no order: time, product and step in one; answer and value, where there are any, in the
/// next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acts(Vec<[u64; 2]>);

impl Acts {
    pub fn push(&mut self, act: Act) {
        let is_plain = act.recommendation == 0 && act.value == Act::UNPRICED;
        let more = if is_plain { 0 } else { MORE };
        let what = u64::from(act.product) | (act.step as u64) << 32 | more;
        self.0.push([act.time_ms.cast_unsigned(), what]);
        if !is_plain {
            self.0.push([act.recommendation, act.value.to_bits()]);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Act> + '_ {
        let mut words = self.0.iter();
        std::iter::from_fn(move || {
            let &[time, what] = words.next()?;
            let more = (what & MORE != 0).then(|| words.next()).flatten();
            let &[recommendation, value] = more.unwrap_or(&[0, Act::UNPRICED.to_bits()]);
            Some(Act {
                time_ms: time.cast_signed(),
                recommendation,
                product: what as u32,
                step: Step::ALL[usize::from((what >> 32) as u8)],
                value: f64::from_bits(value),
            })
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what happened before.
    pub fn sweep(&mut self, oldest_ms: i64) {
        if self.iter().any(|act| act.time_ms < oldest_ms) {
            *self = self.iter().filter(|act| act.time_ms >= oldest_ms).collect();
        }
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}

impl FromIterator<Act> for Acts {
    fn from_iter<I: IntoIterator<Item = Act>>(all: I) -> Self {
        let mut acts = Self::default();
        all.into_iter().for_each(|act| acts.push(act));
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_put_in() {
        let act = |time_ms, step, recommendation, value| Act {
            time_ms,
            recommendation,
            product: u32::MAX,
            step,
            value,
        };
        let all: Vec<Act> = (Step::ALL.into_iter().zip(-2..))
            .flat_map(|(step, time_ms)| {
                [(0, Act::UNPRICED), (7, Act::UNPRICED), (0, 2.5), (u64::MAX, 0.0)]
                    .map(|(recommendation, value)| act(time_ms, step, recommendation, value))
            })
            .collect();
        let mut acts: Acts = all.iter().copied().collect();
        assert_eq!(acts.iter().collect::<Vec<_>>(), all);
        assert_eq!(acts.bytes(), (5 + 15 * 2) * 16, "a fourth of them are plain");
        acts.sweep(1);
        let left: Vec<Act> = all.into_iter().filter(|act| act.time_ms >= 1).collect();
        assert_eq!(acts.iter().collect::<Vec<_>>(), left);
        acts.sweep(3);
        assert!(acts.is_empty());
    }
}
