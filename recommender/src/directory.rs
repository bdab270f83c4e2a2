//! What requests look up beside the model: customers' profiles, whose an e-mail address is, and which products
//! a text mentions. Written by the ingest thread, a record at a time; locks are held for a map's operation only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use recommendation_api::records::CustomerProfile;
use recommender_engine::ByOwner;

/// Aliases of aliases that are followed.
const LONGEST_CHAIN: usize = 8;
/// Longest title that is looked for in a text, in words.
const LONGEST_TITLE: usize = 16;
/// Words of a text that are looked at.
const MAX_WORDS: usize = 4_000;
/// Shortest id or title that counts as a mention, in bytes: "a" and "42" stand in every text.
const SHORTEST: usize = 3;

#[derive(Default)]
struct Profiles {
    by_id: HashMap<Arc<str>, CustomerProfile>,
    /// When each was written, milliseconds since 1970, where that is known.
    written: HashMap<Arc<str>, i64>,
    /// The ids by their hash, as erasures name them.
    by_owner: ByOwner,
    /// By address in lower case. Of two customers with one address the later stands here.
    by_address: HashMap<Box<str>, Arc<str>>,
    /// The other ids of a customer.
    aliases: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Those that an erasure had forgotten while their records still stand in the log, and whose alias each was.
    forgotten: HashMap<Arc<str>, Option<Arc<str>>>,
}

impl Profiles {
    /// Takes a profile out, with everything that leads to it.
    fn remove(&mut self, customer: &str) -> Option<(Arc<str>, CustomerProfile)> {
        let (id, profile) = self.by_id.remove_entry(customer)?;
        self.written.remove(customer);
        self.by_owner.remove(customer);
        if let Some(address) = profile.email.as_deref() {
            let address = address.to_lowercase();
            if self
                .by_address
                .get(address.as_str())
                .is_some_and(|id| **id == *customer)
            {
                self.by_address.remove(address.as_str());
            }
        }
        if let Some(whose) = profile.alias_of.as_deref()
            && let Some(aliases) = self.aliases.get_mut(whose)
        {
            aliases.retain(|alias| **alias != *customer);
            if aliases.is_empty() {
                self.aliases.remove(whose);
            }
        }
        Some((id, profile))
    }

    /// Whose alias an id is, or was before it was erased.
    fn whose(&self, id: &str) -> Option<Arc<str>> {
        match self.by_id.get(id) {
            Some(profile) => profile.alias_of.as_deref().map(Arc::from),
            None => self.forgotten.get(id)?.clone(),
        }
    }

    /// Whose an id is in the end; `None` for an id that is nobody's alias.
    fn canonical(&self, id: &str) -> Option<&str> {
        let mut found = self.by_id.get(id)?.alias_of.as_deref()?;
        for _ in 1..LONGEST_CHAIN {
            match self
                .by_id
                .get(found)
                .and_then(|profile| profile.alias_of.as_deref())
            {
                Some(next) => found = next,
                None => break,
            }
        }
        Some(found)
    }
}

/// Profiles of which nobody is asked about as long as there are none.
#[derive(Default)]
struct Counts {
    /// Profiles that are aliases.
    aliases: AtomicUsize,
    /// Profiles that say anything about consent.
    consents: AtomicUsize,
}

impl Counts {
    fn change(&self, profile: &CustomerProfile, by: isize) {
        let add = |count: &AtomicUsize, when: bool| {
            if when {
                count.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
            }
        };
        add(&self.aliases, profile.alias_of.is_some());
        add(&self.consents, profile.consent.is_some());
    }
}

/// Who is erased together.
pub struct Family {
    /// All ids, the one that everything is kept under first.
    pub ids: Vec<Arc<str>>,
    /// From the first of them down to the one that was asked about.
    pub lineage: Vec<Arc<str>>,
}

/// Profiles, addresses and titles.
pub struct Directory {
    profiles: RwLock<Profiles>,
    counts: Counts,
    /// Product ids by the hash of their title's words. A title that has changed leaves its old entry: whoever
    /// finds one compares.
    titles: RwLock<HashMap<u64, Box<str>>>,
    hasher: ahash::RandomState,
    room: usize,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Directory {
    /// For at most `room` profiles.
    pub fn new(room: usize) -> Self {
        Self {
            profiles: RwLock::default(),
            counts: Counts::default(),
            titles: RwLock::default(),
            hasher: ahash::RandomState::new(),
            room,
        }
    }

    fn profiles(&self) -> RwLockReadGuard<'_, Profiles> {
        self.profiles.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, profiles: &mut Profiles, id: &str) -> Option<(Arc<str>, CustomerProfile)> {
        let removed = profiles.remove(id)?;
        self.counts.change(&removed.1, -1);
        Some(removed)
    }

    /// Takes up a profile; `None` forgets it. False where there is no room for another, or where it would be its
    /// own alias; what says that a customer refuses always finds room.
    pub fn set_profile(&self, customer: &str, profile: Option<CustomerProfile>) -> bool {
        self.take_profile(customer, profile, 0)
    }

    /// [`Directory::set_profile`] of a record that was written then, milliseconds since 1970; 0 where nobody knows.
    pub fn take_profile(&self, customer: &str, profile: Option<CustomerProfile>, written_ms: i64) -> bool {
        let mut profiles = self.profiles.write().unwrap_or_else(PoisonError::into_inner);
        let old = self.remove(&mut profiles, customer);
        let Some(profile) = profile else {
            profiles.forgotten.remove(customer);
            return true;
        };
        if profiles.by_id.len() >= self.room && profile.consent != Some(false) {
            return false;
        }
        if let Some(whose) = profile.alias_of.as_deref()
            && (whose == customer || profiles.canonical(whose) == Some(customer))
        {
            return false;
        }
        profiles.forgotten.remove(customer);
        let id: Arc<str> = old.map_or_else(|| customer.into(), |(id, _)| id);
        if let Some(address) = &profile.email {
            profiles
                .by_address
                .insert(address.to_lowercase().into(), Arc::clone(&id));
        }
        if let Some(whose) = profile.alias_of.as_deref() {
            let aliases = profiles.aliases.entry(whose.into()).or_default();
            aliases.push(Arc::clone(&id));
        }
        self.counts.change(&profile, 1);
        profiles.by_owner.insert(&id);
        if written_ms > 0 {
            profiles.written.insert(Arc::clone(&id), written_ms);
        }
        profiles.by_id.insert(id, profile);
        true
    }

    /// Forgets a profile, unless it was written after that time: whoever was erased may have come back. Answers whether
    /// none is left.
    pub fn forget_profile(&self, customer: &str, until_ms: i64) -> bool {
        let mut profiles = self.profiles.write().unwrap_or_else(PoisonError::into_inner);
        let written = profiles.written.get(customer);
        if written.is_some_and(|written_ms| *written_ms > until_ms) {
            return false;
        }
        if let Some((id, profile)) = self.remove(&mut profiles, customer) {
            let whose = profile.alias_of.map(Arc::from);
            profiles.forgotten.insert(id, whose);
        }
        true
    }

    /// The log tells nothing more of the profile that was `known`. Another one is of who has come back.
    pub fn taken_out(&self, id: &str, known: Option<&CustomerProfile>) {
        let mut profiles = self.profiles.write().unwrap_or_else(PoisonError::into_inner);
        if profiles.by_id.get(id).is_some_and(|now| known != Some(now)) {
            return;
        }
        profiles.forgotten.remove(id);
        self.remove(&mut profiles, id);
    }

    /// Whether a record in the log tells of a profile: of one that is known, or was forgotten by an erasure.
    pub fn has_record(&self, id: &str) -> bool {
        let profiles = self.profiles();
        profiles.by_id.contains_key(id) || profiles.forgotten.contains_key(id)
    }

    /// All ids of somebody who is erased; those that an erasure had forgotten among them, as long as the log tells of them.
    pub fn family(&self, id: &str) -> Family {
        // One look, while profiles change.
        let profiles = self.profiles();
        let mut lineage: Vec<Arc<str>> = vec![id.into()];
        while lineage.len() <= LONGEST_CHAIN
            && let Some(whose) = lineage.last().and_then(|id| profiles.whose(id))
            && !lineage.contains(&whose)
        {
            lineage.push(whose);
        }
        lineage.reverse();
        let ids = with_theirs(lineage[..1].to_vec(), |id| {
            let forgotten = profiles.forgotten.iter();
            let forgotten = forgotten.filter(|(_, whose)| whose.as_ref() == Some(id));
            let known = profiles.aliases.get(id).into_iter().flatten();
            known.chain(forgotten.map(|(id, _)| id)).cloned().collect()
        });
        Family { ids, lineage }
    }

    /// A customer's profile.
    pub fn profile(&self, customer: &str) -> Option<CustomerProfile> {
        self.profiles().by_id.get(customer).cloned()
    }

    /// Ids with a profile whose [`owner`](recommender_engine::owner) this is.
    pub fn ids_of(&self, owner: u64) -> Vec<Arc<str>> {
        self.profiles().by_owner.of(owner).cloned().collect()
    }

    /// What a customer has said about consent.
    pub fn consent(&self, customer: &str) -> Option<bool> {
        if self.counts.consents.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.profiles().by_id.get(customer)?.consent
    }

    /// Whose an id is; `None` for an id that is nobody's alias.
    pub fn canonical(&self, id: &str) -> Option<Arc<str>> {
        if self.counts.aliases.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.profiles().canonical(id).map(Arc::from)
    }

    /// The other ids of a customer, and theirs.
    pub fn aliases(&self, customer: &str) -> Vec<Arc<str>> {
        let profiles = self.profiles();
        let of = |id: &str| profiles.aliases.get(id).cloned().unwrap_or_default();
        with_theirs(of(customer), |alias| of(alias))
    }

    /// Every id that is another's, and whose it is in the end.
    pub fn all_aliases(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let profiles = self.profiles();
        let ids = profiles.aliases.values().flatten();
        ids.filter_map(|id| Some((Arc::clone(id), profiles.canonical(id)?.into())))
            .collect()
    }

    /// Whose address this is.
    pub fn customer_of(&self, address: &str) -> Option<Arc<str>> {
        let profiles = self.profiles.read().unwrap_or_else(PoisonError::into_inner);
        profiles.by_address.get(address.to_lowercase().as_str()).cloned()
    }

    /// Takes up a product's title.
    pub fn set_title(&self, product: &str, title: &str) {
        let words = words(title);
        if title.len() >= SHORTEST && (1..=LONGEST_TITLE).contains(&words.len()) {
            let mut titles = self.titles.write().unwrap_or_else(PoisonError::into_inner);
            titles.insert(self.hasher.hash_one(&words), product.into());
        }
    }

    /// Products that a text names by id or title, in the order of their first mention, at most `most`.
    /// `title` tells a product's title; `None` for what is no product.
    pub fn mentioned(
        &self,
        text: &str,
        most: usize,
        title: impl Fn(&str) -> Option<Option<String>>,
    ) -> Vec<String> {
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut note = |at: usize, product: &str| {
            if !found.iter().any(|(_, known)| known == product) {
                found.push((at, product.to_owned()));
            }
        };
        let begin = text.as_ptr() as usize;
        for token in text.split_whitespace().take(MAX_WORDS) {
            let bare = token.trim_matches(|c: char| !c.is_alphanumeric());
            for id in [token, bare] {
                if id.len() >= SHORTEST && title(id).is_some() {
                    note(token.as_ptr() as usize - begin, id);
                }
            }
        }
        let placed: Vec<(usize, String)> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .take(MAX_WORDS)
            .map(|word| (word.as_ptr() as usize - begin, word.to_lowercase()))
            .collect();
        let in_order: Vec<&String> = placed.iter().map(|(_, word)| word).collect();
        let titles = self.titles.read().unwrap_or_else(PoisonError::into_inner);
        for first in 0..in_order.len() {
            for last in first..in_order.len().min(first + LONGEST_TITLE) {
                let phrase = &in_order[first..=last];
                let Some(product) = titles.get(&self.hasher.hash_one(phrase)) else {
                    continue;
                };
                let same = |title: &String| words(title).iter().eq(phrase.iter().copied());
                if title(product).flatten().as_ref().is_some_and(same) {
                    note(placed[first].0, product);
                }
            }
        }
        drop(titles);
        found.sort();
        found.into_iter().map(|(_, product)| product).take(most).collect()
    }
}

/// These ids, those that are `further` to them, and so on; none twice.
fn with_theirs(mut found: Vec<Arc<str>>, further: impl Fn(&Arc<str>) -> Vec<Arc<str>>) -> Vec<Arc<str>> {
    let mut at = 0;
    while let Some(id) = found.get(at) {
        let mut new = further(id);
        new.retain(|id| !found.contains(id));
        found.extend(new);
        at += 1;
    }
    found
}

/// The words of a title, as they are compared.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests;
