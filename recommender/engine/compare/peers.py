"""The same methods by other programs, on the same data, in the same run: numpy, scipy and `implicit`.

    cargo xtask compare    makes the environment, builds the recommender and runs this
    python peers.py --recommender target/release/recommender [--format interactions --train FILE --test FILE]

Prints one table: method, recall, NDCG, seconds to train, peak memory; theirs and ours. Every method runs in a process of its
own, on one thread. Metrics are those of `recommender evaluate`: products that the customer has in training are left
out, recall is hits over test products, NDCG has binary gains and an ideal over min(test products, k), and both are means
over the customers with test products.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np
import scipy.sparse as sp

HERE = Path(__file__).resolve().parent
RETAIL = HERE.parents[2] / "data/online-retail/events.jsonl.gz"
# The largest catalogue that EASE is computed for here: a matrix of doubles, twice.
EASE_PRODUCTS = 12_000
# What both sides are run with; each method's name here, ours, and our parameters for the same thing.
METHODS = {
    "popularity": ("Popularity", []),
    "itemknn-cosine": ("ItemKnn", ["repeats=Binary", "damping=false", "shrinkage=0", "neighbors=100"]),
    "itemknn-bm25": (
        "ItemKnn",
        ["similarity=bm25", "bm25.k1=1.2", "bm25.b=0.75", "repeats=Binary", "shrinkage=0", "neighbors=100"],
    ),
    "rp3beta": ("Rp3Beta", ["repeats=Binary", "walkAlpha=0.8", "walkBeta=0.3", "neighbors=500"]),
    "ease": ("Ease", ["repeats=Binary", "ease.regularization=200", "trainingHalfLifeDays=100000"]),
    "ials": ("ImplicitAls", ["repeats=Binary", "als.factors=64", "trainingHalfLifeDays=100000"]),
}


def lines(path):
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt") as file:
        yield from file


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def load(args):
    """Training matrix (customers by products, binary) and the test products of each customer."""
    train, test = {}, {}
    if args.format == "interactions":
        for path, into in ((args.train, train), (args.test, test)):
            for line in lines(path):
                user, *items = line.split()
                into.setdefault(user, set()).update(items)
    else:
        split = instant(args.split_at)
        for line in lines(args.train):
            event = json.loads(line)
            if event["event_type"] != "purchase":
                continue
            at = event["timestamp"]
            at = instant(at) if isinstance(at, str) else at
            into = train if at < split else test
            into.setdefault(event["customer_id"], set()).add(event["product_id"])
    known = set().union(*train.values())
    products = {name: at for at, name in enumerate(sorted(known))}
    users = sorted(train)
    rows = np.repeat(np.arange(len(users)), [len(train[user]) for user in users])
    columns = np.array([products[item] for user in users for item in sorted(train[user])])
    matrix = sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), (len(users), len(products)))
    wanted = {}
    for at, user in enumerate(users):
        new = set(test.get(user, ())) - train[user]
        if args.format == "events":
            # Asked for is what somebody bought in training. In ready-made splits a product that nobody has is asked for
            # too, as published figures count it: its name stands for it, and nobody finds it.
            new &= products.keys()
        new = {products.get(item, item) for item in new}
        if new:
            wanted[at] = new
    return matrix, wanted


def strongest(matrix, keep):
    """The largest entries of each row."""
    matrix = matrix.tocsr()
    for row in range(matrix.shape[0]):
        values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        if len(values) > keep:
            values[values < np.partition(values, -keep)[-keep]] = 0
    matrix.eliminate_zeros()
    return matrix


def popularity(matrix):
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    return lambda rows: np.tile(counts, (len(rows), 1))


def itemknn_cosine(matrix):
    from implicit.nearest_neighbours import CosineRecommender

    return nearest(CosineRecommender(K=101, num_threads=1), matrix)


def itemknn_bm25(matrix):
    from implicit.nearest_neighbours import BM25Recommender

    return nearest(BM25Recommender(K=101, K1=1.2, B=0.75, num_threads=1), matrix)


def nearest(model, matrix):
    model.fit(matrix, show_progress=False)
    return lambda rows: (matrix[rows] @ model.similarity).toarray()


def rp3beta(matrix, alpha=0.8, beta=0.3, keep=500):
    total = lambda axis: np.maximum(np.asarray(matrix.sum(axis=axis)).ravel(), 1)
    degree = total(0)
    by_customer = sp.diags(1 / total(1)) @ matrix
    walk = sp.diags(degree**-alpha) @ (matrix.T @ by_customer) @ sp.diags(degree**-beta)
    walk = walk.tocsr()
    walk.setdiag(0)
    walk = strongest(walk, keep)
    return lambda rows: (matrix[rows] @ walk).toarray()


def ease(matrix, regularization=200.0):
    if matrix.shape[1] > EASE_PRODUCTS:
        raise SystemExit(f"more than {EASE_PRODUCTS} products")
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += regularization
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return lambda rows: matrix[rows] @ weights


def ials(matrix):
    from implicit.als import AlternatingLeastSquares

    # `implicit` weighs an observed cell 1 + alpha and the rest 1: 1 against 0.01 is alpha 99.
    model = AlternatingLeastSquares(
        factors=64, regularization=1.0, alpha=99.0, iterations=12, num_threads=1, random_state=7, use_gpu=False
    )
    model.fit(matrix, show_progress=False)
    return lambda rows: model.user_factors[rows] @ model.item_factors.T


def evaluate(matrix, wanted, scores, k):
    discount = 1 / np.log2(np.arange(2, k + 2))
    recall, ndcg = [], []
    users = np.array(sorted(wanted))
    for start in range(0, len(users), 256):
        rows = users[start : start + 256]
        block = np.array(scores(rows), dtype=np.float64)
        seen = matrix[rows].tocoo()
        block[seen.row, seen.col] = -np.inf
        best = np.argpartition(-block, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        for user, answer in zip(rows, best):
            hits = np.array([item in wanted[user] for item in answer])
            recall.append(hits.sum() / len(wanted[user]))
            ndcg.append((hits * discount).sum() / discount[: min(len(wanted[user]), k)].sum())
    return float(np.mean(recall)), float(np.mean(ndcg))


def one(args):
    matrix, wanted = load(args)
    before = time.perf_counter()
    scores = globals()[args.method.replace("-", "_")](matrix)
    seconds = time.perf_counter() - before
    recall, ndcg = evaluate(matrix, wanted, scores, args.k)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"recall": recall, "ndcg": ndcg, "train_seconds": seconds, "peak_memory_bytes": peak}))


def data_options(args):
    options = ["--format", args.format, "--train", str(args.train), "--k", str(args.k)]
    return options + (["--test", str(args.test)] if args.test else ["--split-at", args.split_at])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        # The last line says why.
        return (done.stderr.strip().splitlines() or ["failed"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(args):
    print(f"{'method':<16} {'by':<12} {f'R@{args.k}':>7} {f'N@{args.k}':>7} {'train s':>8} {'peak MiB':>9}", flush=True)
    for method in args.methods.split(","):
        algorithm, parameters = METHODS[method]
        theirs = [sys.executable, __file__, "--method", method, *data_options(args)]
        ours = [args.recommender, "evaluate", *data_options(args), "--model", algorithm, "--threads", "1"]
        ours += ["--output", "json", *(text for parameter in parameters for text in ("--param", parameter))]
        for who, command in (("python", theirs), ("recommender", ours)):
            if who == "recommender" and not args.recommender:
                continue
            result = run(command)
            if isinstance(result, str):
                print(f"{method:<16} {who:<12} {result}", flush=True)
                continue
            print(
                f"{method:<16} {who:<12} {result['recall']:7.4f} {result['ndcg']:7.4f} "
                f"{result['train_seconds']:8.2f} {result['peak_memory_bytes'] / 2**20:9.0f}",
                flush=True,
            )


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--format", choices=["events", "interactions"], default="events")
    options.add_argument("--train", type=Path, default=RETAIL, help="default: Online Retail of this repository")
    options.add_argument("--test", type=Path)
    options.add_argument("--split-at", default="2011-11-10T00:00:00Z", help="for events without a test file")
    options.add_argument("--k", type=int, default=20)
    options.add_argument("--recommender", help="the program to compare with; without it theirs alone are run")
    options.add_argument("--methods", default=",".join(METHODS), help="some of: " + ", ".join(METHODS))
    options.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.method:
        one(args)
    else:
        table(args)


if __name__ == "__main__":
    main()
