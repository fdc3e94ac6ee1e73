# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of embedding spaces, and when two of them mean one space.

How encoders compute their fingerprint has changed, and files hold what was computed
when they were written. So a fingerprint brings along those that earlier versions gave
the same model, through arguments and files, and one function compares.
"""

from collections.abc import Iterable


class Space(str):
    """The fingerprint of an embedding space: a string with those it had before.

    It is a string in all that strings do: equality, hashing, JSON. Fingerprints that
    are typed in or read from a file of an earlier version are plain strings.

    Attributes:
      older: what earlier versions called the same space.
    """

    older: tuple[str, ...]

    def __new__(cls, value: str, older: Iterable[str] = ()) -> "Space":
        """Make a fingerprint, the newest and the older ones."""
        space = super().__new__(cls, value)
        space.older = tuple(older)
        return space

    def __getnewargs__(self) -> tuple[str, tuple[str, ...]]:  # for pickle and copy
        return str(self), self.older


def older_spaces(space: str | None) -> tuple[str, ...]:
    """Return the older fingerprints that come with one; none with a plain string."""
    return space.older if isinstance(space, Space) else ()


def same_space(one: str | None, other: str | None) -> bool:
    """Tell whether two fingerprints mean one space.

    They do if they are equal, or if one is among the older ones of the other. None,
    an unknown space, is the same as None alone.

    >>> same_space(Space("new", older=["old"]), "old"), same_space("new", "old")
    (True, False)
    """
    return one == other or one in older_spaces(other) or other in older_spaces(one)
