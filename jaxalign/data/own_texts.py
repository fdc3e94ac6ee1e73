# SPDX-License-Identifier: Apache-2.0
"""Texts of the user's own lists: JSON without surprises, and what no text may hold."""

import json
from typing import Any, Literal

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


def problem_of(text: str, role: Role) -> str:
    """Say what is wrong with a text and what to do; "" if nothing is.

    Args:
      text: as the user wrote it.
      role: a name is a path, an id or a split.

    Returns:
      The end of a sentence that says where the text stands.
    """
    if role == "label" and len(text) > LONGEST_LABEL:
        return (
            f"expected a name or number of at most {LONGEST_LABEL} characters, got "
            f"{len(text)} ({text[:20]!r}...); what describes one picture is a caption."
        )
    if role == "name" and "\0" in text:
        return (
            f"expected a name, got {text[:200]!r} with a NUL character, which no "
            "file's name has; remove it."
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            return (
                f"expected text, got half of a surrogate pair, {half!r}; write both "
                "halves, or the character itself in UTF-8."
            )
    return ""
