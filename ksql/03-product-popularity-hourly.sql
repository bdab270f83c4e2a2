-- Events and purchases of each product by hour, for GET /v1/insights.
CREATE TABLE ${product_popularity_hourly_table}
  WITH (kafka_topic='${product_popularity_hourly_topic}', value_format='JSON', partitions=${product_popularity_hourly_partitions}, replicas=${product_popularity_hourly_replicas}, retention_ms=${product_popularity_hourly_retention_ms})
  AS SELECT
    product_id,
    COUNT(*) AS events,
    SUM(CASE WHEN event_type = 'purchase' OR event_type = 'order' THEN 1 ELSE 0 END) AS purchases
  FROM ${customer_behavior_stream}
  WINDOW TUMBLING (SIZE 1 HOUR)
  WHERE product_id IS NOT NULL
  GROUP BY product_id
  EMIT CHANGES;
