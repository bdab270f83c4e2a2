-- Purchases alone, keyed by customer. Names are quoted, or the JSON fields would come out in upper case.
-- Partitions, replicas and retention are those of the topic, which exists already: ksqlDB refuses a sink topic that
-- differs from its statement, and would keep purchases for 7 days only.
CREATE STREAM ${customer_purchases_stream}
  WITH (kafka_topic='${customer_purchases_topic}', value_format='JSON', partitions=${customer_purchases_partitions}, replicas=${customer_purchases_replicas}, retention_ms=${customer_purchases_retention_ms})
  AS SELECT
    customer_key,
    customer_id AS `customer_id`,
    product_id AS `product_id`,
    event_type AS `event_type`,
    event_id AS `event_id`,
    `timestamp` AS `timestamp`,
    quantity AS `quantity`,
    price AS `price`
  FROM ${customer_behavior_stream}
  WHERE event_type = 'purchase' OR event_type = 'order'
  EMIT CHANGES;
