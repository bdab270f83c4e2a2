-- What customers do, as the recommender and the shop write it.
-- The record key is declared beside the value's field of the same meaning: a stream selected from this one then
-- keeps its key, and with it the order of one customer's events, without a repartition topic.
CREATE STREAM ${customer_behavior_stream} (
    customer_key VARCHAR KEY,
    customer_id VARCHAR,
    product_id VARCHAR,
    event_type VARCHAR,
    event_id VARCHAR,
    `timestamp` VARCHAR,
    quantity DOUBLE,
    price DOUBLE,
    session_id VARCHAR
  ) WITH (kafka_topic='${customer_behavior_topic}', key_format='KAFKA', value_format='JSON');
