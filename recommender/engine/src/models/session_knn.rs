//! Nearest sessions: VMIS-kNN (Kersbergen, Sprangers, Schelter 2022) with posting lists capped by recency,
//! and the weights of STAN (Garg et al. 2019) for recency of items, recency of sessions and distance within
//! a session.

use ahash::AHashMap;

/// Hyper-parameters of answering from a [`SessionIndex`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionParams {
    /// Most recent sessions looked at for each product of the visit.
    pub postings: usize,
    /// Sessions that vote.
    pub neighbors: usize,
    /// Most recent products of the visit that count.
    pub window: usize,
    /// Positions after which a product of the visit counts 1/e.
    pub position_decay: f32,
    /// Share of all sessions after which a session counts 1/e; 0 means that age does not matter.
    pub recency_decay: f32,
    /// Steps from the common product after which a product of a neighbour counts 1/e.
    pub distance_decay: f32,
    /// What a product before the common one counts, against 1 for one after it.
    pub backward: f32,
    /// How much longer sessions are held back: 0.5 is the cosine.
    pub length_penalty: f32,
    /// How much frequent products are held back in similarity: exponent of inverse frequency.
    pub rarity: f32,
    /// How much frequent products are held back as candidates.
    pub popularity_penalty: f32,
    /// What the products of the visit count as candidates.
    pub repeat: f32,
    /// What the newest product of the visit counts as a candidate.
    pub repeat_last: f32,
}

impl Default for SessionParams {
    fn default() -> Self {
        SessionParams {
            postings: 500,
            neighbors: 200,
            window: 10,
            position_decay: 3.0,
            recency_decay: 1.0,
            distance_decay: 3.0,
            backward: 0.7,
            length_penalty: 0.3,
            rarity: 0.6,
            popularity_penalty: 0.1,
            repeat: 3.0,
            repeat_last: 1.0,
        }
    }
}

/// Finished sessions, newest last, found by product.
#[derive(Clone, Debug, Default)]
pub struct SessionIndex {
    offsets: Vec<u32>,
    items: Vec<u32>,
    starts: Vec<u32>,
    /// (session, position of the product's last occurrence), oldest first.
    postings: Vec<(u32, u16)>,
    frequency: Vec<u32>,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub struct SessionScratch {
    similarity: Vec<f32>,
    anchor: Vec<(u16, u16)>,
    touched: Vec<u32>,
    tables: Tables,
}

/// Powers and exponentials that every vote needs, worked out once for given parameters.
#[derive(Debug, Default)]
struct Tables {
    made_for: Option<SessionParams>,
    /// By frequency of a candidate.
    penalty: Vec<f32>,
    /// By length of a session.
    length: Vec<f32>,
    /// By steps between two products of a session.
    distance: Vec<f32>,
    /// By age of a session, in steps of one in `AGES` of all sessions.
    age: Vec<f32>,
}

const AGES: usize = 256;
const FREQUENCIES: usize = 1_024;
const LENGTHS: usize = 128;

impl Tables {
    fn make(&mut self, params: &SessionParams) {
        if self.made_for.as_ref() == Some(params) {
            return;
        }
        let table = |size: usize, value: &dyn Fn(f32) -> f32| (0..size).map(|at| value(at as f32)).collect();
        self.penalty = table(FREQUENCIES, &|frequency| {
            frequency.max(1.0).powf(-params.popularity_penalty)
        });
        self.length = table(LENGTHS, &|length| length.max(1.0).powf(-params.length_penalty));
        self.distance = table(LENGTHS, &|steps| (-steps / params.distance_decay).exp());
        self.age = table(AGES + 1, &|step| {
            if params.recency_decay > 0.0 {
                (-step / AGES as f32 / params.recency_decay).exp()
            } else {
                1.0
            }
        });
        self.made_for = Some(params.clone());
    }
}

/// The entry of a table; beyond its end the last one.
fn look_up(table: &[f32], at: usize) -> f32 {
    table[at.min(table.len() - 1)]
}

impl SessionIndex {
    /// Indexes sessions, oldest first; `products` is one more than the largest product. Of each product
    /// the newest `cap` sessions are kept.
    pub fn build<S: AsRef<[u32]>>(sessions: &[S], products: usize, cap: usize) -> SessionIndex {
        let (mut offsets, mut items) = (vec![0u32], Vec::new());
        let mut last: AHashMap<u32, u16> = AHashMap::new();
        let mut all: Vec<Vec<(u32, u16)>> = vec![Vec::new(); products];
        for (session, list) in sessions.iter().enumerate() {
            let list = list.as_ref();
            let list = &list[list.len().saturating_sub(u16::MAX as usize)..];
            items.extend_from_slice(list);
            offsets.push(items.len() as u32);
            last.clear();
            last.extend(list.iter().enumerate().map(|(at, product)| (*product, at as u16)));
            for (&product, &at) in &last {
                all[product as usize].push((session as u32, at));
            }
        }
        let (mut starts, mut postings) = (vec![0u32], Vec::new());
        let mut frequency = Vec::with_capacity(products);
        for list in &all {
            frequency.push(list.len() as u32);
            postings.extend_from_slice(&list[list.len().saturating_sub(cap)..]);
            starts.push(postings.len() as u32);
        }
        SessionIndex {
            offsets,
            items,
            starts,
            postings,
            frequency,
        }
    }

    /// How many sessions.
    pub fn sessions(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn session(&self, session: u32) -> &[u32] {
        &self.items[self.offsets[session as usize] as usize..self.offsets[session as usize + 1] as usize]
    }

    fn sessions_of(&self, product: u32, cap: usize) -> &[(u32, u16)] {
        let Some(&end) = self.starts.get(product as usize + 1) else {
            return &[];
        };
        let (start, end) = (self.starts[product as usize] as usize, end as usize);
        &self.postings[start.max(end.saturating_sub(cap))..end]
    }

    /// Hands scores of products to `add`, for a visit whose products are `visit`, oldest first. The third
    /// argument is the product of the visit that the vote rests on.
    pub fn score(
        &self,
        visit: &[u32],
        params: &SessionParams,
        scratch: &mut SessionScratch,
        mut add: impl FnMut(u32, f32, u32),
    ) {
        let total = self.sessions();
        if scratch.similarity.len() < total {
            scratch.similarity.resize(total, 0.0);
            scratch.anchor.resize(total, (0, 0));
        }
        scratch.tables.make(params);
        let tables = &scratch.tables;
        let visit = &visit[visit.len().saturating_sub(params.window)..];
        for (back, &product) in visit.iter().rev().enumerate() {
            if visit[visit.len() - back..].contains(&product) {
                continue;
            }
            let rarity = (total as f32
                / (self.frequency.get(product as usize).copied().unwrap_or(0) + 1) as f32)
                .powf(params.rarity);
            let weight = (-(back as f32) / params.position_decay).exp() * rarity;
            for &(session, at) in self.sessions_of(product, params.postings) {
                let similarity = &mut scratch.similarity[session as usize];
                if *similarity == 0.0 {
                    scratch.touched.push(session);
                    // Products come newest first: the first to match is the anchor.
                    scratch.anchor[session as usize] = (at, back as u16);
                }
                *similarity += weight;
            }
        }
        for &session in &scratch.touched {
            let length = look_up(&tables.length, self.session(session).len());
            let age = (total - session as usize) * AGES / total;
            scratch.similarity[session as usize] *= length * look_up(&tables.age, age);
        }
        let near = &mut scratch.touched;
        if near.len() > params.neighbors {
            let similarity = &scratch.similarity;
            let order = |a: &u32, b: &u32| {
                similarity[*b as usize]
                    .total_cmp(&similarity[*a as usize])
                    .then(b.cmp(a))
            };
            near.select_nth_unstable_by(params.neighbors, order);
        }
        for &session in near.iter().take(params.neighbors) {
            let similarity = scratch.similarity[session as usize];
            let (anchor, back) = scratch.anchor[session as usize];
            let source = visit[visit.len() - 1 - back as usize];
            let list = self.session(session);
            for (at, &product) in list.iter().enumerate() {
                let steps = (at as i32 - i32::from(anchor)).unsigned_abs() as usize;
                let direction = if at < anchor as usize {
                    params.backward
                } else {
                    1.0
                };
                let frequency = self.frequency[product as usize] as usize;
                let mut vote = similarity * direction * look_up(&tables.distance, steps);
                vote *= look_up(&tables.penalty, frequency);
                if visit.last() == Some(&product) {
                    vote *= params.repeat_last;
                } else if visit.contains(&product) {
                    vote *= params.repeat;
                }
                add(product, vote, source);
            }
        }
        for session in near.drain(..) {
            scratch.similarity[session as usize] = 0.0;
        }
    }
}
