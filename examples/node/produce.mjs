// A shop that has Kafka writes its events to the topic itself. Needs `npm ci`.
//
//     KAFKA=localhost:9092 TOPIC=customer_behavior node produce.mjs
import { randomUUID } from 'node:crypto';
import { Kafka, Partitioners } from 'kafkajs';

/** A record as the recommender reads it; without `event_id`, its place in the topic tells it from others. */
const event = (customer_id, product_id, event_type, more = {}) => ({
  event_id: randomUUID(), customer_id, product_id, event_type, timestamp: Date.now(), ...more,
});

const kafka = new Kafka({ clientId: 'my-shop', brokers: [process.env.KAFKA] });
// A retry of the client's own is written once; customers go to the partitions that other clients choose for them too.
const producer = kafka.producer({ idempotent: true, createPartitioner: Partitioners.DefaultPartitioner });
await producer.connect();
const events = [
  event('ann', 'red-mug', 'view'),
  event('ann', 'red-mug', 'cart'),
  event('ann', 'red-mug', 'purchase', { quantity: 2, price: 9.9 }),
];
// The key is the customer: all of one customer's events are in one partition, in their order.
const messages = events.map((one) => ({ key: one.customer_id, value: JSON.stringify(one) }));
const places = await producer.send({ topic: process.env.TOPIC, acks: -1, messages });
for (const { partition, baseOffset } of places) console.log(`partition ${partition}, from offset ${baseOffset}`);
await producer.disconnect();
