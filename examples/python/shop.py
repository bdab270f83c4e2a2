"""A shop's backend talks to the recommender: catalogue, events, recommendations. Python 3.9 or newer, nothing else.

    RECOMMENDER_URL=http://localhost:8080 \
    RECOMMENDER_TOKEN=$(recommender token --embedded ./shop.db --user my-shop \
        --scope events:write --scope catalog:write --scope recommendations:read) \
    python3 shop.py
"""

import json
import os
import time
import urllib.error
import urllib.request
import uuid


class Recommender:
    """Calls of the HTTP API. `key` is a token of a program, with the scopes that the calls need."""

    def __init__(self, url, key, timeout=5.0, tries=4):
        self.url, self.key, self.timeout, self.tries = url.rstrip("/"), key, timeout, tries

    def call(self, method, path, body=None):
        """Asks, and again where the service says that it is busy. An error says which field is at fault."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for left in reversed(range(self.tries)):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                # application/problem+json: `detail` is for people, `errors` names the fields.
                problem = json.load(error)
                if error.code not in (429, 503) or not left:
                    raise RuntimeError(f"{method} {path}: {error.code} {problem.get('detail')}") from error
                time.sleep(float(error.headers.get("Retry-After", 1)))

    def put_product(self, product_id, **product):
        return self.call("PUT", f"/v1/products/{urllib.request.quote(product_id, safe='')}", product)

    def send(self, events):
        """Events are given their ids here: sent again after a lost answer, they count once."""
        events = [{"event_id": str(uuid.uuid4()), **event} for event in events]
        answer = self.call("POST", "/v1/events/batch", events)
        refused = [result for result in answer["results"] if result["status"] != 202]
        if refused:
            raise RuntimeError(f"refused: {refused}")
        return answer["accepted"]

    def recommend(self, customer_id, placement, limit=10):
        customer = urllib.request.quote(customer_id, safe="")
        return self.call("GET", f"/v1/recommendations/{customer}?placement={placement}&limit={limit}")


def main():
    shop = Recommender(os.environ["RECOMMENDER_URL"], os.environ["RECOMMENDER_TOKEN"])
    shop.put_product("red-mug", title="Red mug", category="kitchen/mugs", price=9.90, available=True)
    shop.put_product("blue-mug", title="Blue mug", category="kitchen/mugs", price=9.90, available=True)
    shop.send(
        [
            {"customer_id": customer, "product_id": product, "event_type": "purchase", "quantity": 1, "price": 9.90}
            for customer in ("ann", "bob", "cleo")
            for product in ("red-mug", "blue-mug")
        ]
        + [{"customer_id": "dora", "product_id": "red-mug", "event_type": "view"}]
    )
    # Learned within milliseconds; here until it is, in a shop nobody waits.
    for _ in range(100):
        answer = shop.recommend("dora", placement="home")
        if answer["fallback"] == "personal" and answer["items"]:
            break
        time.sleep(0.1)
    for item in answer["items"]:
        print(f"{item['title']}: {item['reason']['text']}")
    # What the customer does with it names the answer: that is how figures know what it led to.
    clicked = answer["items"][0]["product_id"]
    shop.send(
        [
            {
                "customer_id": "dora",
                "product_id": clicked,
                "event_type": "click",
                "recommendation_id": answer["recommendation_id"],
            }
        ]
    )


if __name__ == "__main__":
    main()
