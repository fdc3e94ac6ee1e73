# SPDX-License-Identifier: Apache-2.0
"""A sweep's curves hold the rows' own numbers, draw by draw."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.evaluate.rows import NATIVE_TARGET
from jaxalign.report.sweep import PANELS, Sweep, method_of

TABLES = ("seen classes", "unseen classes")


def value_of(table, count, seed):
    return (0.5 if table == "seen classes" else 0.01 * count) + 0.001 * seed


@pytest.fixture
def rows():
    found = []
    for table in TABLES:
        for seed in (0, 1):
            for count in (5, 10, 40):
                found += [
                    ja.evaluate.ResultRow(
                        table,
                        method_of(count),
                        metric,
                        value_of(table, count, seed),
                        None,
                        9,
                        seed,
                    )
                    for metric in PANELS
                ]
            found.append(
                ja.evaluate.ResultRow(
                    table, NATIVE_TARGET, "zeroshot", 0.75, None, 9, seed
                )
            )
    return found


def test_curves_hold_every_draw(rows):
    sweep = Sweep.of(rows, TABLES)
    seen, unseen = sweep.curves["image_cosine"]
    assert (seen.label, unseen.label) == TABLES
    assert list(unseen.places) == [5, 10, 40]
    expected = [[value_of("unseen classes", n, s) for s in (0, 1)] for n in (5, 10, 40)]
    np.testing.assert_allclose(unseen.values, expected)
    np.testing.assert_allclose(unseen.means, np.mean(expected, axis=1))
    level = sweep.levels["zeroshot_mapped_image_to_target_text"]
    assert level == (NATIVE_TARGET, 0.75)


def test_the_sentence_names_the_fewest_that_are_enough(rows):
    sweep = Sweep.of(rows, TABLES)
    assert "40 classes of anchors; 40 reach" in sweep.describe("unseen classes")
    assert "40 classes of anchors; 5 reach" in sweep.describe("seen classes")


def test_the_figure_and_the_tables_show_it(rows):
    sweep = Sweep.of(rows, TABLES)
    svg = sweep.draw(axis="anchor classes N")
    assert svg.startswith("<svg")
    assert svg.count("anchor classes N") >= len(PANELS)
    for name in (*TABLES, NATIVE_TARGET):
        assert f">{name}<" in svg
    tables = sweep.tables(axis="N")
    assert tables.count("<table>") == 2
    assert "<th>N = 40</th>" in tables
    assert "40.1 %" in tables  # the mean of 0.400 and 0.401, in percent


def test_rows_of_something_else_are_refused(rows):
    with pytest.raises(ValueError, match="rows"):
        Sweep.of([row for row in rows if row.method == NATIVE_TARGET], TABLES)
