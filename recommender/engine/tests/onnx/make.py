"""Writes the small models beside it: `pip install onnx numpy`, then `python make.py`.

They are made so that their answers can be worked out by hand; `tests/onnx.rs` does so.
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

HERE = Path(__file__).parent
PRODUCTS = ["cup", "mug", "plate", "fork"]
# One row a product, the first for index 0.
TABLE = np.array([[0, 0], [1, 0], [0.9, 0.1], [0, 1], [-1, 0.5]], dtype=np.float32)


def tensor(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def write(name, nodes, inputs, outputs, weights=(), metadata=None):
    info = lambda ports: [helper.make_tensor_value_info(*port) for port in ports]
    graph = helper.make_graph(list(nodes), name, info(inputs), info(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    checker.check_model(model)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


def ranker(name, columns, weights, features, last=()):
    """scores = features @ weights, then `last`."""
    nodes = [helper.make_node("MatMul", ["features", "w"], ["product"])]
    out = "product"
    for op in last:
        nodes.append(helper.make_node(op, [out], [f"{out}_{op}"]))
        out = f"{out}_{op}"
    nodes.append(helper.make_node("Squeeze", [out, "axis"], ["scores"]))
    constants = [
        tensor("w", np.array(weights, dtype=np.float32).reshape(-1, 1)),
        tensor("axis", np.array([1], dtype=np.int64)),
    ]
    write(
        name,
        nodes,
        [("features", TensorProto.FLOAT, ["n", columns])],
        [("scores", TensorProto.FLOAT, ["n"])],
        constants,
        {"features": features} if features else None,
    )


ranker("ranker", 2, [2.0, -0.5], "price, rank")
ranker("ranker-wrong-columns", 3, [1.0, 1.0, 1.0], "price, rank")
ranker("ranker-unknown-feature", 2, [1.0, 1.0], "price, weather")
# The logarithm of -1 and less.
ranker("ranker-not-finite", 1, [-1.0], "price", ["Log"])

HISTORY = [("history", TensorProto.INT64, [1, 4])]
SCORES = [
    helper.make_node("Gather", ["table", "history"], ["rows"], axis=0),
    helper.make_node("ReduceSum", ["rows", "axis"], ["user"], keepdims=0),
    helper.make_node("MatMul", ["user", "by_product"], ["scores"]),
]
WEIGHTS = [
    tensor("table", TABLE),
    tensor("axis", np.array([1], dtype=np.int64)),
    tensor("by_product", TABLE.T.copy()),
]
write(
    "tower",
    SCORES,
    HISTORY,
    [("scores", TensorProto.FLOAT, [1, 5])],
    WEIGHTS,
    {"products": json.dumps(PRODUCTS)},
)
write("tower-without-products", SCORES, HISTORY, [("scores", TensorProto.FLOAT, [1, 5])], WEIGHTS)
write(
    "tower-wrong-products",
    SCORES,
    HISTORY,
    [("scores", TensorProto.FLOAT, [1, 5])],
    WEIGHTS,
    {"products": json.dumps(PRODUCTS[:2])},
)
# A place among the catalogue's embeddings: the sum of those of the history.
write(
    "embedding-tower",
    [helper.make_node("ReduceSum", ["history_embeddings", "axis"], ["embedding"], keepdims=0)],
    [("history_embeddings", TensorProto.FLOAT, [1, "length", 2])],
    [("embedding", TensorProto.FLOAT, [1, 2])],
    [tensor("axis", np.array([1], dtype=np.int64))],
)
write(
    "unknown-input",
    [helper.make_node("Identity", ["pixels"], ["scores"])],
    [("pixels", TensorProto.FLOAT, [1, 2])],
    [("scores", TensorProto.FLOAT, [1, 2])],
)
write(
    "unknown-output",
    [helper.make_node("Identity", ["features"], ["logits"])],
    [("features", TensorProto.FLOAT, ["n", 11])],
    [("logits", TensorProto.FLOAT, ["n", 11])],
)
