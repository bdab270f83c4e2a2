//! Parsing evaluation data: event records, `user item item …`, and sessions. Blank lines, blanks around
//! items, carriage returns and a byte order mark mean nothing; names may be anything without blanks.

use std::{borrow::Cow, fmt, sync::Arc};

use ahash::{AHashMap, AHashSet};
use serde::{Deserialize, Deserializer, de::Visitor};

use super::{
    data::{Dataset, Pair, Task, Touch, is_target},
    instant::instant,
};
use crate::event::EventKind;

/// Why data was refused.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A line that is not an event record.
    #[error("line {line}: not an event record: {source}")]
    Record {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A timestamp that is neither RFC 3339 nor milliseconds since 1970.
    #[error(
        "line {line}: timestamp {text:?} is neither like 2011-12-09T12:50:00Z nor milliseconds since 1970"
    )]
    Timestamp {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// An event other than an e-mail that names no product.
    #[error("line {line}: no product_id; only an event of type `email` goes without")]
    Product {
        /// Counted from 1.
        line: usize,
    },
    /// A line of a session test that is not a prefix, a tab and one next item.
    #[error("line {line}: expected a prefix, a tab and the next item")]
    NoTab {
        /// Counted from 1.
        line: usize,
    },
    /// Nothing to train on, or nothing to test with.
    #[error("no {0} data")]
    Empty(&'static str),
}

#[derive(Default)]
struct Names {
    ids: AHashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let (id, name) = (self.names.len() as u32, Arc::<str>::from(name));
        self.ids.insert(Arc::clone(&name), id);
        self.names.push(name);
        id
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    customer_id: Name<'a>,
    #[serde(borrow, default)]
    product_id: Option<Name<'a>>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Time<'a>,
}

/// An id: text, or a whole number, as the service takes it.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id: text or a whole number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(number.to_string())))
    }
}

/// As the service takes it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "timestamp must be like 2011-12-09T12:50:00Z, or milliseconds since 1970"
)]
enum Time<'a> {
    Millis(i64),
    Fraction(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl Time<'_> {
    /// Milliseconds since 1970; what is beyond the year 9999 is another unit.
    fn millis(&self) -> Option<i64> {
        let millis = match self {
            Time::Millis(millis) => Some(*millis),
            // What is too large stays so.
            Time::Fraction(millis) => Some(*millis as i64),
            Time::Text(text) => text.trim().parse().ok().or_else(|| instant(text)),
        };
        millis.filter(|millis| millis.unsigned_abs() <= 253_402_300_799_999)
    }

    fn text(&self) -> String {
        match self {
            Time::Millis(millis) => millis.to_string(),
            Time::Fraction(millis) => millis.to_string(),
            Time::Text(text) => text.to_string(),
        }
    }
}

fn kind(name: &str) -> EventKind {
    match name {
        "view" | "product_view" => EventKind::View,
        "click" | "product_click" => EventKind::Click,
        "cart" | "add_to_cart" => EventKind::Cart,
        "purchase" | "order" => EventKind::Purchase,
        "return" => EventKind::Return,
        "email" => EventKind::Email,
        _ => EventKind::Other,
    }
}

/// One event of the log.
struct Logged<'a> {
    customer: Cow<'a, str>,
    product: Cow<'a, str>,
    kind: EventKind,
    time_ms: i64,
}

/// Events that are about a product.
fn records(text: &str) -> impl Iterator<Item = Result<Logged<'_>, DataError>> {
    lines(text).filter_map(|(line, text)| logged(line, text).transpose())
}

/// The event of a line; `None` if it says nothing about products.
fn logged(line: usize, text: &str) -> Result<Option<Logged<'_>>, DataError> {
    let record: Record<'_> =
        serde_json::from_str(text).map_err(|source| DataError::Record { line, source })?;
    let time_ms = record.timestamp.millis().ok_or_else(|| DataError::Timestamp {
        line,
        text: record.timestamp.text(),
    })?;
    let kind = kind(&record.event_type);
    match record.product_id {
        Some(Name(product)) => Ok(Some(Logged {
            customer: record.customer_id.0,
            product,
            kind,
            time_ms,
        })),
        None if kind == EventKind::Email => Ok(None),
        None => Err(DataError::Product { line }),
    }
}

/// Event records, a JSON object a line in any order, cut in two at `split_ms` (the first instant of the
/// test). Tested are the customers with a purchase in training: distinct products that they bought
/// afterwards, that someone bought in training but they did not. Returns count for nothing in the test. In
/// data without purchases, whatever is no return takes their place.
pub fn parse_events(text: &str, split_ms: i64) -> Result<Dataset, DataError> {
    let (mut products, mut customers) = (Names::default(), Names::default());
    let mut histories: Vec<(Arc<str>, Vec<Touch>)> = Vec::new();
    let mut later: Vec<(Box<str>, Box<str>, EventKind)> = Vec::new();
    let mut purchases_only = false;
    for record in records(text) {
        let record = record?;
        let kind = record.kind;
        if record.time_ms >= split_ms {
            if is_target(kind, false) {
                later.push((record.customer.into(), record.product.into(), kind));
            }
            continue;
        }
        purchases_only |= kind == EventKind::Purchase;
        let customer = customers.intern(&record.customer) as usize;
        if customer == histories.len() {
            histories.push((Arc::clone(&customers.names[customer]), Vec::new()));
        }
        histories[customer].1.push(Touch {
            product: products.intern(&record.product),
            kind,
            time_ms: record.time_ms,
        });
    }
    let target = |touch: &&Touch| is_target(touch.kind, purchases_only);
    let mut sold = vec![false; products.names.len()];
    let mut owned: Vec<AHashSet<u32>> = Vec::with_capacity(histories.len());
    for (_, touches) in &mut histories {
        touches.sort_by_key(|touch| touch.time_ms);
        let had: AHashSet<u32> = touches.iter().filter(target).map(|touch| touch.product).collect();
        for &product in &had {
            sold[product as usize] = true;
        }
        owned.push(had);
    }
    let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); histories.len()];
    for (customer, product, _) in later
        .iter()
        .filter(|(_, _, kind)| is_target(*kind, purchases_only))
    {
        if let (Some(&customer), Some(&product)) =
            (customers.ids.get(&**customer), products.ids.get(&**product))
        {
            let owned = &owned[customer as usize];
            if !owned.is_empty() && sold[product as usize] && !owned.contains(&product) {
                wanted[customer as usize].push(product);
            }
        }
    }
    let mut cases: Vec<(usize, Vec<u32>)> = wanted.into_iter().enumerate().collect();
    for (_, list) in &mut cases {
        list.sort_unstable();
        list.dedup();
    }
    cases.retain(|(_, list)| !list.is_empty());
    finish(products, histories, Task::Customers(cases), true, purchases_only)
}

/// One event of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEvent {
    /// Who.
    pub customer: Arc<str>,
    /// With which product.
    pub product: Arc<str>,
    /// What was done.
    pub kind: EventKind,
    /// Milliseconds since 1970.
    pub time_ms: i64,
}

/// Event records as a log, oldest first; those of one time in the order of lines.
pub fn parse_log(text: &str) -> Result<Vec<LogEvent>, DataError> {
    let (mut products, mut customers) = (Names::default(), Names::default());
    let mut log = Vec::new();
    for record in records(text) {
        let record = record?;
        let customer = customers.intern(&record.customer) as usize;
        let product = products.intern(&record.product) as usize;
        log.push(LogEvent {
            customer: Arc::clone(&customers.names[customer]),
            product: Arc::clone(&products.names[product]),
            kind: record.kind,
            time_ms: record.time_ms,
        });
    }
    if log.is_empty() {
        return Err(DataError::Empty("training"));
    }
    log.sort_by_key(|event| event.time_ms);
    Ok(log)
}

/// Time of the oldest of these event records.
pub fn oldest_event(text: &str) -> Result<i64, DataError> {
    let mut oldest: Option<i64> = None;
    for record in records(text) {
        let time_ms = record?.time_ms;
        oldest = Some(oldest.map_or(time_ms, |oldest| oldest.min(time_ms)));
    }
    oldest.ok_or(DataError::Empty("test"))
}

/// Lines of `user item item …` for training and test; a user's lines add up. Not asked about: users
/// without test items, and those that training does not know.
pub fn parse_interactions(train: &str, test: &str) -> Result<Dataset, DataError> {
    let (mut products, mut customers) = (Names::default(), Names::default());
    let mut histories: Vec<(Arc<str>, Vec<Touch>)> = Vec::new();
    for (_, text) in lines(train) {
        let mut words = text.split_ascii_whitespace();
        let Some(user) = words.next() else { continue };
        let customer = customers.intern(user) as usize;
        if customer == histories.len() {
            histories.push((Arc::clone(&customers.names[customer]), Vec::new()));
        }
        let touches = &mut histories[customer].1;
        for item in words {
            let product = products.intern(item);
            let time_ms = touches.len() as i64;
            touches.push(Touch {
                product,
                kind: EventKind::Purchase,
                time_ms,
            });
        }
        touches.shrink_to_fit();
    }
    let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); histories.len()];
    for (_, text) in lines(test) {
        let mut words = text.split_ascii_whitespace();
        if let Some(user) = words.next()
            && let Some(&customer) = customers.ids.get(user)
        {
            wanted[customer as usize].extend(words.map(|item| products.intern(item)));
        }
    }
    let mut cases: Vec<(usize, Vec<u32>)> = wanted.into_iter().enumerate().collect();
    for (_, list) in &mut cases {
        list.sort_unstable();
        list.dedup();
    }
    cases.retain(|(_, list)| !list.is_empty());
    finish(products, histories, Task::Customers(cases), false, true)
}

/// Sessions, items separated by blanks and oldest first, a session a line; the test has a prefix, a tab and
/// the next item a line.
pub fn parse_sessions(train: &str, test: &str) -> Result<Dataset, DataError> {
    let mut products = Names::default();
    let mut histories: Vec<(Arc<str>, Vec<Touch>)> = Vec::new();
    for (_, text) in lines(train) {
        let items = text.split_ascii_whitespace().enumerate();
        let touches: Vec<Touch> = items
            .map(|(at, item)| Touch {
                product: products.intern(item),
                kind: EventKind::View,
                time_ms: at as i64,
            })
            .collect();
        histories.push((format!("s{}", histories.len()).into(), touches));
    }
    let mut pairs = Vec::new();
    for (line, text) in lines(test) {
        let (prefix, next) = text.split_once('\t').ok_or(DataError::NoTab { line })?;
        let mut next = next.split_ascii_whitespace();
        let (Some(next), None) = (next.next(), next.next()) else {
            return Err(DataError::NoTab { line });
        };
        let prefix = prefix.split_ascii_whitespace();
        pairs.push(Pair {
            prefix: prefix.map(|item| products.intern(item)).collect(),
            next: products.intern(next),
        });
    }
    finish(products, histories, Task::Sessions(pairs), false, false)
}

fn finish(
    products: Names,
    customers: Vec<(Arc<str>, Vec<Touch>)>,
    task: Task,
    timed: bool,
    purchases_only: bool,
) -> Result<Dataset, DataError> {
    let touches = || customers.iter().flat_map(|(_, touches)| touches);
    let Some(now_ms) = touches().map(|touch| touch.time_ms).max() else {
        return Err(DataError::Empty("training"));
    };
    if task.is_empty() {
        return Err(DataError::Empty("test"));
    }
    let data = Dataset {
        products: products.names,
        catalogue: 0,
        customers,
        task,
        timed,
        now_ms,
        purchases_only,
    };
    Ok(data.with_catalogue())
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim().is_empty())
}

#[cfg(test)]
mod tests;
