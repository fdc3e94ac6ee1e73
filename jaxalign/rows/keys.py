# SPDX-License-Identifier: Apache-2.0
"""Which array or column of a file is meant: the one named, or the only one."""

from collections.abc import Sequence

from jaxalign.errors import ArgumentError, shorten


def choose_key(
    where: str,
    text: str,
    key: str | None,
    known: Sequence[str],
    candidates: Sequence[str],
    noun: str,
) -> str:
    """Return the key that is meant.

    Args:
      where: the call, for errors.
      text: the reference, for errors.
      key: as the user gave it, or None.
      known: all names that there are.
      candidates: those that may be meant where none is named.
      noun: what they are, such as "array".

    Raises:
      ValueError: if there is none of that name, or none is named of several.
    """
    if key is not None and key in known:
        return key
    if key is None and len(candidates) == 1:
        return candidates[0]
    names = candidates if key is None and candidates else known
    there = shorten([repr(name) for name in names], most=8) or "none"
    path = text if key is None else text.removesuffix(f"::{key}")
    some = names[0] if names else "name"
    if key is not None:
        expected, got = f"one of its {noun}s", f"{key!r}; there are {there}"
    elif candidates:
        expected, got = f"the {noun} that is meant", f"several: {there}"
    else:
        expected, got = f"{noun}s of embeddings", f"none; there are {there}"
    raise ArgumentError(where, expected, got, f"write '{path}::{some}'")
