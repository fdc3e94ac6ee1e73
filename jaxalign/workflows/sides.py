# SPDX-License-Identifier: Apache-2.0
"""Source and target rows as a command line names them, opened and matched."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.rows import MatchedRows, RowSet, match_rows, open_rows
from jaxalign.rows.matching import Match
from jaxalign.rows.opening import has_columns

MOST_BAD = 0.01
"""Share of pairs with a bad row above which a command asks for `--skip_bad`."""

# Pairs by which the same rows on both sides are known.
_LOOKED_AT = 100

# Colons of "::key" and of "s3://" do not part two references.
_BETWEEN = re.compile(r"(?<!:):(?!:|//)")


class Sides(NamedTuple):
    """Rows of both models that pair.

    Attributes:
      source: rows of the source model.
      target: rows of the target model.
      matched: which of them are pairs.
    """

    source: RowSet
    target: RowSet
    matched: MatchedRows

    @property
    def modalities(self) -> list[str]:
        """Modalities that both have."""
        return [name for name in self.source.rows if name in self.target.rows]

    def origin(self) -> str:
        """Identify the files that the pairs come from."""
        prints = self.source.fingerprint(), self.target.fingerprint()
        return hashlib.sha256(" ".join(prints).encode()).hexdigest()[:16]

    def ids(self, numbers: np.ndarray) -> np.ndarray | None:
        """Ids of pairs, by number, or None where they have none."""
        if not self.source.has_ids:
            return None
        rows = numbers if self.matched.source is None else self.matched.source[numbers]
        found = self.source.ids()
        assert found is not None
        return found[rows]


def open_sides(
    source: str | None,
    target: str | None,
    pairs: Sequence[str] = (),
    *,
    modality: str | None = None,
    id_column: str | None = None,
    match: Match = "auto",
    picked: str | None = None,
    call: str,
) -> list[Sides]:
    """Open and match what a command names: two references, or several `--pair`.

    Args:
      source: reference to rows of the source model, or None.
      target: the same for the target model.
      pairs: each "image:a.npy:b.npy".
      modality: of two lone matrices; of folders it selects one.
      id_column: with ids, of parquet files and foreign folders.
      match: "auto", "id" or "position".
      picked: a text file with the ids, or row numbers, of the source rows that the
        target's rows are of, in their order, as `pick` writes it.
      call: named in errors.

    Raises:
      ValueError: for references that cannot be read or do not pair.
    """
    check_named(source, target, pairs, call=call)
    named: list[tuple[str | None, str, str]] = []
    if source is not None and target is not None:
        named.append((modality, source, target))
    for text in pairs:
        named.append(_parse_pair(text))
    names = [name for name, *_ in named]
    if len(named) > 1 and len(set(names)) < len(names):
        raise ArgumentError("--pair", "each modality once", ", ".join(map(str, names)))
    found = []
    for name, one, other in named:
        if one == other:
            raise ArgumentError(
                call, "rows of two models", f"{one!r} on both sides", "name the other's"
            )
        options: dict[str, Any] = {
            "modality": name,
            "call": call,
        }
        columns = dict.fromkeys((one, other), id_column)
        if id_column is not None and match == "position":
            # Ids of one side alone are good for groups.
            having = {text for text in columns if has_columns(text, call)}
            columns = {text: id_column if text in having else None for text in columns}
            columns = columns if having else dict.fromkeys(columns, id_column)
        left = open_rows(one, **options, id_column=columns[one], argument="SOURCE")
        right = open_rows(other, **options, id_column=columns[other], argument="TARGET")
        if picked is None:
            matched = match_rows(left, right, match=match, call=call)
        else:
            matched = _match_picked(left, right, picked)
        sides = Sides(left, right, matched)
        _check_differ(call, sides, one, other)
        found.append(sides)
    return found


def check_named(
    source: str | None, target: str | None, pairs: Sequence[str], *, call: str
) -> None:
    """Raise unless rows of both sides are named."""
    if (source is None) != (target is None) or (source is None and not pairs):
        raise ArgumentError(
            call, "SOURCE and TARGET, or --pair=image:SOURCE:TARGET", "one or neither"
        )


def _check_differ(call: str, sides: Sides, one: str, other: str) -> None:
    """Raise for the same rows on both sides, by a look at the first pairs.

    Two models may share a tower: then the rows of one modality of two are equal.
    """
    numbers = np.arange(min(_LOOKED_AT, sides.matched.count))
    equal = []
    for name in sides.modalities:
        rows = [sides.source.rows[name], sides.target.rows[name]]
        if rows[0].shape[1] != rows[1].shape[1] or not len(numbers):
            return
        chosen = (sides.matched.source, sides.matched.target)
        first, second = (
            np.asarray(of.take(numbers if at is None else at[numbers]), np.float32)
            for of, at in zip(rows, chosen, strict=True)
        )
        equal.append(np.array_equal(first, second, equal_nan=True))
    if equal and all(equal):
        raise ArgumentError(
            call,
            "rows of two models",
            f"the same rows on both sides, {one!r} and {other!r}",
            "name the rows of the other model",
        )


def _match_picked(source: RowSet, target: RowSet, path: str) -> MatchedRows:
    """Pair the source rows that a file names with the target's, in order.

    Raises:
      ValueError: for a file that cannot be read, or names other rows.
    """
    try:
        lines = Path(path).read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            "--picked", "a text file of ids or row numbers", f"{path!r} ({error})"
        ) from error
    names = [line for line in lines if line]
    if len(names) != len(target):
        raise ArgumentError(
            "--picked",
            f"a line for each of the {len(target):,} rows of TARGET",
            f"{len(names):,}",
            "embed all rows that were picked, in their order",
        )
    ids = source.ids()
    if ids is not None:
        places = {str(one): number for number, one in enumerate(ids)}
    else:
        places = {str(number): number for number in range(len(source))}
    unknown = [name for name in names if name not in places]
    if unknown or len(set(names)) < len(names):
        got = f"{unknown[0]!r}, which is none" if unknown else "one of them twice"
        what = "row numbers" if ids is None else "ids"
        raise ArgumentError(
            "--picked", f"{what} of SOURCE, each once", got, "see jaxalign pick"
        )
    numbers = np.array([places[name] for name in names])
    return MatchedRows(numbers, None, len(names), len(source) - len(names))


def _parse_pair(text: str) -> tuple[str, str, str]:
    """Cut "image:a.npy:b.npz::key" into its three parts.

    >>> _parse_pair("text:s3://bucket/a.npy:b.npz::rows")
    ('text', 's3://bucket/a.npy', 'b.npz::rows')
    """
    parts = _BETWEEN.split(text)
    if len(parts) != 3 or not all(parts):
        raise ArgumentError(
            "--pair",
            "a modality and two references, such as image:old.npy:new.npy",
            repr(text),
            "write one --pair for each modality",
        )
    return parts[0], parts[1], parts[2]


def check_bad(skipped: int, read: int, skip_bad: bool) -> None:
    """Raise if more than a hundredth of all pairs have a bad row.

    Args:
      skipped: pairs with a row that is not finite, or is zero.
      read: all pairs.
      skip_bad: accept any number.

    Raises:
      ValueError: naming the flag.
    """
    if skip_bad or skipped <= MOST_BAD * read:
        return
    raise ArgumentError(
        "SOURCE, TARGET",
        f"rows that are finite and not zero, in {100 * (1 - MOST_BAD):.0f} % of pairs",
        f"{skipped:,} of {read:,} pairs with another",
        "look with `jaxalign doctor`, or leave such pairs out with --skip_bad",
    )
