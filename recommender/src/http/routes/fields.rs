//! Which fields of its products an answer tells: `fields=product_id,score` spares whoever has titles of their own, or
//! shows no reasons, most of the answer and what it costs to make.

use crate::http::input::Params;
use crate::http::problem::Problem;

/// Fields of a product that are there unless left out. The id always is, and so is what exploration did with it: what
/// was shown could not be judged without.
const NAMES: [&str; 4] = ["product_id", "title", "score", "reason"];

/// What a request wants told of each product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// What the catalogue calls it.
    pub title: bool,
    /// How it was ranked.
    pub score: bool,
    /// Why it is there.
    pub reason: bool,
}

impl Fields {
    /// All of them.
    pub const ALL: Self = Self {
        title: true,
        score: true,
        reason: true,
    };

    /// Of a request: all, unless it names some.
    pub fn of(params: &Params) -> Result<Self, Problem> {
        let named = params.list("fields")?;
        if named.is_empty() {
            return Ok(Self::ALL);
        }
        Self::named(&named)
    }

    /// Those that are named.
    pub fn named(named: &[String]) -> Result<Self, Problem> {
        let unknown = |name: &&String| !NAMES.contains(&name.as_str());
        if named.is_empty() || named.iter().find(unknown).is_some() {
            return Err(Problem::field(
                "fields",
                format!("fields must name some of {}", NAMES.join(", ")),
            ));
        }
        let has = |name: &str| named.iter().any(|named| named == name);
        Ok(Self {
            title: has("title"),
            score: has("score"),
            reason: has("reason"),
        })
    }

    /// As a number, for what is kept.
    pub fn digest(self) -> u64 {
        u64::from(self.title) | u64::from(self.score) << 1 | u64::from(self.reason) << 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<Fields, Problem> {
        Fields::named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn fields_are_those_named_and_the_id_which_is_always_there() {
        let only = |title, score, reason| Fields { title, score, reason };
        assert_eq!(named(&["product_id"]).unwrap(), only(false, false, false));
        assert_eq!(named(&["score", "score"]).unwrap(), only(false, true, false));
        assert_eq!(named(&["title", "reason", "score"]).unwrap(), Fields::ALL);
        for bad in [&["colour"][..], &["title", "Score"], &[""], &[]] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn answers_with_other_fields_are_kept_apart() {
        let all = [false, true].into_iter().flat_map(|title| {
            [false, true]
                .into_iter()
                .flat_map(move |score| [false, true].map(|reason| Fields { title, score, reason }.digest()))
        });
        let different: std::collections::HashSet<u64> = all.collect();
        assert_eq!(different.len(), 8);
    }
}
