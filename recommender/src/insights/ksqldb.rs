//! Totals that ksqlDB's tables hold, by pull query. They go back to the first record that the tables were made of, where
//! what the service keeps is a week; everything else of the figures is computed here, ksqlDB or not.
//!
//! Asked over `POST /query`, whose answer is one JSON array: a header with the schema, a row each, and perhaps a last
//! entry that tells what went wrong. Unquoted columns come in upper case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use recommendation_api::config::KsqldbConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::http::outgoing;

/// How old an answer may be, and how long it is not asked again after a failure: a dashboard asks every few seconds.
const FRESH: Duration = Duration::from_secs(10);
/// Longest to wait for all of it: figures come without ksqlDB after that.
const WAIT: Duration = Duration::from_secs(2);
/// Products that are asked about, each by its key: a scan would read every hour of every product.
const PRODUCTS: usize = 10;
/// What the server understands.
const FORM: &str = "application/vnd.ksql.v1+json";

/// What ksqlDB's tables say since the first record that they were made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = KsqldbTotals)]
pub struct Totals {
    /// Events by type, as the records name it, the most frequent first.
    pub funnel: Vec<TypeTotal>,
    /// Of the most bought products: their events and purchases in the hours that the table still keeps.
    pub products: Vec<ProductTotal>,
}

/// Events of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = KsqldbTypeTotal)]
pub struct TypeTotal {
    /// The type.
    pub event_type: String,
    /// How many.
    pub events: u64,
}

/// Events of one product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = KsqldbProductTotal)]
pub struct ProductTotal {
    /// The product.
    #[schema(value_type = String)]
    pub product_id: Arc<str>,
    /// Events of any type.
    pub events: u64,
    /// Purchases among them.
    pub purchases: u64,
}

/// Why a pull query has no answer.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    #[error("it refuses the query ({0}): {1}")]
    Refused(u16, String),
    #[error("its answer is not understood")]
    NotUnderstood,
    #[error("it does not answer in time")]
    Late,
}

/// What was last found, and when; nothing where it failed.
type Found = Option<(Instant, Option<Arc<Totals>>)>;

/// The tables of one pipeline.
pub struct Tables {
    client: reqwest::Client,
    config: KsqldbConfig,
    found: Mutex<Found>,
}

impl Tables {
    /// Asked when somebody asks for figures.
    pub fn new(config: KsqldbConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: outgoing::client(WAIT)?,
            config,
            found: Mutex::default(),
        })
    }

    /// Totals, those of these products among them; `None` where ksqlDB does not answer.
    pub async fn totals(&self, products: &[Arc<str>]) -> Option<Arc<Totals>> {
        let mut found = self.found.lock().await;
        if let Some((at, totals)) = &*found
            && at.elapsed() < FRESH
        {
            return totals.clone();
        }
        let asked = tokio::time::timeout(WAIT, self.ask(products)).await;
        let totals = asked.unwrap_or(Err(QueryError::Late)).map(Arc::new);
        let failed_before = matches!(&*found, Some((_, None)));
        if let Err(e) = &totals
            && !failed_before
        {
            tracing::warn!(error = %e, "figures are told without ksqlDB's totals");
        }
        let totals = totals.ok();
        *found = Some((Instant::now(), totals.clone()));
        totals
    }

    async fn ask(&self, products: &[Arc<str>]) -> Result<Totals, QueryError> {
        let rows = self
            .query(format!("SELECT * FROM {};", self.config.funnel))
            .await?;
        let mut funnel = rows
            .iter()
            .map(|row| {
                Ok(TypeTotal {
                    event_type: row.text("EVENT_TYPE")?,
                    events: row.count("EVENTS")?,
                })
            })
            .collect::<Result<Vec<_>, QueryError>>()?;
        funnel.sort_by(|a, b| {
            b.events
                .cmp(&a.events)
                .then_with(|| a.event_type.cmp(&b.event_type))
        });
        let products = products
            .iter()
            .take(PRODUCTS)
            .map(|product| self.product(product));
        Ok(Totals {
            funnel,
            products: try_join_all(products).await?,
        })
    }

    async fn product(&self, product: &Arc<str>) -> Result<ProductTotal, QueryError> {
        let key = product.replace('\'', "''");
        let query = format!(
            "SELECT product_id, WINDOWSTART, WINDOWEND, events, purchases FROM {} WHERE product_id='{key}';",
            self.config.popularity
        );
        let mut total = ProductTotal {
            product_id: Arc::clone(product),
            events: 0,
            purchases: 0,
        };
        for row in self.query(query).await? {
            total.events += row.count("EVENTS")?;
            total.purchases += row.count("PURCHASES")?;
        }
        Ok(total)
    }

    async fn query(&self, ksql: String) -> Result<Vec<Row>, QueryError> {
        let body = json!({"ksql": ksql, "streamsProperties": {}}).to_string();
        let answer = self
            .client
            .post(format!("{}/query", self.config.url.trim_end_matches('/')))
            .header("Accept", FORM)
            .header("Content-Type", format!("{FORM}; charset=utf-8"))
            .body(body)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            let error: Value = serde_json::from_str(&text).unwrap_or_default();
            let message = error["message"].as_str().unwrap_or_default().to_owned();
            return Err(QueryError::Refused(status.as_u16(), message));
        }
        rows(&text)
    }
}

/// A row, by the names of the header.
struct Row {
    names: Arc<Vec<String>>,
    columns: Vec<Value>,
}

impl Row {
    fn value(&self, name: &str) -> Result<&Value, QueryError> {
        let at = self.names.iter().position(|known| known == name);
        at.and_then(|at| self.columns.get(at))
            .ok_or(QueryError::NotUnderstood)
    }

    fn text(&self, name: &str) -> Result<String, QueryError> {
        let text = self.value(name)?.as_str().ok_or(QueryError::NotUnderstood)?;
        Ok(text.to_owned())
    }

    fn count(&self, name: &str) -> Result<u64, QueryError> {
        self.value(name)?.as_u64().ok_or(QueryError::NotUnderstood)
    }
}

/// One entry of an answer.
#[derive(Deserialize)]
enum Entry {
    #[serde(rename = "header")]
    Header { schema: String },
    #[serde(rename = "row")]
    Row { columns: Vec<Value> },
}

/// Reads an answer. Whatever is neither header nor row (an error after some rows) is not understood: half of a table is
/// no total.
fn rows(text: &str) -> Result<Vec<Row>, QueryError> {
    let entries: Vec<Entry> = serde_json::from_str(text).map_err(|_| QueryError::NotUnderstood)?;
    let mut entries = entries.into_iter();
    let Some(Entry::Header { schema }) = entries.next() else {
        return Err(QueryError::NotUnderstood);
    };
    let names = Arc::new(names(&schema));
    entries
        .map(|entry| match entry {
            Entry::Row { columns } if columns.len() == names.len() => Ok(Row {
                names: Arc::clone(&names),
                columns,
            }),
            _ => Err(QueryError::NotUnderstood),
        })
        .collect()
}

/// Names of a schema such as `` `CUSTOMER_ID` STRING KEY, `N` BIGINT ``: whatever stands between backticks.
fn names(schema: &str) -> Vec<String> {
    schema.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN: &str = include_str!("../../tests/data/ksqldb/203-query-pull-table-scan.json");
    const WINDOWED: &str = include_str!("../../tests/data/ksqldb/202-query-pull-windowed.json");
    const NO_ROW: &str = include_str!("../../tests/data/ksqldb/201-query-pull-no-row.json");

    fn recorded(exchange: &str) -> String {
        let exchange: Value = serde_json::from_str(exchange).unwrap();
        exchange["response"]["body_text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn recorded_answers_are_read_by_the_names_of_their_columns() {
        let scan = rows(&recorded(SCAN)).unwrap();
        assert_eq!(
            (scan.len(), scan[0].text("CUSTOMER_ID").unwrap().as_str()),
            (1, "c1")
        );
        assert_eq!(scan[0].count("PURCHASE_COUNT").unwrap(), 2);
        assert!(scan[0].count("N").is_err() && scan[0].count("TOTAL").is_err());
        let windowed = rows(&recorded(WINDOWED)).unwrap();
        assert_eq!(windowed[0].count("WINDOWSTART").unwrap(), 1_795_356_000_000);
        assert_eq!(windowed[0].count("N").unwrap(), 2);
        assert!(rows(&recorded(NO_ROW)).unwrap().is_empty());
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_total() {
        let whole = recorded(SCAN);
        let broken = [
            whole.trim_end_matches(']').to_owned(),
            whole.replace("]}}]", "]}},{\"errorMessage\":{\"message\":\"lost\"}}]"),
            "[]".to_owned(),
            "{}".to_owned(),
        ];
        for text in broken {
            assert!(rows(&text).is_err(), "{text}");
        }
    }
}
