//! Parsing evaluation data: event records, `user item item …`, and sessions.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use serde::Deserialize;

use super::instant::instant;
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
    /// A timestamp that is not RFC 3339 in UTC.
    #[error("line {line}: timestamp {text:?} is not like 2011-12-09T12:50:00Z")]
    Timestamp {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A line of a session test without a tab between prefix and next item.
    #[error("line {line}: expected a prefix, a tab and the next item")]
    NoTab {
        /// Counted from 1.
        line: usize,
    },
    /// Nothing to train on, or nothing to test with.
    #[error("no {0} data")]
    Empty(&'static str),
}

/// One contact of a customer with a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Touch {
    /// Index into [`Dataset::products`].
    pub product: u32,
    /// What was done.
    pub kind: EventKind,
    /// Milliseconds since 1970; the position within the line where the data has no times.
    pub time_ms: i64,
}

/// A next item to be found after a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Oldest first.
    pub prefix: Vec<u32>,
    /// What came next.
    pub next: u32,
}

/// What is tested.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Products new to the customer: index into [`Dataset::customers`] and the products to be found.
    Customers(Vec<(usize, Vec<u32>)>),
    /// Next items; nothing is left out of the answer.
    Sessions(Vec<Pair>),
}

impl Task {
    /// How many questions.
    pub fn len(&self) -> usize {
        match self {
            Task::Customers(cases) => cases.len(),
            Task::Sessions(pairs) => pairs.len(),
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Training data and what is asked of a model trained on it.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Names of products; those up to [`Dataset::catalogue`] occur in training.
    pub products: Vec<Arc<str>>,
    /// How many products occur in training: the catalogue that coverage is measured by.
    pub catalogue: usize,
    /// Training histories (or sessions), oldest touch first.
    pub customers: Vec<(Arc<str>, Vec<Touch>)>,
    /// What is tested.
    pub task: Task,
    /// The newest time of training; the time at which questions are asked.
    pub now_ms: i64,
    /// Whether touches carry real times.
    pub timed: bool,
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
    customer_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    product_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    event_type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    timestamp: std::borrow::Cow<'a, str>,
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

/// Event records, a JSON object a line, cut in two at `split_ms` (the first instant of the test). Tested
/// are the customers with a purchase in training: distinct products that they bought afterwards, that
/// someone bought in training but they did not. Returns count for nothing in the test.
pub fn parse_events(text: &str, split_ms: i64) -> Result<Dataset, DataError> {
    let mut touches: Vec<(u32, Touch)> = Vec::new();
    let (mut products, mut customers) = (Names::default(), Names::default());
    let mut later: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (line, text) in lines(text) {
        let record: Record<'_> =
            serde_json::from_str(text).map_err(|source| DataError::Record { line, source })?;
        let time_ms = instant(&record.timestamp).ok_or_else(|| DataError::Timestamp {
            line,
            text: record.timestamp.to_string(),
        })?;
        let kind = kind(&record.event_type);
        if time_ms < split_ms {
            let product = products.intern(&record.product_id);
            touches.push((
                customers.intern(&record.customer_id),
                Touch {
                    product,
                    kind,
                    time_ms,
                },
            ));
        } else if kind == EventKind::Purchase {
            later.push((
                record.customer_id.as_ref().into(),
                record.product_id.as_ref().into(),
            ));
        }
    }
    let mut histories: Vec<(Arc<str>, Vec<Touch>)> = customers
        .names
        .iter()
        .map(|name| (Arc::clone(name), Vec::new()))
        .collect();
    for (customer, touch) in touches {
        histories[customer as usize].1.push(touch);
    }
    for (_, touches) in &mut histories {
        touches.sort_by_key(|touch| touch.time_ms);
    }
    let purchase = |touch: &&Touch| touch.kind == EventKind::Purchase;
    let mut sold = vec![false; products.names.len()];
    let mut owned: AHashSet<(u32, u32)> = AHashSet::new();
    for (customer, (_, touches)) in histories.iter().enumerate() {
        for touch in touches.iter().filter(purchase) {
            sold[touch.product as usize] = true;
            owned.insert((customer as u32, touch.product));
        }
    }
    let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); histories.len()];
    for (customer, product) in &later {
        let (Some(&customer), Some(&product)) =
            (customers.ids.get(&**customer), products.ids.get(&**product))
        else {
            continue;
        };
        let list = &mut wanted[customer as usize];
        let known_buyer = histories[customer as usize]
            .1
            .iter()
            .any(|touch| touch.kind == EventKind::Purchase);
        if known_buyer
            && sold[product as usize]
            && !owned.contains(&(customer, product))
            && !list.contains(&product)
        {
            list.push(product);
        }
    }
    let cases = wanted
        .into_iter()
        .enumerate()
        .filter(|(_, list)| !list.is_empty())
        .collect();
    // Products that were only ever returned in training are known, but not part of the catalogue.
    let catalogue = sold.iter().filter(|sold| **sold).count();
    finish(products, catalogue, histories, Task::Customers(cases), true)
}

/// Time of the oldest of these event records.
pub fn oldest_event(text: &str) -> Result<i64, DataError> {
    let mut oldest: Option<i64> = None;
    for (line, text) in lines(text) {
        let record: Record<'_> =
            serde_json::from_str(text).map_err(|source| DataError::Record { line, source })?;
        let time_ms = instant(&record.timestamp).ok_or_else(|| DataError::Timestamp {
            line,
            text: record.timestamp.to_string(),
        })?;
        oldest = Some(oldest.map_or(time_ms, |oldest| oldest.min(time_ms)));
    }
    oldest.ok_or(DataError::Empty("test"))
}

/// Lines of `user item item …` for training and test; users without test items are skipped.
pub fn parse_interactions(train: &str, test: &str) -> Result<Dataset, DataError> {
    let (mut products, mut customers) = (Names::default(), Names::default());
    let mut histories: Vec<(Arc<str>, Vec<Touch>)> = Vec::new();
    for (_, text) in lines(train) {
        let mut words = text.split_ascii_whitespace();
        let Some(user) = words.next() else { continue };
        let customer = customers.intern(user) as usize;
        if customer == histories.len() {
            histories.push((user.into(), Vec::new()));
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
    }
    let catalogue = products.names.len();
    let mut cases: Vec<(usize, Vec<u32>)> = Vec::new();
    for (_, text) in lines(test) {
        let mut words = text.split_ascii_whitespace();
        let Some(user) = words.next() else { continue };
        let mut list: Vec<u32> = words.map(|item| products.intern(item)).collect();
        list.sort_unstable();
        list.dedup();
        if let Some(&customer) = customers.ids.get(user)
            && !list.is_empty()
        {
            cases.push((customer as usize, list));
        }
    }
    finish(products, catalogue, histories, Task::Customers(cases), false)
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
    let catalogue = products.names.len();
    let mut pairs = Vec::new();
    for (line, text) in lines(test) {
        let (prefix, next) = text.split_once('\t').ok_or(DataError::NoTab { line })?;
        let prefix = prefix
            .split_ascii_whitespace()
            .map(|item| products.intern(item))
            .collect();
        pairs.push(Pair {
            prefix,
            next: products.intern(next.trim()),
        });
    }
    finish(products, catalogue, histories, Task::Sessions(pairs), false)
}

fn finish(
    products: Names,
    catalogue: usize,
    customers: Vec<(Arc<str>, Vec<Touch>)>,
    task: Task,
    timed: bool,
) -> Result<Dataset, DataError> {
    if customers.is_empty() {
        return Err(DataError::Empty("training"));
    }
    if task.is_empty() {
        return Err(DataError::Empty("test"));
    }
    let newest = customers
        .iter()
        .flat_map(|(_, touches)| touches)
        .map(|touch| touch.time_ms)
        .max();
    Ok(Dataset {
        products: products.names,
        catalogue,
        customers,
        task,
        timed,
        now_ms: newest.unwrap_or_default(),
    })
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_products_that_someone_bought_before_are_tested() {
        let event = |customer, product, kind, day| {
            format!(
                r#"{{"customer_id":"{customer}","product_id":"{product}","event_type":"{kind}","timestamp":"2011-01-{day:02}T00:00:00Z"}}"#
            )
        };
        let text = [
            event("ann", "mug", "purchase", 1),
            event("bob", "cup", "purchase", 2),
            event("eve", "jar", "view", 2),
            event("ann", "cup", "purchase", 9),
            event("ann", "cup", "purchase", 10),
            event("ann", "mug", "purchase", 9),
            event("ann", "jar", "purchase", 9),
            event("eve", "mug", "purchase", 9),
            event("bob", "mug", "return", 9),
        ]
        .join("\n");
        let data = parse_events(&text, instant("2011-01-05T00:00:00Z").unwrap()).unwrap();
        assert_eq!(data.catalogue, 2);
        let cup = data.products.iter().position(|name| &**name == "cup").unwrap() as u32;
        assert_eq!(data.task, Task::Customers(vec![(0, vec![cup])]));
    }

    #[test]
    fn sessions_and_interactions_keep_their_order_and_bad_lines_say_where() {
        let data = parse_sessions("1 2 3\n2 2\n", "1 2\t3\n").unwrap();
        assert_eq!((data.customers.len(), data.catalogue), (2, 3));
        assert_eq!(
            data.task,
            Task::Sessions(vec![Pair {
                prefix: vec![0, 1],
                next: 2
            }])
        );
        let refused = parse_sessions("1 2", "1 2 3").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "line 1: expected a prefix, a tab and the next item"
        );
        let data = parse_interactions("a 1 2\nb 2", "a 3 1\nb\nc 1").unwrap();
        assert_eq!(data.task, Task::Customers(vec![(0, vec![0, 2])]));
    }
}
