//! Models that are fitted, written, read back and installed.

use recommender_engine::{
    Algorithm, Artifact, EventKind, Fallback, Interaction, Query, Reader, Writer,
    eval::{AlsParams, EaseParams},
};

use super::{MINUTE, NOW, plain};

fn two_tastes() -> (Writer, Reader) {
    let (mut writer, reader) = plain();
    for n in 0..40 {
        let from = if n % 2 == 0 { 0 } else { 4 };
        for product in (from..from + 4).filter(|product| product % 4 != n / 2 % 4) {
            let (customer, product) = (format!("c{n:02}"), format!("p{product}"));
            writer.apply(
                &Interaction::new(&customer, &product, EventKind::Purchase, NOW - MINUTE),
                NOW,
            );
        }
    }
    writer.flush(NOW);
    (writer, reader)
}

#[test]
fn fitted_models_survive_writing_and_reading_and_answer_once_installed() {
    let (mut writer, reader) = two_tastes();
    let data = reader.training_data(NOW, i64::MAX / 4);
    assert_eq!((data.products.len(), data.interactions.rows()), (8, 40));
    let ease = Artifact::ease(
        &data,
        &EaseParams {
            regularization: 1.0,
            ..EaseParams::default()
        },
        "e1",
        NOW,
    );
    let params = AlsParams {
        factors: 2,
        regularization: 0.05,
        ..AlsParams::default()
    };
    let artifacts = [
        ease.expect("eight products are few"),
        Artifact::implicit_als(&data, &params, 2, "a1", NOW),
    ];
    for artifact in artifacts {
        let algorithm = artifact.algorithm();
        let query = Query {
            customer: Some("c00"),
            algorithm: Some(algorithm),
            limit: 1,
            now_ms: NOW,
            ..Query::default()
        };
        assert_eq!(
            reader.recommend(&query).algorithm,
            Algorithm::Hybrid,
            "not fitted yet"
        );
        let bytes = artifact.to_bytes().expect("it can be written");
        let read = Artifact::from_bytes(&bytes).expect("it can be read back");
        assert_eq!(read, artifact);
        writer.install(&read);
        let answer = reader.recommend(&query);
        assert_eq!((&*answer.items[0].product, answer.algorithm), ("p0", algorithm));
        assert_eq!(
            answer.fallback,
            Fallback::Personal,
            "it says which product speaks for it"
        );
        let mut damaged = bytes.clone();
        damaged[40] ^= 1;
        let refused = Artifact::from_bytes(&damaged).expect_err("a flipped bit is found");
        assert_eq!(
            refused.to_string(),
            "the model artefact is damaged: its checksum differs"
        );
    }
    assert_eq!(reader.fitted().len(), 2);
    writer.uninstall(Algorithm::Ease);
    assert_eq!(reader.fitted(), [(Algorithm::ImplicitAls, "a1".to_owned())]);
}

#[test]
fn replicas_that_learned_in_another_order_fit_the_same_model() {
    let (_one, reader) = two_tastes();
    let (mut other, second) = plain();
    for n in (0..40).rev() {
        for item in reader.customer_history(&format!("c{n:02}")).unwrap() {
            let customer = format!("c{n:02}");
            other.apply(
                &Interaction::new(&customer, &item.product, EventKind::Purchase, item.last_ms),
                NOW,
            );
        }
    }
    assert_eq!(
        reader.training_data(NOW, 1_000_000),
        second.training_data(NOW, 1_000_000)
    );
}
