# SPDX-License-Identifier: Apache-2.0
"""Cells are means over seeds, written in the unit of their metric."""

import dataclasses

import pytest

from jaxalign.report import summary
from tests.report.result_rows import HEADLINE, make_rows


def test_cells_average_seeds_and_the_ends_of_intervals():
    one, two = make_rows(), make_rows(seed=1, shift=0.02)
    cell = summary.collect(one + two)["held-out classes"][HEADLINE]["text_to_text_at_1"]
    values, intervals = (
        [
            getattr(row, name)
            for row in one + two
            if (row.method, row.metric) == (HEADLINE, "text_to_text_at_1")
        ]
        for name in ("value", "interval")
    )
    assert cell.seeds == len(values) == 2
    assert cell.value == pytest.approx(sum(values) / 2)
    assert cell.std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert cell.interval == pytest.approx(
        [sum(ends) / 2 for ends in zip(*intervals, strict=True)]
    )


def test_a_missing_interval_leaves_none():
    rows = [dataclasses.replace(make_rows()[0], interval=None), make_rows(seed=1)[0]]
    row = rows[0]
    cell = summary.collect(rows)[row.table][row.method][row.metric]
    assert cell.interval is None
    assert cell.value is not None


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("image_cosine", 0.876, "0.88"),
        ("image_cosine", -0.001, "0.00"),
        ("text_to_text_at_1", 0.4567, "45.7"),
        ("zeroshot", None, "n/a"),
    ],
)
def test_values_are_written_in_their_unit(metric, value, text):
    assert summary.format_value(metric, value) == text


def test_native_methods_show_their_own_metric():
    cells = summary.collect(make_rows())["held-out classes"]
    column = next(c for c in summary.KEY_COLUMNS if c.native_metric == "zeroshot")
    native = column.cell(summary.NATIVE_TARGET, cells[summary.NATIVE_TARGET])
    assert native is cells[summary.NATIVE_TARGET]["zeroshot"]
    mapped = column.cell(HEADLINE, cells[HEADLINE])
    assert mapped is cells[HEADLINE]["zeroshot_mapped_image_to_target_text"]
    without = summary.KeyColumn(("image", "cosine"), "image_cosine")
    assert without.cell(summary.NATIVE_TARGET, cells[summary.NATIVE_TARGET]) is None


def test_sizes_and_chance_are_told():
    cells = summary.collect(make_rows())["held-out classes"]
    told = summary.describe_size(cells)
    assert told == "600 examples, 49 classes, chance @1 is 0.17 %"
    assert summary.describe_size({}) == ""


def test_methods_are_picked_in_the_wanted_order_once():
    cells = summary.collect(make_rows())["held-out classes"]
    wanted = [HEADLINE, "no such map", summary.NATIVE_TARGET, HEADLINE]
    assert summary.pick_methods(cells, wanted) == [HEADLINE, summary.NATIVE_TARGET]
