//! Nearest sessions: VMIS-kNN (Kersbergen, Sprangers, Schelter 2022) with posting lists capped by recency,
//! and the weights of STAN (Garg et al. 2019) for recency of items, recency of sessions and distance within
//! a session.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    scratch::{self, Scratch},
    shared::Shared,
    visits::{LONGEST, Posting},
};

/// Hyper-parameters of answering from finished sessions.
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
    /// Share of the time that all sessions span after which a session counts 1/e; 0 means that age does not
    /// matter.
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
    /// What the products of the visit count as candidates, against 1 for what is new to it; with 0 they are none. Where no
    /// number is given it follows from finished visits: from 0, where at most one in a hundred next products had been met
    /// before, to 3, from one in seven on. (Counted are returns within ten products, where there was anything to return
    /// to, among the last twenty of a visit.)
    pub repeat: Option<f32>,
    /// The same of the newest product of the visit: from 0, where no next product was the same again, to 1, from one in
    /// twenty on.
    pub repeat_last: Option<f32>,
}

impl Default for SessionParams {
    fn default() -> Self {
        SessionParams {
            postings: 150,
            neighbors: 200,
            window: 10,
            position_decay: 3.0,
            recency_decay: 1.0,
            distance_decay: 3.0,
            backward: 0.7,
            length_penalty: 0.3,
            rarity: 0.6,
            popularity_penalty: 0.1,
            repeat: None,
            repeat_last: None,
        }
    }
}

/// A session that has something in common with the visit.
#[derive(Clone, Copy, Debug)]
struct Near {
    posting: Posting,
    similarity: f32,
    /// The product of the visit, counted back from the newest, through which it was found first: the anchor.
    back: u16,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct SessionScratch {
    near: Vec<Near>,
    /// Open addressing: position plus one in `near`, by place.
    found: Vec<u32>,
    keys: Vec<u64>,
    products: Vec<u32>,
    tables: Tables,
}

/// Powers and exponentials that every vote needs, worked out once for given parameters.
#[derive(Debug, Default)]
struct Tables {
    made_for: Option<SessionParams>,
    /// By frequency of a candidate.
    penalty: Vec<f32>,
    /// By position in the visit, counted back.
    position: Vec<f32>,
    /// By length of a session.
    length: Vec<f32>,
    /// By place in a session, from as many before the common product as are read to as many after it.
    around: Vec<f32>,
    /// By age of a session, in steps of one in `AGES` of the time that all sessions span.
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
        self.position = table(LENGTHS, &|back| (-back / params.position_decay).exp());
        self.length = table(LENGTHS, &|length| length.max(1.0).powf(-params.length_penalty));
        let reach = reach(params);
        self.around = table(2 * reach + 1, &|at| {
            let steps = at - reach as f32;
            let direction = if steps < 0.0 { params.backward } else { 1.0 };
            direction * (-steps.abs() / params.distance_decay).exp()
        });
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

/// Scores products for a visit whose products are `visit`, oldest first.
pub(crate) fn score(shared: &Shared, visit: &[u32], params: &SessionParams, scratch: &mut Scratch) {
    let mut buffers = std::mem::take(&mut scratch.session);
    buffers.tables.make(params);
    let window = &visit[visit.len().saturating_sub(params.window)..];
    buffers.find(shared, window, params);
    buffers.vote(shared, window, params, scratch);
    weigh_returns(shared, visit, params, scratch);
    scratch.session = buffers;
}

impl SessionScratch {
    /// Collects the sessions that share a product with the visit, with their similarity.
    fn find(&mut self, shared: &Shared, visit: &[u32], params: &SessionParams) {
        self.near.clear();
        let distinct = |back: usize| {
            let product = visit[visit.len() - 1 - back];
            (!visit[visit.len() - back..].contains(&product)).then_some(product)
        };
        let lists: Vec<_> = (0..visit.len())
            .filter_map(|back| Some((back, distinct(back)?)))
            .map(|(back, product)| (back, product, shared.product(product).visits.load()))
            .collect();
        let newest = |list: &'_ Vec<Posting>| list.len().min(params.postings);
        let postings: usize = lists
            .iter()
            .flat_map(|(_, _, list)| list.iter())
            .map(|list| newest(list))
            .sum();
        // Sessions of one product are distinct: then there is nothing to look up.
        let several = lists.len() > 1;
        let mask = (postings * 2).next_power_of_two() - 1;
        if several {
            self.found.clear();
            self.found.resize(mask + 1, 0);
        }
        let total = shared.visits.count.load(Relaxed) as f32;
        for (back, product, list) in &lists {
            let Some(list) = list.as_ref() else { continue };
            let rarity = (total / (shared.visits.frequency(*product) + 1) as f32).powf(params.rarity);
            let weight = look_up(&self.tables.position, *back) * rarity;
            for posting in list[list.len() - newest(list)..].iter().rev() {
                let near = Near {
                    posting: *posting,
                    similarity: weight,
                    back: *back as u16,
                };
                if !several {
                    self.near.push(near);
                    continue;
                }
                let mut at = (posting.place.wrapping_mul(0x9E37_79B1) >> 7) as usize & mask;
                loop {
                    let known = self.found[at] as usize;
                    if known == 0 {
                        self.near.push(near);
                        self.found[at] = self.near.len() as u32;
                        break;
                    }
                    let known = &mut self.near[known - 1];
                    if known.posting.place == posting.place {
                        // Products come newest first: the first to match is the anchor.
                        known.similarity += weight;
                        break;
                    }
                    at = (at + 1) & mask;
                }
            }
        }
    }

    /// Lets the most similar sessions vote for their products.
    fn vote(&mut self, shared: &Shared, visit: &[u32], params: &SessionParams, scratch: &mut Scratch) {
        let (tables, near) = (&self.tables, &mut self.near);
        let reach = reach(params);
        let newest = shared.visits.newest_ms.load(Relaxed) / 1_000;
        let span = (newest - shared.visits.oldest_ms.load(Relaxed) / 1_000).max(1) as f32;
        let step = AGES as f32 / span;
        for near in near.iter_mut() {
            let age = (newest - i64::from(near.posting.seconds)).max(0) as f32 * step;
            near.similarity *=
                look_up(&tables.length, near.posting.length.into()) * look_up(&tables.age, age as usize);
        }
        if near.len() > params.neighbors {
            strongest(near, &mut self.keys, params.neighbors);
        }
        // Visits lie all over memory: all are asked for before the first is needed.
        let peeks = near.iter().map(|near| shared.visits.peek(&near.posting));
        std::hint::black_box(peeks.fold(0, |all, stamp| all ^ stamp));
        for near in near.iter() {
            self.products.clear();
            let (anchor, length) = (usize::from(near.posting.at), usize::from(near.posting.length));
            let first = anchor.saturating_sub(reach);
            let within = first..length.min(anchor + reach + 1);
            shared.visits.read(&near.posting, within, &mut self.products);
            let source = visit[visit.len() - 1 - usize::from(near.back)];
            let weights = &tables.around[first + reach - anchor..];
            scratch.add_all(&self.products, weights, near.similarity, source);
        }
        // What depends on the candidate alone is applied to its sum.
        scratch.scale(|product| look_up(&tables.penalty, shared.visits.frequency(product) as usize));
    }
}

/// What the visit has met counts differently from what is new to it; all of it, not only what neighbours were found by: in
/// long visits of those who compare, what was met long ago comes back, too.
fn weigh_returns(shared: &Shared, visit: &[u32], params: &SessionParams, scratch: &mut Scratch) {
    let returns = &shared.visits.returns;
    let repeat = params.repeat.unwrap_or_else(|| returns.repeat());
    let repeat_last = params.repeat_last.unwrap_or_else(|| returns.repeat_last());
    for (at, &product) in visit.iter().enumerate() {
        // Once, where it was met last.
        if !visit[at + 1..].contains(&product) {
            let newest = at + 1 == visit.len();
            match if newest { repeat_last } else { repeat } {
                // What is popular is better than what nobody goes back to.
                0.0 => scratch.leave_out(product),
                weight => scratch.scale_one(product, weight),
            }
        }
    }
}

/// Steps from the common product beyond which a product of a neighbour counts so little (below 2 %) that it is not
/// worth reading: a shop's baskets may hold a hundred.
fn reach(params: &SessionParams) -> usize {
    (4.0 * params.distance_decay).ceil().min(LONGEST as f32) as usize
}

/// Keeps the `keep` most similar (of equals the newer), in the order in which they were found.
fn strongest(near: &mut Vec<Near>, keys: &mut Vec<u64>, keep: usize) {
    keys.clear();
    let key = |near: &Near| scratch::key(near.similarity, !near.posting.seconds);
    keys.extend(near.iter().map(key));
    let last = *keys.select_nth_unstable(keep).1;
    let better = near.iter().filter(|near| key(near) < last).count();
    // Of those that are as good as the last, and of one second, the order of lists decides.
    let mut equals: Vec<u32> = near
        .iter()
        .filter(|near| key(near) == last)
        .map(|near| near.posting.stamp)
        .collect();
    equals.sort_unstable_by(|a, b| b.cmp(a));
    equals.truncate(keep - better);
    let lowest = equals.last().copied();
    near.retain(|near| {
        key(near) < last || key(near) == last && lowest.is_some_and(|lowest| near.posting.stamp >= lowest)
    });
    near.truncate(keep);
}
