//! Fields that this version does not act on. Each is reported by its path, never silently ignored; a field that
//! says what happens anyway is fine. A line goes when its field is acted on.

use recommendation_api::pipeline::{RecommendationPipelineSpec, RecommenderSpec};

/// Paths of the fields that are set to something that does not happen, in the order of the spec.
pub(super) fn fields(spec: &RecommendationPipelineSpec) -> Vec<String> {
    let mut found = Found::default();
    if let Some(part) = &spec.recommender {
        recommender(part, &mut found);
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn when(&mut self, set: bool, path: &str) {
        if set {
            self.0.push(path.to_owned());
        }
    }
}

fn recommender(spec: &RecommenderSpec, found: &mut Found) {
    if let Some(model) = &spec.model {
        // Without a store there is no place for what a job would fit.
        let nowhere = spec.snapshots.is_none();
        found.when(
            nowhere && model.retrain.is_some(),
            "spec.recommender.model.retrain",
        );
    }
}
