# SPDX-License-Identifier: Apache-2.0
"""What is said of a course of convergence is what its records hold."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jaxalign.report.convergence import (
    Convergence,
    Course,
    Mark,
    format_convergence,
)

STEPS = np.array([1, 10, 100])


def course(label, excess, *, step_seconds=0.01, **details):
    drift = np.array([1e-7, 3e-7, 2e-7])
    return Course(label, STEPS, np.array(excess), drift, step_seconds, details)


@pytest.fixture
def found():
    return Convergence(
        [
            course("sgd, plain", [0.5, 1e-3, 1e-7], rate="2"),
            course("sgd, momentum", [0.5, -5e-7, 1e-14], step_seconds=0.02),
            course("adam", [0.9, 0.5, 2e-4]),
            course("landing", [0.9, np.nan, np.nan]),
        ],
        [Mark("svd", 0.003, 1e-13, 2e-7), Mark("ns", 0.001, 0.25, 0.5)],
    )


def test_steps_are_those_of_the_first_record_within_the_target(found):
    steps = [one.steps_to(found.target) for one in found.courses]
    # Rounding below the optimum counts as at it.
    assert steps == [100, 10, None, None]
    np.testing.assert_allclose(found.courses[1].seconds, [0.02, 0.2, 2.0])
    fastest = found.fastest()
    assert fastest is not None
    assert fastest.label == "sgd, momentum"
    assert Convergence(found.courses[2:]).fastest() is None


def test_cells_say_when_or_where(found):
    assert found.cells() == {
        "svd": "3 ms",
        "ns": "at 2e-01",
        "sgd, plain": "1 s",
        "sgd, momentum": "200 ms",
        "adam": "at 2e-04",
        "landing": "diverged",
    }


def test_the_table_has_a_line_a_solver_and_a_column_a_detail(found):
    html = found.table().replace("\xa0", " ")
    lines = html.split("<tr>")[2:]
    assert len(lines) == 6
    assert "<th>rate</th>" in html
    plain = next(line for line in lines if "sgd, plain" in line)
    for entry in ("1 s", "100", "10 ms", "1.0e-07", "3.0e-07", "2"):
        assert f"<td>{entry}</td>" in plain
    assert "not reached" in next(line for line in lines if ">ns<" in line)
    assert "below 1e-12" in next(line for line in lines if "momentum" in line)


def test_the_figure_names_every_solver_once(found):
    svg = found.draw("a problem")
    texts = [e.text for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]
    for one in [*found.courses, *found.marks]:
        assert texts.count(one.label) == 1
    assert "seconds" in texts
    assert texts.count("steps") == 2
    assert "currentColor" in svg
    # A family shares a colour: three families of lines, of six colours.
    assert sum(color in svg for color in ("#0072b2", "#d55e00", "#009e73")) == 3
    assert "#cc79a7" not in svg
    assert svg == found.draw("a problem")


def test_the_summary_has_problems_across(found):
    text = format_convergence({"one": found, "another": Convergence(found.courses)})
    lines = text.splitlines()
    assert lines[0].split() == ["one", "another"]
    assert len({len(line) for line in lines}) == 1
    svd = next(line for line in lines if line.startswith("svd"))
    assert svd.split() == ["svd", "3", "ms", "-"]
