# SPDX-License-Identifier: Apache-2.0
"""The vendored table of emoji: names, keywords, classes and concepts, and its splits.

Classes are Unicode's subgroups, categories its groups. The facts come from the Unicode
CLDR and emoji-test.txt (LICENSE.unicode); BUILD.md says how the table is made.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

from jaxalign.data.renderings import Role
from jaxalign.errors import ArgumentError

TABLE_PATH = Path(__file__).with_name("openmoji_table.tsv")
COLUMNS = ("stem", "name", "keywords", "subgroup", "category", "concept", "styles")

UNSEEN_FRACTION = 0.2
"""Share of the concepts that neither shipped model is trained on."""

LICENSE = "CC BY-SA 4.0 (pictures), Unicode License V3 (names, keywords and classes)"
CREDIT = (
    "Pictures designed by OpenMoji, the open-source emoji and icon project "
    "(openmoji.org), CC BY-SA 4.0; drawn here in several styles, on backgrounds. "
    "Names, keywords and classes: Unicode CLDR, by way of emojibase-data."
)

SPLITS: dict[str, tuple[bool, Role]] = {
    "source_train": (False, "source"),
    "target_train": (False, "target"),
    "learnt": (False, "evaluation"),
    "unseen": (True, "evaluation"),
}
"""Split -> whether it holds the unseen emoji, and the role of its renderings."""

TINY_SUBGROUPS = 20
TINY_PER_SUBGROUP = 10


@dataclasses.dataclass(frozen=True)
class Emoji:
    """One row of the table.

    Attributes:
      stem: OpenMoji's file name without ending, upper-case hexadecimal code points.
      name: the CLDR short name, unique in the table.
      keywords: the CLDR keywords, without the name.
      subgroup: the class, such as "animal-bird".
      category: the group of subgroups, such as "animals-nature".
      concept: code shared by all variants (man, woman, hair, direction) of one emoji.
      styles: the styles in which its picture is unlike every other emoji's.
    """

    stem: str
    name: str
    keywords: tuple[str, ...]
    subgroup: str
    category: str
    concept: str
    styles: tuple[str, ...]

    @property
    def unseen(self) -> bool:
        """Whether both shipped models were trained without it; alike for a concept."""
        return _unit_hash(f"unseen/{self.concept}") < UNSEEN_FRACTION


@functools.cache
def read_table() -> tuple[Emoji, ...]:
    """Return all emoji of the table, in Unicode's order."""
    lines = TABLE_PATH.read_text(encoding="utf-8").splitlines()
    if tuple(lines[0].split("\t")) != COLUMNS:
        expected = f"the columns {COLUMNS}"
        remedy = "make it again, as BUILD.md says"
        raise ArgumentError(str(TABLE_PATH), expected, repr(lines[0]), remedy)
    return tuple(_parse(line) for line in lines[1:])


def tiny_table() -> tuple[Emoji, ...]:
    """Return about 200 emoji: ten of each of 20 subgroups, chosen by hashes."""
    emoji = read_table()
    members: dict[str, list[Emoji]] = {}
    for row in emoji:
        members.setdefault(row.subgroup, []).append(row)
    large = [s for s, rows in members.items() if len(rows) >= TINY_PER_SUBGROUP]
    large.sort(key=lambda subgroup: _unit_hash(f"tiny/{subgroup}"))
    chosen = {
        row.stem
        for subgroup in large[:TINY_SUBGROUPS]
        for row in sorted(
            members[subgroup], key=lambda r: _unit_hash(f"tiny/{r.stem}")
        )[:TINY_PER_SUBGROUP]
    }
    return tuple(row for row in emoji if row.stem in chosen)


def subgroups() -> tuple[str, ...]:
    """Return the class names, in table order: the labels' meaning."""
    return tuple(dict.fromkeys(row.subgroup for row in read_table()))


def categories() -> tuple[str, ...]:
    """Return the category names, in table order."""
    return tuple(dict.fromkeys(row.category for row in read_table()))


def _parse(line: str) -> Emoji:
    stem, name, keywords, subgroup, category, concept, styles = line.split("\t")
    return Emoji(
        stem=stem,
        name=name,
        keywords=tuple(k for k in keywords.split("|") if k),
        subgroup=subgroup,
        category=category,
        concept=concept,
        styles=tuple(styles.split("|")),
    )


def _unit_hash(text: str) -> float:
    """Hash a text to [0, 1), alike on every machine and Python."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
