# SPDX-License-Identifier: Apache-2.0
"""Does the verdict ever say yes to noise, or no to a map that holds?

    python -m experiments.benchmarks.verdicts --problems=1000

Draws planted problems, 20 to 500 pairs of width 16: pairs that one rotation joins, the
same pairs shuffled, and sides that have nothing to do with each other, of independent
rows, of rows that resemble those before them, and of near-copies. Only the first may be
weak or usable, and must never be none.
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
WIDE, MEMORY, COPIES = 64, 20.0, 4
"""Width of rows that resemble others, how many they resemble, and copies of a thing."""

KINDS = {
    "clean": {"usable", "weak", "too_few"},
    "shuffled": {"none", "too_few"},
    "unrelated": {"none", "too_few"},
    "in order": {"none", "too_few"},
    "near-copies": {"none", "too_few"},
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
    if kind in ("in order", "near-copies"):
        make = _in_order if kind == "in order" else _near_copies
        draws = (np.random.default_rng([seed, side]) for side in (0, 1))
        source, target = (make(own, n).astype(np.float32) for own in draws)
    return source, target


def _in_order(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows of which each resembles the one before it, as frames of a film do."""
    rows, kept = rng.standard_normal((n, WIDE)), np.exp(-1 / MEMORY)
    for i in range(1, n):
        rows[i] = kept * rows[i - 1] + np.sqrt(1 - kept**2) * rows[i]
    return rows


def _near_copies(rng: np.random.Generator, n: int) -> np.ndarray:
    """Things of which there are several copies, nearly alike."""
    things = rng.standard_normal((-(-n // COPIES), WIDE))
    return np.repeat(things, COPIES, 0)[:n] + 0.1 * rng.standard_normal((n, WIDE))


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
    print(f"wrong: {wrong(found)} of {len(KINDS) * _PROBLEMS.value}")
    sys.exit(wrong(found) > 0)


if __name__ == "__main__":
    app.run(main)
