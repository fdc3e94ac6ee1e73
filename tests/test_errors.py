# SPDX-License-Identifier: Apache-2.0
"""One form of error: what was called, expected, given and to be done."""

import pickle

import pytest

from jaxalign.errors import (
    ArgumentError,
    OperandError,
    UserError,
    check_count,
    check_number,
    check_option,
)


def test_an_argument_error_says_four_things_and_crosses_processes():
    error = ArgumentError("top_k(k=...)", "1 to 3", 7, "pass fewer")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one) == "`top_k(k=...)`: expected 1 to 3, got 7; pass fewer."
    assert isinstance(error, UserError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("check", "value", "rules"),
    [
        (check_option, "c", {"known": ("a", "b")}),
        (check_count, 0, {}),
        (check_count, True, {}),
        (check_count, 2.0, {}),
        (check_number, float("nan"), {}),
        (check_number, "3", {"least": 0.0}),
        (check_number, 0.0, {"above": 0.0}),
        (check_number, 1.0, {"below": 1.0}),
        (check_number, 2, {"most": 1.0}),
        (check_number, -1, {"least": 0.0}),
    ],
)
def test_values_outside_are_refused_by_name(check, value, rules):
    with pytest.raises(ArgumentError, match="call.*argument"):
        check("call", "argument", value, **rules)


def test_wrong_operands_are_type_errors_of_ours():
    assert issubclass(OperandError, ArgumentError)
    assert issubclass(OperandError, TypeError)


def test_values_inside_come_back():
    check_option("call", "argument", "a", ("a",))
    assert check_count("call", "argument", 5, least=5) == 5
    assert check_number("call", "argument", 1, least=0.0, most=1.0) == 1.0
