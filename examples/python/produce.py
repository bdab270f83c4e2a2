"""A shop that has Kafka writes its events to the topic itself. Needs `pip install -r requirements.txt`.

    KAFKA=localhost:9092 TOPIC=customer_behavior python3 produce.py
"""

import json
import os
import time
import uuid

from kafka import KafkaProducer


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


def main():
    producer = KafkaProducer(
        bootstrap_servers=os.environ["KAFKA"],
        # Acknowledged by every replica, and a retry of the client's own is written once.
        acks="all",
        enable_idempotence=True,
    )
    events = [
        event("ann", "red-mug", "view"),
        event("ann", "red-mug", "cart"),
        event("ann", "red-mug", "purchase", quantity=2, price=9.90),
    ]
    # The key is the customer: all of one customer's events are in one partition, in their order.
    sent = [
        producer.send(os.environ["TOPIC"], key=one["customer_id"].encode(), value=json.dumps(one).encode())
        for one in events
    ]
    for one in sent:
        place = one.get(timeout=30)
        print(f"partition {place.partition}, offset {place.offset}")
    producer.close()


if __name__ == "__main__":
    main()
