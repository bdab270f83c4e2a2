//! What the writer and its readers share. Nothing in here is waited for: tables only grow, and what changes
//! is swapped as a whole (a history, the trending view) or is one atomic, such as each neighbour in a list.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use ahash::{AHashMap, AHashSet};
use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{
    blend::Blend,
    config::{EngineConfig, Tuning},
    event::{EventKind, ProductMeta},
    fitted::Fitted,
    history::{History, HistoryRules, Weighted},
    knowledge::{Attributes, KnowledgeIndex, KnowledgeRule},
    lists::List,
    models::{
        content::ContentIndex,
        embedding::{Signature, signature},
        onnx::LiveOnnx,
        session_knn::SessionParams,
    },
    prequential::HitRate,
    visits::{Posting, VisitStore},
};

/// No category.
pub(crate) const NONE: u32 = u32::MAX;

pub(crate) type Names<V> = papaya::HashMap<Arc<str>, V, ahash::RandomState>;

/// One neighbour of a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbor {
    pub product: u32,
    pub similarity: f32,
}

/// A product as readers see it. In the order in which answers need it: what decides whether a product is shown, and
/// where among equals, lies in the first 64 bytes, and so comes with one look at memory.
#[repr(C)]
pub(crate) struct ProductSlot {
    pub name: Arc<str>,
    /// The first eight bytes of the name, which nearly always tell which of two names comes first.
    prefix: u64,
    pub meta: ArcSwapOption<StoredMeta>,
    pub category: AtomicU32,
    /// Recent popularity in customers, the bits of an `f32`.
    pub popularity: AtomicU32,
    /// False for what the catalogue withdrew; a product known by events alone counts as available.
    pub available: AtomicBool,
    /// One of [`EngineConfig::non_products`].
    pub barred: bool,
    /// True for what the catalogue lists and says is not a product: see [`EngineConfig::non_product_labels`].
    pub no_product: AtomicBool,
    /// Of the name, the same on every replica and for ever.
    pub name_hash: u64,
    /// Of what the catalogue says; 0 while it has said nothing.
    pub catalogue_digest: AtomicU64,
    /// By cosine, nearest first.
    pub neighbors: List,
    /// By random walk, likeliest first.
    pub walks: List,
    /// Finished visits with it, oldest first.
    pub visits: ArcSwapOption<Vec<Posting>>,
}

/// Catalogue data with the title ready to be shared with answers.
pub(crate) struct StoredMeta {
    pub meta: ProductMeta,
    pub title: Option<Arc<str>>,
    /// Of the embedding, if there is one.
    pub signature: Signature,
}

impl StoredMeta {
    pub fn new(meta: ProductMeta) -> Self {
        StoredMeta {
            title: meta.title.as_deref().map(Arc::from),
            signature: meta.embedding.as_deref().map_or(0, signature),
            meta,
        }
    }
}

/// The first eight bytes of a name as a number that sorts like them; a shorter name is filled up with zeros, and so
/// never stands behind a longer one that begins with it.
pub(crate) fn prefix(name: &str) -> u64 {
    let mut prefix = [0u8; 8];
    for (to, from) in prefix.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u64::from_be_bytes(prefix)
}

impl ProductSlot {
    pub fn new(name: Arc<str>, barred: bool) -> Self {
        ProductSlot {
            barred,
            name_hash: crate::revision::hash(name.as_bytes()),
            prefix: prefix(&name),
            name,
            meta: ArcSwapOption::empty(),
            category: AtomicU32::new(NONE),
            available: AtomicBool::new(true),
            no_product: AtomicBool::new(false),
            catalogue_digest: AtomicU64::new(0),
            neighbors: List::default(),
            walks: List::default(),
            visits: ArcSwapOption::empty(),
            popularity: AtomicU32::new(0),
        }
    }

    /// The order of names, which breaks ties.
    pub fn by_name(&self, other: &ProductSlot) -> std::cmp::Ordering {
        let order = self.prefix.cmp(&other.prefix);
        order.then_with(|| self.name.cmp(&other.name))
    }

    /// Whether neither the configuration nor the catalogue says that it is not a product.
    pub fn is_product(&self) -> bool {
        !self.barred && !self.no_product.load(Relaxed)
    }

    pub fn title(&self) -> Option<Arc<str>> {
        self.meta.load().as_ref().and_then(|meta| meta.title.clone())
    }
}

/// A customer as readers see it.
pub(crate) struct CustomerSlot {
    pub name: Arc<str>,
    pub history: ArcSwap<History>,
}

/// The most popular products, best first.
#[derive(Debug, Default)]
pub(crate) struct Trending {
    pub overall: Vec<(u32, f32)>,
    pub by_category: AHashMap<u32, Vec<(u32, f32)>>,
}

/// Tuning with its rules looked up once, and the parameters of models.
pub(crate) struct Compiled {
    pub tuning: Tuning,
    pub blend: Blend,
    pub session: SessionParams,
    pub knowledge: Vec<KnowledgeRule>,
    pub answer_budget: usize,
    /// Time after which a product of a history counts half.
    pub half_life_ms: i64,
    pub excluded: AHashSet<Box<str>>,
}

impl Compiled {
    pub fn new(config: &EngineConfig) -> Self {
        let tuning = config.tuning.clone();
        let excluded = tuning
            .rules
            .exclude_products
            .iter()
            .map(|id| id.as_str().into())
            .collect();
        Compiled {
            tuning,
            blend: config.blend.clone(),
            session: config.session.clone(),
            knowledge: config.knowledge.clone(),
            answer_budget: config.answer_budget,
            half_life_ms: config.half_life_ms,
            excluded,
        }
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub catalogued: AtomicU64,
    /// Sum of the digests of what the catalogue says.
    pub catalogue: AtomicU64,
    /// Whether the indices over the catalogue follow what it says.
    pub catalogue_settles: AtomicBool,
    pub events: AtomicU64,
    pub learned: AtomicU64,
    pub weightless: AtomicU64,
    pub duplicates: AtomicU64,
    pub damped: AtomicU64,
    pub non_products: AtomicU64,
    /// Catalogue entries that are not products.
    pub labelled: AtomicU64,
    /// Events of excluded customers.
    pub excluded: AtomicU64,
    pub damped_customers: AtomicU64,
    pub excluded_customers: AtomicU64,
    pub ignored_embeddings: AtomicU64,
    /// Answers for which the user's model failed.
    pub onnx_failures: AtomicU64,
    pub refused_products: AtomicU64,
    pub too_old: AtomicU64,
    pub invalid: AtomicU64,
    pub erased_customers: AtomicU64,
    pub evicted_customers: AtomicU64,
    pub customers: AtomicU64,
    pub pairs: AtomicI64,
    pub pending_rows: AtomicU64,
    pub newest_event_ms: AtomicI64,
}

impl Counters {
    /// What is counted, by the name under which it is written down. Those that say how much there is now are
    /// not among them.
    pub fn by_name(&self) -> [(&'static str, &AtomicU64); 12] {
        [
            ("events", &self.events),
            ("learned", &self.learned),
            ("weightless", &self.weightless),
            ("duplicates", &self.duplicates),
            ("damped", &self.damped),
            ("excluded", &self.excluded),
            ("nonProducts", &self.non_products),
            ("refusedProducts", &self.refused_products),
            ("tooOld", &self.too_old),
            ("invalid", &self.invalid),
            ("erasedCustomers", &self.erased_customers),
            ("evictedCustomers", &self.evicted_customers),
        ]
    }
}

/// Adds to a counter that only the writer changes: no need for a locked instruction.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed) + by, Relaxed);
}

pub(crate) struct Shared {
    pub products: boxcar::Vec<ProductSlot>,
    pub product_ids: Names<u32>,
    pub categories: boxcar::Vec<Arc<str>>,
    pub category_ids: Names<u32>,
    pub customers: Names<Arc<CustomerSlot>>,
    /// Histories that readers brought back for an answer; the writer knows nothing of them.
    pub recalled: Names<Arc<CustomerSlot>>,
    /// Those about to be forgotten, by their hash: nothing of them is shown.
    pub hidden: ArcSwap<AHashSet<u64>>,
    /// The bounds that histories keep.
    pub rules: HistoryRules,
    /// Whether it is counted what customers have in common: without, products have no lists.
    pub counts_pairs: bool,
    pub trending: ArcSwap<Trending>,
    pub visits: VisitStore,
    pub content: ArcSwap<ContentIndex>,
    pub fitted: ArcSwap<Fitted>,
    /// The model that the user brought.
    pub onnx: ArcSwapOption<LiveOnnx>,
    pub knowledge: ArcSwap<KnowledgeIndex>,
    pub profiles: Names<Arc<Attributes>>,
    pub hit_rates: ArcSwap<Vec<HitRate>>,
    /// What `Auto` means now: an index into [`Algorithm::ALL`].
    pub auto: AtomicU8,
    pub tuning: ArcSwap<Compiled>,
    pub counters: Counters,
    /// Ids that are not products: never recommended even if the catalogue lists them.
    pub non_products: AHashSet<Box<str>>,
}

impl Shared {
    pub fn product(&self, id: u32) -> &ProductSlot {
        self.products
            .get(id as usize)
            .expect("an id is handed out only after its slot was pushed")
    }

    pub fn product_id(&self, name: &str) -> Option<u32> {
        self.product_ids.pin().get(name).copied()
    }

    pub fn category_id(&self, name: &str) -> Option<u32> {
        self.category_ids.pin().get(name).copied()
    }

    /// A customer of whom the writer knows.
    pub fn customer(&self, name: &str) -> Option<Arc<CustomerSlot>> {
        self.customers.pin().get(name).cloned()
    }

    fn is_hidden(&self, name: &str) -> bool {
        let hidden = self.hidden.load();
        !hidden.is_empty() && hidden.contains(&crate::writer::owner(name))
    }

    /// A customer as an answer needs them: also one whose history was brought back for it.
    pub fn asked(&self, name: &str) -> Option<Arc<CustomerSlot>> {
        if self.is_hidden(name) {
            return None;
        }
        self.customer(name)
            .or_else(|| self.recalled.pin().get(name).cloned())
    }
}

impl crate::history::Names for Shared {
    fn compare(&self, a: u32, b: u32) -> std::cmp::Ordering {
        self.product(a).by_name(self.product(b))
    }
}

/// A compact event of the bulk path: half of what a processor fetches at once.
#[repr(align(32))]
pub(crate) struct BulkEvent {
    /// The visit that it belongs to; 0 is that of the customer.
    pub session: u64,
    pub time_ms: i64,
    pub customer: u32,
    pub product: u32,
    pub units: i32,
    pub kind: EventKind,
}

const _: () = assert!(size_of::<BulkEvent>() == 32);

impl BulkEvent {
    pub fn weighted(&self) -> Weighted {
        Weighted {
            product: self.product,
            kind: self.kind,
            units: self.units,
            time_ms: self.time_ms,
        }
    }
}
