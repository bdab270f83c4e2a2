-- Events of each type since the beginning: the funnel from view to purchase.
-- An unwindowed table has a compacted topic and may not name a retention.
CREATE TABLE ${event_funnel_table}
  WITH (kafka_topic='${event_funnel_topic}', value_format='JSON', partitions=${event_funnel_partitions}, replicas=${event_funnel_replicas})
  AS SELECT
    event_type,
    COUNT(*) AS events
  FROM ${customer_behavior_stream}
  WHERE event_type IS NOT NULL
  GROUP BY event_type
  EMIT CHANGES;
