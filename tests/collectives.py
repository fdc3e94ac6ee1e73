# SPDX-License-Identifier: Apache-2.0
"""Reads compiled programs for what devices say to one another."""

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "permute")


def assert_no_collective(text: str) -> None:
    """Fail if a compiled text holds a collective."""
    for collective in COLLECTIVES:
        assert collective not in text
