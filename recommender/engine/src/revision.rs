//! What is known of a customer, in a few bytes, for keys of caches that replicas share.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::{event::ProductMeta, history::Entry, shared::Shared};

/// A digest of a customer's history and profile.
///
/// It is a function of the log alone: neither the order in which products became known nor whether the history
/// was learned live, in bulk or from a snapshot enters it. So two replicas agree on it exactly if both have
/// applied the same events of that customer, and a replica that is behind has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// 0 for a customer of whom nothing is known.
    pub digest: u64,
    /// The customer's newest event, milliseconds since 1970; 0 without one.
    pub newest_ms: i64,
}

impl Revision {
    pub(crate) fn of(shared: &Shared, customer: &str) -> Self {
        let mut revision = Revision::default();
        if let Some(slot) = shared.asked(customer) {
            let history = slot.history.load();
            revision.newest_ms = history.newest_ms;
            // A sum does not depend on the order; every term is mixed, so that terms do not cancel. A history that
            // is shown does not change any more, so that this is worked out once for each.
            revision.digest = history.digest.get(|| {
                history.entries.iter().fold(1, |sum, entry| {
                    sum.wrapping_add(digest(shared.product(entry.product).name_hash, entry))
                })
            });
        }
        if let Some(profile) = shared.profiles.pin().get(customer) {
            for (name, values) in profile.iter() {
                for value in values {
                    let term = mix(hash(name.as_bytes())).wrapping_add(hash(value.as_bytes()));
                    revision.digest = revision.digest.wrapping_add(mix(term));
                }
            }
        }
        revision
    }
}

/// A digest of the catalogue.
///
/// A function of what the catalogue says last of each product, whatever the order: replicas that have read the same
/// records agree on it, whether they read them or started from a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CatalogueRevision {
    /// 0 without a catalogue.
    pub digest: u64,
    /// Whether answers follow it in all: what is like what, and rules between attributes, come a moment after titles,
    /// categories and what is available.
    pub settled: bool,
}

impl CatalogueRevision {
    pub(crate) fn of(shared: &Shared) -> Self {
        CatalogueRevision {
            digest: shared.counters.catalogue.load(Acquire),
            settled: !shared.counters.catalogue_settles.load(Relaxed),
        }
    }

    /// Of one product's entry; `None` is one that was withdrawn.
    pub(crate) fn digest(name: u64, meta: Option<&ProductMeta>) -> u64 {
        let Some(meta) = meta else {
            return mix(name ^ 1).max(1);
        };
        let text = |salt: u64, text: &str| mix(hash(text.as_bytes()).wrapping_add(mix(salt)));
        let all = |salt: u64, texts: &[String]| {
            let fold = |sum: u64, one: &String| mix(sum).wrapping_add(text(salt, one));
            texts.iter().fold(salt, fold)
        };
        let mut sum = u64::from(meta.available);
        sum = sum.wrapping_add(meta.title.as_deref().map_or(0, |title| text(2, title)));
        sum = sum.wrapping_add(meta.category.as_deref().map_or(0, |category| text(3, category)));
        sum = sum.wrapping_add(all(4, &meta.tags));
        for (attribute, values) in &meta.attributes {
            sum = sum.wrapping_add(mix(text(5, attribute).wrapping_add(all(6, values))));
        }
        for number in meta.embedding.iter().flatten() {
            sum = mix(sum).wrapping_add(u64::from(number.to_bits()));
        }
        mix(mix(name).wrapping_add(sum)).max(2)
    }
}

fn digest(name: u64, entry: &Entry) -> u64 {
    let what = u64::from(entry.total as u32)
        | u64::from(entry.purchases as u16) << 32
        | u64::from(entry.kinds) << 48;
    mix(mix(name ^ entry.last_ms as u64).wrapping_add(what))
}

/// FNV-1a, 64 bits: stable over machines and versions, which the hashers of hash maps are not.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, EventKind, Interaction, engine};

    const NOW: i64 = 1_700_000_000_000;

    fn event(product: &str, kind: EventKind, at: i64) -> Interaction<'_> {
        Interaction::new("ann", product, kind, NOW + at)
    }

    #[test]
    fn replicas_that_read_the_same_log_agree_however_they_read_it() {
        let log = [
            event("cup", EventKind::View, 1),
            event("mug", EventKind::Purchase, 2),
            event("cup", EventKind::Cart, 3),
        ];
        let (mut live, live_reader) = engine(EngineConfig::default()).unwrap();
        // This one knows other products first, so that its numbers differ.
        live.apply(&Interaction::new("bob", "spoon", EventKind::View, NOW), NOW);
        log.iter().for_each(|event| {
            live.apply(event, NOW);
        });
        let (mut bulk, bulk_reader) = engine(EngineConfig::default()).unwrap();
        bulk.bulk(log, NOW);
        let revision = live_reader.customer_revision("ann");
        assert_eq!(revision, bulk_reader.customer_revision("ann"));
        assert_eq!(revision.newest_ms, NOW + 3);
        assert_eq!(bulk_reader.customer_revision("eve"), Revision::default());
    }

    #[test]
    fn the_catalogue_has_the_same_revision_whatever_the_order_and_another_after_each_change() {
        let cup = |title: &str, available| {
            let title = Some(title.to_owned());
            Some(ProductMeta {
                title,
                available,
                ..ProductMeta::default()
            })
        };
        let (mut a, reader) = engine(EngineConfig::default()).unwrap();
        assert_eq!(reader.catalogue_revision().digest, 0);
        assert!(reader.catalogue_revision().settled);
        let mut seen = vec![0];
        for meta in [
            cup("Cup", true),
            cup("Mug", true),
            cup("Mug", false),
            None,
            cup("Pot", true),
        ] {
            a.set_product("cup", meta);
            let revision = reader.catalogue_revision();
            assert!(!seen.contains(&revision.digest) && !revision.settled);
            seen.push(revision.digest);
        }
        a.set_product("pen", cup("Pen", true));
        let (mut b, other) = engine(EngineConfig::default()).unwrap();
        b.set_product("pen", cup("Pen", true));
        b.set_product("cup", cup("Pot", true));
        assert_eq!(
            reader.catalogue_revision().digest,
            other.catalogue_revision().digest
        );
        // What no answer depends on, and what changes nothing.
        let priced = cup("Pen", true).map(|meta| ProductMeta {
            price: Some(2.5),
            ..meta
        });
        b.set_product("pen", priced);
        assert_eq!(
            reader.catalogue_revision().digest,
            other.catalogue_revision().digest
        );
        b.flush(NOW);
        assert!(other.catalogue_revision().settled);
    }

    #[test]
    fn every_event_makes_a_new_revision() {
        let (mut writer, reader) = engine(EngineConfig::default()).unwrap();
        let mut seen = vec![reader.customer_revision("ann").digest];
        // The last two differ in nothing but their product.
        for (product, kind, at) in [
            ("cup", EventKind::View, 0),
            ("cup", EventKind::View, 0),
            ("cup", EventKind::Purchase, 0),
            ("cup", EventKind::Return, 0),
            ("mug", EventKind::View, 7),
            ("pot", EventKind::View, 7),
        ] {
            writer.apply(&event(product, kind, at), NOW);
            let digest = reader.customer_revision("ann").digest;
            assert!(!seen.contains(&digest), "{product} {kind:?}");
            seen.push(digest);
        }
    }
}
