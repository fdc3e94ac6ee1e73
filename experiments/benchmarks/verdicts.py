# SPDX-License-Identifier: Apache-2.0
"""Does the verdict ever say yes to noise, or no to a map that holds?

    python -m experiments.benchmarks.verdicts --problems=1000

Draws planted problems, 20 to 500 pairs of width 16, of three kinds: pairs that one
rotation joins, the same pairs shuffled, and rows that have nothing to do with each
other. Shuffled and unrelated pairs must never be weak or usable, clean ones never none.
"""

import collections
import sys

import jax
import numpy as np
from absl import app, flags
from tqdm import tqdm

import jaxalign as ja
from jaxalign.data.planted import planted_pairs

_PROBLEMS = flags.DEFINE_integer(
    "problems", 1000, "Problems of each kind.", lower_bound=1
)

SIZES = (20, 30, 50, 80, 120, 200, 320, 500)
WIDTH, NOISE, DECAY = 16, 0.3, 0.5
KINDS = {
    "clean": {"usable", "weak", "too_few"},
    "shuffled": {"none", "too_few"},
    "unrelated": {"none", "too_few"},
}
"""Kinds of problems, and the words that each may get."""

Pairs = tuple[np.ndarray, np.ndarray]


def draw(kind: str, seed: int) -> Pairs:
    """Draw the pairs of one problem."""
    n = SIZES[seed % len(SIZES)]
    key, other, order = jax.random.split(jax.random.key(seed), 3)

    def rows(key):
        planted = planted_pairs(key, n, WIDTH, noise=NOISE, decay=DECAY)
        return tuple(np.asarray(side) for side in planted.pairs["text"])

    source, target = rows(key)
    if kind == "shuffled":
        target = target[np.asarray(jax.random.permutation(order, n))]
    if kind == "unrelated":
        target = rows(other)[1]
    return source, target


def run(problems: int, *, first: int = 0) -> dict[str, collections.Counter]:
    """Judge so many problems of each kind; count the words."""
    found = {kind: collections.Counter() for kind in KINDS}
    seeds = range(first, first + problems)
    for seed in tqdm(seeds, unit=" problems", delay=2, file=sys.stderr):
        for kind, words in found.items():
            words[ja.judge(draw(kind, seed)).word] += 1
    return found


def wrong(found: dict[str, collections.Counter]) -> int:
    """Count the words that a kind must not get."""
    return sum(
        count
        for kind, words in found.items()
        for word, count in words.items()
        if word not in KINDS[kind]
    )


def main(argv) -> None:
    """Run, print a line a kind, and end with 1 where a word was wrong."""
    del argv
    found = run(_PROBLEMS.value)
    for kind, words in found.items():
        told = ", ".join(f"{word} {words[word]}" for word in sorted(words))
        print(f"{kind}: {told}")
    print(f"wrong: {wrong(found)} of {3 * _PROBLEMS.value}")
    sys.exit(wrong(found) > 0)


if __name__ == "__main__":
    app.run(main)
