# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from experiments.shipped_encoders import make_openmoji_table
from jaxalign.data import openmoji_table

CONCEPTS = {
    "1F469-200D-1F9B0": "1F9D1",
    "1F468-200D-1F9AF-200D-27A1-FE0F": "1F9D1-200D-1F9AF",
    "1F575-FE0F-200D-2640-FE0F": "1F575",
    "2642": "2642",
    "27A1": "27A1",
    "1F3F3-FE0F-200D-26A7-FE0F": "1F3F3-200D-26A7",
    "1F468-200D-1F469-200D-1F467-200D-1F466": "1F46A",
    "1F469-200D-2764-FE0F-200D-1F48B-200D-1F468": "1F48F",
    "0023-FE0F-20E3": "0023-20E3",
}


@pytest.mark.parametrize(("hexcode", "concept"), CONCEPTS.items())
def test_concept_of_a_code(hexcode, concept):
    assert make_openmoji_table.concept(hexcode) == concept


def _emojibase(folder, records):
    (folder / "en").mkdir()
    (folder / "meta").mkdir()
    (folder / "en" / "data.json").write_text(json.dumps(records))
    groups = {
        "groups": {"0": "smileys-emotion", "1": "people-body", "2": "component"},
        "subgroups": {"0": "face-smiling", "1": "person-role", "2": "hair-style"},
    }
    (folder / "meta" / "groups.json").write_text(json.dumps(groups))
    return folder


def _record(hexcode, label, group, order, tags=()):
    fields = {"hexcode": hexcode, "label": label, "tags": list(tags), "order": order}
    return {**fields, "group": group, "subgroup": group}


def test_rows_are_joined_ordered_and_rid_of_components_and_lookalikes(tmp_path):
    records = [
        {"hexcode": "1F1E6", "label": "regional indicator A"},
        _record("1F9B0", "red hair", 2, 3),
        _record("1F468-200D-1F373", "man cook", 1, 5),  # drawn exactly as the cook is
        _record("1F9D1-200D-1F373", "cook", 1, 4),
        _record("1F603", "grinning face with big eyes", 0, 2),
        _record("1F600", "grinning face", 0, 1, ["happy", "Grinning face"]),
    ]
    rows = make_openmoji_table.make_table(_emojibase(tmp_path, records))
    names = [row["name"] for row in rows]
    assert names == ["grinning face", "grinning face with big eyes", "cook"]
    assert rows[0]["keywords"] == "happy"
    # Without their lines the two faces are one yellow disc with a mouth.
    assert "fill" not in rows[0]["styles"]
    assert rows[2]["styles"] == "full|line|fill"
    assert set(rows[0]) == set(openmoji_table.COLUMNS)


def test_large_subgroups_are_cut_alike_in_any_order(monkeypatch):
    monkeypatch.setattr(make_openmoji_table, "MAX_PER_SUBGROUP", 3)
    rows = [{"stem": f"{code:X}", "subgroup": "flag"} for code in range(9)]
    kept = make_openmoji_table._cap_subgroups(rows)
    assert len(kept) == 3
    again = make_openmoji_table._cap_subgroups(rows[::-1])
    assert again == kept[::-1]


def test_main_writes_the_table(tmp_path, monkeypatch, capsys):
    records = [_record("1F600", "grinning face", 0, 1)]
    path = tmp_path / "table.tsv"
    monkeypatch.setattr(make_openmoji_table, "TABLE_PATH", path)
    make_openmoji_table.main([str(_emojibase(tmp_path, records))])
    lines = path.read_text().splitlines()
    assert lines[0].split("\t") == list(openmoji_table.COLUMNS)
    assert len(lines) == 2
    assert "1 emoji" in capsys.readouterr().err
