# SPDX-License-Identifier: Apache-2.0
import re
from collections import Counter

import pytest

from experiments.shipped_encoders.make_openmoji_table import MAX_PER_SUBGROUP
from jaxalign.data import openmoji_table

TABLE = openmoji_table.read_table()

VARIANTS = [
    ("person", "man", "woman", "man: bald", "woman: curly hair", "woman: beard"),
    ("child", "boy", "girl"),
    ("older person", "old man", "old woman"),
    ("person with crown", "prince", "princess"),
    ("Santa Claus", "Mrs. Claus", "Mx Claus"),
    ("woman dancing", "man dancing"),
    ("pregnant person", "pregnant man", "pregnant woman"),
    ("breast-feeding", "woman feeding baby", "person feeding baby"),
    ("firefighter", "woman firefighter"),
    ("health worker", "man health worker", "woman health worker"),
    ("person running", "man running: facing right", "woman running"),
    ("merperson", "merman", "mermaid"),
    ("people holding hands", "men holding hands", "woman and man holding hands"),
    ("kiss", "kiss: man, man", "kiss: woman, woman"),
    ("couple with heart", "couple with heart: woman, woman"),
    ("family: man, woman, boy", "family: woman, girl", "family: adult, child"),
    ("detective", "woman detective"),
    ("people with bunny ears", "men with bunny ears"),
]
STRANGERS = [
    ("person", "child"),
    ("firefighter", "fire engine"),
    ("male sign", "female sign"),
    ("guide dog", "dog"),
    ("red apple", "green apple"),
    ("baby", "baby bottle"),
]


def _by_name(name):
    (row,) = [row for row in TABLE if row.name == name]
    return row


@pytest.mark.parametrize("names", VARIANTS, ids=lambda names: names[0])
def test_variants_share_a_concept_and_a_split(names):
    rows = [_by_name(name) for name in names]
    assert len({row.concept for row in rows}) == 1
    assert len({row.unseen for row in rows}) == 1


@pytest.mark.parametrize("names", STRANGERS, ids=lambda names: names[0])
def test_other_emoji_have_concepts_of_their_own(names):
    assert len({_by_name(name).concept for name in names}) == len(names)


def test_every_gendered_name_has_its_person_beside_it():
    by_name = {row.name: row for row in TABLE}
    checked = 0
    for row in TABLE:
        match = re.fullmatch(r"(?:man|woman) (.+)", row.name)
        for other in match and (match[1], f"person {match[1]}") or ():
            if other in by_name:
                assert by_name[other].concept == row.concept, row.name
                checked += 1
    assert checked > 90


@pytest.mark.parametrize("column", ["stem", "name"])
def test_stems_and_names_are_unique(column):
    counts = Counter(getattr(row, column) for row in TABLE)
    assert max(counts.values()) == 1


def test_rows_are_whole():
    for row in TABLE:
        assert re.fullmatch(r"[0-9A-F]+(-[0-9A-F]+)*", row.stem), row
        assert row.name
        assert row.name.lower() not in [word.lower() for word in row.keywords]
        assert row.styles[0] == "full"
        assert set(row.styles) <= {"full", "line", "fill"}
        assert not set("|\t") & set(row.name + "".join(row.keywords))


def test_classes_lie_together_in_one_category_and_are_capped():
    order = [row.subgroup for row in TABLE]
    changes = sum(a != b for a, b in zip(order, order[1:], strict=False))
    assert changes == len(openmoji_table.subgroups()) - 1
    assert max(Counter(order).values()) == MAX_PER_SUBGROUP
    homes = {(row.subgroup, row.category) for row in TABLE}
    assert len(homes) == len(openmoji_table.subgroups())


def test_split_keeps_about_a_fifth_unseen_and_every_class_learnt():
    concepts = {row.concept: row.unseen for row in TABLE}
    share = sum(concepts.values()) / len(concepts)
    # Four standard deviations of a binomial share over some 1,500 concepts.
    assert abs(share - openmoji_table.UNSEEN_FRACTION) < 0.041
    learnt = {row.subgroup for row in TABLE if not row.unseen}
    assert learnt == set(openmoji_table.subgroups())


def test_tiny_table_is_a_balanced_part_of_the_table():
    tiny = openmoji_table.tiny_table()
    assert set(tiny) <= set(TABLE)
    assert set(Counter(row.subgroup for row in tiny).values()) == {10}
    assert {row.unseen for row in tiny} == {True, False}


def test_a_table_of_another_make_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "table.tsv"
    path.write_text("stem\tname\n1F600\tgrinning face\n")
    monkeypatch.setattr(openmoji_table, "TABLE_PATH", path)
    with pytest.raises(ValueError, match="make it again"):
        openmoji_table.read_table.__wrapped__()
