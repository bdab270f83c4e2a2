//! Experiments between algorithms. A customer's arm follows from the experiment's name and the customer's id alone:
//! it is the same on every replica, after every restart, and for as long as the experiment keeps its name.
//!
//! Of several experiments each customer takes part in one, the one whose name draws the highest number for them
//! (rendezvous hashing: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): one that
//! is added takes its share of customers from each of the others, and nobody moves between those.

use std::collections::HashSet;
use std::sync::Arc;

use recommendation_api::config::RecommenderConfig;
use recommendation_api::model::Algorithm as Named;
use recommender_engine::Algorithm;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Why experiments are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExperimentError {
    /// Two of one name, or none.
    #[error("every experiment needs a name of its own, and {0:?} is none")]
    Name(String),
    /// Shares that do not make a whole.
    #[error("percents of {name:?} sum to {sum}: they must sum to 100")]
    Percents {
        /// The experiment.
        name: String,
        /// What they sum to.
        sum: i64,
    },
    /// A share below nothing.
    #[error("a percent of {0:?} is negative")]
    Negative(String),
    /// An algorithm that cannot answer here.
    #[error("{name:?} has an arm with {algorithm}, which {why}")]
    Algorithm {
        /// The experiment.
        name: String,
        /// The arm's algorithm.
        algorithm: &'static str,
        /// Why it cannot.
        why: String,
    },
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arm {
    name: Arc<str>,
    algorithm: Algorithm,
    /// Percents of the arms before it, and its own.
    up_to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Experiment {
    name: Arc<str>,
    arms: Vec<Arm>,
    /// Draws which experiment a customer takes part in.
    joins: u64,
    /// Draws the arm, by another law: the two must not hang together.
    draws: u64,
}

/// The experiments of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Experiments(Vec<Experiment>);

/// A customer's place in an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The experiment.
    pub experiment: Arc<str>,
    /// The arm: its algorithm's name, with a number where several have the same.
    pub arm: Arc<str>,
    /// What answers.
    pub algorithm: Algorithm,
}

/// Parts of a percent that customers are drawn into.
const PARTS: u64 = 1_000;

impl Experiments {
    /// Checks whether every arm finds what it answers from. Of a configuration as it is written: what a running service
    /// makes of it before a restart may lack rules or a model.
    pub fn check(config: &RecommenderConfig) -> Result<(), ExperimentError> {
        let has = config.provision();
        for spec in &config.experiments {
            for arm in &spec.arms {
                if let Some(lack) = arm.algorithm.lacks(has, "") {
                    return Err(refused(&spec.name, arm.algorithm, lack));
                }
            }
        }
        Ok(())
    }

    /// Compiles them.
    pub fn new(config: &RecommenderConfig) -> Result<Self, ExperimentError> {
        let mut names = HashSet::new();
        let mut all = Vec::new();
        for spec in &config.experiments {
            let name = spec.name.as_str();
            if name.is_empty() || !names.insert(name) {
                return Err(ExperimentError::Name(name.to_owned()));
            }
            let sum: i64 = spec.arms.iter().map(|arm| i64::from(arm.percent)).sum();
            if spec.arms.iter().any(|arm| arm.percent < 0) {
                return Err(ExperimentError::Negative(name.to_owned()));
            }
            if sum != 100 {
                return Err(ExperimentError::Percents {
                    name: name.to_owned(),
                    sum,
                });
            }
            let mut arms: Vec<Arm> = Vec::new();
            let mut up_to = 0;
            for arm in &spec.arms {
                let algorithm = served(name, arm.algorithm)?;
                up_to += u64::from(arm.percent.unsigned_abs());
                let same = arms.iter().filter(|other| other.algorithm == algorithm).count();
                let arm_name = match same {
                    0 => algorithm.name().to_owned(),
                    n => format!("{}-{}", algorithm.name(), n + 1),
                };
                arms.push(Arm {
                    name: arm_name.into(),
                    algorithm,
                    up_to,
                });
            }
            all.push(Experiment {
                joins: xxh3_64(format!("experiment {name}").as_bytes()),
                draws: xxh3_64(format!("arm {name}").as_bytes()),
                name: name.into(),
                arms,
            });
        }
        Ok(Self(all))
    }

    /// Where a customer stands; `None` without experiments.
    pub fn assign(&self, customer: &str) -> Option<Assignment> {
        let draw = |seed| xxh3_64_with_seed(customer.as_bytes(), seed);
        let experiment = self.0.iter().max_by_key(|experiment| draw(experiment.joins))?;
        let at = draw(experiment.draws) % (100 * PARTS);
        let arm = experiment.arms.iter().find(|arm| at < arm.up_to * PARTS)?;
        Some(Assignment {
            experiment: Arc::clone(&experiment.name),
            arm: Arc::clone(&arm.name),
            algorithm: arm.algorithm,
        })
    }

    /// The arm that the others of its experiment are compared with: the first. `None` for an experiment that is not
    /// configured (any more).
    pub fn control(&self, experiment: &str) -> Option<Arc<str>> {
        let found = self.0.iter().find(|known| *known.name == *experiment)?;
        found.arms.first().map(|arm| Arc::clone(&arm.name))
    }
}

/// The algorithm of an arm.
fn served(name: &str, algorithm: Named) -> Result<Algorithm, ExperimentError> {
    Algorithm::from_name(algorithm.name())
        .filter(|found| found.is_served())
        .ok_or_else(|| refused(name, algorithm, "this version does not know".to_owned()))
}

fn refused(name: &str, algorithm: Named, why: String) -> ExperimentError {
    ExperimentError::Algorithm {
        name: name.to_owned(),
        algorithm: algorithm.name(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use recommendation_api::pipeline::recommender::{ExperimentArm, ExperimentSpec};

    use super::*;

    fn config(experiments: &[(&str, &[(Named, i32)])]) -> RecommenderConfig {
        let arm = |(algorithm, percent): &(Named, i32)| ExperimentArm {
            algorithm: *algorithm,
            percent: *percent,
        };
        RecommenderConfig {
            experiments: experiments
                .iter()
                .map(|(name, arms)| ExperimentSpec {
                    name: (*name).to_owned(),
                    arms: arms.iter().map(arm).collect(),
                })
                .collect(),
            ..RecommenderConfig::default()
        }
    }

    fn compiled(experiments: &[(&str, &[(Named, i32)])]) -> Experiments {
        Experiments::new(&config(experiments)).unwrap()
    }

    #[test]
    fn customers_are_spread_by_the_arms_percents_and_stay_where_they_are() {
        let one = compiled(&[("ranking", &[(Named::Hybrid, 90), (Named::SessionKnn, 10)])]);
        let of_arm = (0..20_000)
            .filter(|n| *one.assign(&n.to_string()).unwrap().arm == *"SessionKnn")
            .count();
        assert!((1_850..2_150).contains(&of_arm), "{of_arm}");
        // For good: these stand in customers' figures.
        let in_small = |n: u32| *one.assign(&n.to_string()).unwrap().arm == *"SessionKnn";
        let small: Vec<u32> = (17_850..17_900).filter(|n| in_small(*n)).collect();
        assert_eq!(small, [17_852, 17_861, 17_872, 17_889]);
        assert_eq!(
            one,
            compiled(&[("ranking", &[(Named::Hybrid, 90), (Named::SessionKnn, 10)])])
        );
        assert_eq!(Experiments::default().assign("ann"), None);
    }

    #[test]
    fn arms_of_one_algorithm_are_told_apart_and_the_first_is_the_control() {
        let same = compiled(&[("aa", &[(Named::Hybrid, 50), (Named::Hybrid, 50)])]);
        let arms: HashSet<_> = (0..100)
            .map(|n| same.assign(&n.to_string()).unwrap().arm)
            .collect();
        assert_eq!(arms, HashSet::from(["Hybrid".into(), "Hybrid-2".into()]));
        assert_eq!(same.control("aa").as_deref(), Some("Hybrid"));
        assert_eq!(same.control("bb"), None);
    }

    #[test]
    fn an_experiment_that_is_added_moves_nobody_between_the_others_and_arms_do_not_hang_together() {
        let half: &[(Named, i32)] = &[(Named::Hybrid, 50), (Named::ItemKnn, 50)];
        let two = compiled(&[("a", half), ("b", half)]);
        let three = compiled(&[("a", half), ("b", half), ("c", half)]);
        let (mut moved, mut in_a, mut first_of_a) = (0, 0, 0);
        for n in 0..9_000 {
            let (before, after) = (
                two.assign(&n.to_string()).unwrap(),
                three.assign(&n.to_string()).unwrap(),
            );
            if before != after {
                assert_eq!(&*after.experiment, "c");
                moved += 1;
            }
            if &*before.experiment == "a" {
                in_a += 1;
                first_of_a += u32::from(&*before.arm == "Hybrid");
            }
        }
        assert!((2_700..3_300).contains(&moved), "{moved}");
        assert!((4_250..4_750).contains(&in_a), "{in_a}");
        assert!((2_050..2_450).contains(&first_of_a), "{first_of_a}");
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_experiments_name() {
        let kafka = |mut config: RecommenderConfig| {
            config.kafka = Some(recommendation_api::config::KafkaConfig::default());
            config
        };
        let without_pairs = |mut config: RecommenderConfig| {
            config.limits.neighbors = 0;
            config
        };
        for (config, part) in [
            (config(&[("", &[(Named::Hybrid, 100)])]), "name"),
            (
                config(&[("a", &[(Named::Hybrid, 100)]), ("a", &[(Named::Hybrid, 100)])]),
                "\"a\"",
            ),
            (config(&[("a", &[(Named::Hybrid, 90)])]), "sum to 90"),
            (
                config(&[("a", &[(Named::Hybrid, 110), (Named::ItemKnn, -10)])]),
                "negative",
            ),
            (config(&[("a", &[(Named::Onnx, 100)])]), "model.onnx.url"),
            (kafka(config(&[("a", &[(Named::Ease, 100)])])), "set snapshots"),
            (
                without_pairs(config(&[("a", &[(Named::ItemKnn, 100)])])),
                "limits.neighbors",
            ),
        ] {
            let told = Experiments::new(&config).and_then(|_| Experiments::check(&config));
            let error = told.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
