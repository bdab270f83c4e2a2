//! The default statements: the files of `ksql/`, compiled in.

use std::collections::BTreeMap;

use recommendation_api::pipeline::defaults as api;

/// Name and text, in the order in which they are applied.
pub const FILES: [(&str, &str); 4] = [
    (
        "customer-behavior",
        include_str!("../../../ksql/01-customer-behavior.sql"),
    ),
    (
        "customer-purchases",
        include_str!("../../../ksql/02-customer-purchases.sql"),
    ),
    (
        "product-popularity-hourly",
        include_str!("../../../ksql/03-product-popularity-hourly.sql"),
    ),
    ("event-funnel", include_str!("../../../ksql/04-event-funnel.sql")),
];

/// A topic that a default table writes. The operator makes it first: ksqlDB would let it forget after 7 days.
#[derive(Debug)]
pub struct Sink {
    /// Unprefixed name.
    pub name: &'static str,
    /// Partitions.
    pub partitions: i32,
    /// `cleanup.policy`: windows expire, an unwindowed table is compacted.
    pub cleanup: &'static str,
}

/// Sinks of the default tables; `customer_purchases` is a role of its own.
pub const SINKS: [Sink; 2] = [
    Sink {
        name: "product_popularity_hourly",
        partitions: api::CONTROL_PARTITIONS,
        cleanup: "compact,delete",
    },
    Sink {
        name: "event_funnel",
        partitions: api::CONTROL_PARTITIONS,
        cleanup: "compact",
    },
];

/// Streams and tables of the default statements.
const SOURCES: [(&str, &str); 4] = [
    ("customer_behavior_stream", "customer_behavior"),
    ("customer_purchases_stream", "customer_purchases"),
    ("product_popularity_hourly_table", "product_popularity_hourly"),
    ("event_funnel_table", "event_funnel"),
];

/// Variables that name the default streams and tables, with the pipeline's prefix. A prefix may hold characters that
/// an unquoted ksqlDB name may not: they become underscores.
pub fn source_names(prefix: &str) -> BTreeMap<String, String> {
    let mut prefix: String = prefix
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if prefix.starts_with(|c: char| c.is_ascii_digit()) {
        prefix.insert(0, '_');
    }
    SOURCES
        .iter()
        .map(|(variable, name)| ((*variable).to_owned(), format!("{prefix}{name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ksqldb::parse;

    #[test]
    fn every_default_file_is_one_declarative_statement() {
        for (name, text) in FILES {
            let statements = parse::split(text).unwrap();
            assert_eq!(statements.len(), 1, "{name}");
            let values: BTreeMap<String, String> = crate::ksqldb::variables::names(&statements[0])
                .into_iter()
                .map(|variable| (variable.to_owned(), "x1".to_owned()))
                .collect();
            let sql = crate::ksqldb::variables::substitute(&statements[0], &values).unwrap();
            parse::parse(&sql).unwrap();
        }
    }

    fn text(file: &str) -> &'static str {
        let found = FILES.iter().find(|(name, _)| name.contains(file));
        found
            .unwrap_or_else(|| panic!("no default statement is called {file}"))
            .1
    }

    #[test]
    fn the_default_statements_say_of_their_topics_what_the_server_takes() {
        for (name, text) in FILES {
            // Each topic exists before its statement, and has a clean-up policy of its own.
            assert!(!text.contains("cleanup_policy"), "{name}");
            let sink = text.contains("AS SELECT");
            let shaped = text.contains("partitions=") && text.contains("replicas=");
            assert_eq!(sink, shaped, "{name}");
            let unwindowed = text.contains("CREATE TABLE") && !text.contains("WINDOW");
            assert_eq!(text.contains("retention_ms="), sink && !unwindowed, "{name}");
        }
    }

    #[test]
    fn the_fields_of_default_streams_keep_their_letters_and_their_key() {
        let source = text("behavior");
        assert!(
            source.contains("customer_key VARCHAR KEY"),
            "or what is selected from it has no key"
        );
        let purchases = text("purchases");
        assert!(purchases.contains("    customer_key,\n"));
        for field in [
            "customer_id",
            "product_id",
            "event_type",
            "event_id",
            "quantity",
            "price",
        ] {
            assert!(purchases.contains(&format!("{field} AS `{field}`")), "{field}");
        }
    }

    #[test]
    fn a_time_is_declared_as_text_and_so_taken_in_either_form() {
        // RFC 3339, or milliseconds, of which the server makes text.
        assert!(text("behavior").contains("`timestamp` VARCHAR"));
        assert!(text("purchases").contains("`timestamp` AS `timestamp`"));
    }

    #[test]
    fn a_prefix_becomes_part_of_an_unquoted_name() {
        assert_eq!(
            source_names("shop-a.")["event_funnel_table"],
            "shop_a_event_funnel"
        );
        assert_eq!(
            source_names("1a_")["customer_behavior_stream"],
            "_1a_customer_behavior"
        );
        assert_eq!(source_names("")["customer_behavior_stream"], "customer_behavior");
    }
}
