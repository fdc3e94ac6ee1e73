# SPDX-License-Identifier: Apache-2.0
import dataclasses

from jaxalign.report.table import format_table
from tests.report.result_rows import HEADLINE, make_rows


def lines_of(text):
    return {line.split("  ")[0]: line for line in text.splitlines()}


def test_a_newcomer_can_read_it():
    rows = make_rows()
    text = format_table(rows, headline=HEADLINE, fit_on="image")
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith(
        "held-out classes: 600 examples, 49 classes, chance @1 is 0.17 %\n"
    )
    lines = lines_of(text)
    ours = lines[HEADLINE].removeprefix(HEADLINE).split()
    assert ours == ["0.90", "0.87", "45.0", "31.0", "(", "72)", "24.0", "25.0"]
    native = lines["native target"].removeprefix("native target").split()
    assert native == ["-", "-", "-", "43.3", "43.3", "60.0"]
    assert "Found: one map fitted on images alone carries texts as well." in text
    flat = " ".join(text.split())
    assert "72 % of what the target model's own pictures find (95 % interval" in flat


def test_columns_stand_in_line():
    rows = make_rows()
    text = format_table(rows)
    ends = {len(line) for line in text.splitlines() if line[-2:] == ".0"}
    assert len(ends) == 1


def test_what_does_not_apply_is_marked():
    rows = make_rows()
    nothing = [dataclasses.replace(row, value=None, interval=None) for row in rows]
    lines = lines_of(format_table(nothing, headline=HEADLINE))
    assert lines["none"].removeprefix("none").split() == ["n/a"] * 6


def test_seeds_are_averaged_and_tables_kept_apart():
    rows = make_rows() + make_rows(seed=1, shift=0.02)
    rows += make_rows(table="unseen emoji")
    text = format_table(rows, headline=HEADLINE)
    first, second = text.split("\n\n\n")
    assert "mean of 2 seeds" in first
    assert lines_of(first)[HEADLINE].split()[3] == "0.91"
    assert "standard deviation over seeds 1.4 points" in " ".join(first.split())
    assert second.startswith("unseen emoji: 600 examples")


def test_long_names_are_cut():
    rows = make_rows()
    long = [dataclasses.replace(row, method=row.method + 40 * "!") for row in rows]
    assert max(map(len, format_table(long).splitlines())) <= 100


def test_no_rows_are_no_table():
    assert format_table([], headline=HEADLINE) == ""
