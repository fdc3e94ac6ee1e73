# SPDX-License-Identifier: Apache-2.0
"""Texts of the user's own lists: reading JSON, and validating each text."""

import json
from typing import Any, Literal

from jaxalign.errors import ArgumentError

LONGEST_LABEL = 1000
"""Characters: a longer label is a caption, or a number that Python may not read."""

Role = Literal["name", "label", "caption"]


def parse_json(text: str) -> dict[str, Any] | None:
    """Parse a JSON object; None for anything else.

    A whole number that is too long for a label stays a text.
    """
    try:
        found = json.loads(text, parse_int=_parse_whole_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _parse_whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_LABEL else digits


def check_text(where: str, text: str, role: Role) -> None:
    """Raise over a text that no example may have.

    Args:
      where: it stands, for the error.
      text: as the user wrote it.
      role: a name is a path, an id or a split.

    Raises:
      ValueError: saying what is wrong with it.
    """
    if role == "label" and len(text) > LONGEST_LABEL:
        expected = f"a name or number of at most {LONGEST_LABEL} characters"
        remedy = "what describes one picture is a caption"
        raise ArgumentError(where, expected, f"{len(text)} ({text[:20]!r}...)", remedy)
    if role == "name" and "\0" in text:
        got = f"{text[:200]!r} with a NUL character, which no file's name has"
        raise ArgumentError(where, "a name", got, "remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        got = f"half of a surrogate pair, {text[error.start]!r}"
        remedy = "write both halves, or the character itself in UTF-8"
        raise ArgumentError(where, "text", got, remedy) from error
