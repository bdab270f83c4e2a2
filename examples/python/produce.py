"""A shop that has Kafka writes its events to the topic itself. Needs `pip install -r requirements.txt`.

    KAFKA=localhost:9092 TOPIC=customer_behavior python3 produce.py
"""

import json
import os
import sys
import time
import uuid

from kafka import KafkaProducer
from kafka.errors import KafkaError

# Longest to wait for Kafka, for each of: finding it, the topic's partitions, and the acknowledgement. A shop that must
# not wait for Kafka sends from a queue of its own.
TIMEOUT = float(os.environ.get("KAFKA_TIMEOUT", "10"))


def event(customer_id, product_id, event_type, **more):
    """A record as the recommender reads it; without `event_id`, its place in the topic tells it from others."""
    return {
        "event_id": str(uuid.uuid4()),
        "customer_id": customer_id,
        "product_id": product_id,
        "event_type": event_type,
        "timestamp": int(time.time() * 1000),
        **more,
    }


def produce(servers, topic, events):
    """Writes events and returns where each of them stands, or raises a KafkaError within three times TIMEOUT."""
    milliseconds = int(TIMEOUT * 1000)
    producer = KafkaProducer(
        bootstrap_servers=servers,
        # Acknowledged by every replica, and a retry of the client's own is written once.
        acks="all",
        enable_idempotence=True,
        # By default it goes on trying for minutes.
        bootstrap_timeout_ms=milliseconds,
        max_block_ms=milliseconds,
        request_timeout_ms=milliseconds,
        delivery_timeout_ms=2 * milliseconds,
    )
    try:
        # The key is the customer: all of one customer's events are in one partition, in their order.
        sent = [
            producer.send(topic, key=one["customer_id"].encode(), value=json.dumps(one).encode())
            for one in events
        ]
        return [one.get(timeout=TIMEOUT) for one in sent]
    finally:
        # Without a limit it waits for what nobody will acknowledge any more, and the program does not end.
        producer.close(timeout=1)


def main():
    events = [
        event("ann", "red-mug", "view"),
        event("ann", "red-mug", "cart"),
        event("ann", "red-mug", "purchase", quantity=2, price=9.90),
    ]
    servers = os.environ["KAFKA"]
    try:
        places = produce(servers, os.environ["TOPIC"], events)
    # A name that no topic can have is told as a ValueError.
    except (KafkaError, ValueError) as error:
        sys.exit(f"no event was acknowledged by Kafka at {servers}: {error}")
    for place in places:
        print(f"partition {place.partition}, offset {place.offset}")


if __name__ == "__main__":
    main()
