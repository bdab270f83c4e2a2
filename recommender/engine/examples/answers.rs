//! Answers of one model on a small shop that is made up, to count instructions by:
//!
//! ```text
//! answers fit models
//! valgrind --tool=callgrind --toggle-collect='*answers::asked*' answers Ease models
//! ```
//!
//! `cargo xtask bench instructions` does so for every model. Prints how many answers there were. Models are fitted
//! first, and not under valgrind: it runs one thread at a time, and those that fit wait for each other in loops.

use std::path::Path;

use recommender_engine::{
    Algorithm, Artifact, EngineConfig, EventKind, Interaction, Query, Reader,
    eval::{AlsParams, EaseParams},
};

const NOW: i64 = 1_700_000_000_000;
const CUSTOMERS: usize = 1_000;
const PRODUCTS: usize = 1_000;
const EVENTS: usize = 20_000;
const ASKED: usize = 200;

#[inline(never)]
fn asked(reader: &Reader, query: &Query<'_>) -> usize {
    std::hint::black_box(reader.recommend(std::hint::black_box(query)))
        .items
        .len()
}

/// Which fitted models answer under a name.
fn fitted(algorithm: Algorithm) -> &'static [&'static str] {
    match algorithm {
        Algorithm::Ease => &["ease"],
        Algorithm::ImplicitAls => &["als"],
        Algorithm::Hybrid => &["ease", "als"],
        _ => &[],
    }
}

/// Writes the fitted models into a folder.
fn fit(reader: &Reader, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let data = reader.training_data(NOW, 365 * 86_400_000);
    let ease = Artifact::ease(&data, &EaseParams::default(), "1", NOW)?;
    let params = AlsParams {
        factors: 64,
        ..AlsParams::default()
    };
    let als = Artifact::implicit_als(&data, &params, 2, "1", NOW);
    for (name, artifact) in [("ease", ease), ("als", als)] {
        std::fs::write(folder.join(name), artifact.to_bytes()?)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (name, folder) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let folder = Path::new(&folder);
    let mut state = 42u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    // Zipf's law, as inverse of the continuous one with exponent 1.
    let mut draw = |n: usize| ((n as f64).powf(uniform()) as usize - 1).min(n - 1);
    let events: Vec<(String, String, i64)> = (0..EVENTS)
        .map(|n| {
            let customer = format!("customer-{}", n % CUSTOMERS);
            (
                customer,
                format!("product-{}", draw(PRODUCTS)),
                NOW - (EVENTS - n) as i64 * 60_000,
            )
        })
        .collect();
    let (mut writer, reader) = recommender_engine::engine(EngineConfig::default())?;
    let interactions = events
        .iter()
        .map(|(customer, product, time_ms)| Interaction::new(customer, product, EventKind::View, *time_ms));
    writer.bulk(interactions, NOW);
    if name == "fit" {
        return fit(&reader, folder);
    }
    let algorithm = Algorithm::from_name(&name).ok_or("fit, or the name of a model, such as ItemKnn")?;
    for model in fitted(algorithm) {
        writer.install(&Artifact::from_bytes(&std::fs::read(folder.join(model))?)?);
    }
    let mut items = 0;
    for n in 0..ASKED {
        let customer = format!("customer-{n}");
        let query = Query {
            customer: Some(&customer),
            algorithm: Some(algorithm),
            limit: 20,
            now_ms: NOW,
            ..Query::default()
        };
        items += asked(&reader, &query);
    }
    if items == 0 {
        return Err("nothing was recommended".into());
    }
    println!("{ASKED}");
    Ok(())
}
