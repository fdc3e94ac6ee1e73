# SPDX-License-Identifier: Apache-2.0
"""The errors that users are meant to read, and the checks that raise most of them.

Whatever is raised here says in one line what failed, what was expected, what came and
what to do. Launches show these without a traceback; everything else is a bug.
"""

import errno
import math
import numbers
import operator
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Base of all errors whose message tells the user what to do."""


class ArgumentError(UserError, ValueError):
    """A call was given what it cannot take.

    The message reads ```call`: expected ..., got ...; remedy.``

    Attributes:
      call: the call and the argument, such as ``"top_k(k=0)"``.
      expected: what it takes.
      got: what came; None where `call` shows it.
      remedy: what to do.
    """

    def __init__(
        self, call: str, expected: str, got: Any = None, remedy: str | None = None
    ):
        # All of them are `args`, so that the error crosses processes.
        super().__init__(call, expected, got, remedy)
        self.call, self.expected, self.got, self.remedy = call, expected, got, remedy

    def __str__(self) -> str:
        """Return the message."""
        got = "" if self.got is None else f", got {self.got}"
        remedy = "" if self.remedy is None else f"; {self.remedy}"
        return f"`{self.call}`: expected {self.expected}{got}{remedy}."


class OperandError(ArgumentError, TypeError):
    """An operator was given an operand of another type."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a call needs does not exist."""


class MissingModuleError(UserError, ModuleNotFoundError):
    """An optional package that a call needs is not installed."""


class PoorFitWarning(UserWarning):
    """A map was fitted that carries held-out anchors no better than their mean."""


_REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EPIPE")
    if hasattr(errno, name)
}


def is_mistake(error: BaseException) -> bool:
    """Tell whether one line says all that the user needs.

    Our own errors for users are `UserError`s, and the system's are those that refuse a
    file. Whatever else is raised, in NumPy, JAX or by one of our own expressions, says
    nothing without its traceback.

    >>> is_mistake(ArgumentError("top_k(k=0)", "1 or more")), is_mistake(KeyError("k"))
    (True, False)
    """
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    return refused or isinstance(error, UserError)


DEFAULT_REMEDY = "leave it out for the default"


def check_option(
    call: str,
    name: str,
    value: Any,
    known: Collection[Any],
    *,
    remedy: str = DEFAULT_REMEDY,
) -> None:
    """Raise `ArgumentError` unless `value` is one of `known`."""
    if value not in known:
        raise ArgumentError(
            f"{call}({name}={value!r})", f"one of {tuple(known)}", remedy=remedy
        )


def check_count(
    call: str, name: str, value: Any, *, least: int = 1, remedy: str = DEFAULT_REMEDY
) -> int:
    """Return `value` as an int; raise unless it is a whole number of at least `least`.

    >>> check_count("top_k", "k", 3)
    3
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or int(value) < least:
        raise ArgumentError(
            f"{call}({name}={value!r})",
            f"a whole number of at least {least}",
            remedy=remedy,
        )
    return int(value)


def check_number(
    call: str,
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    remedy: str = DEFAULT_REMEDY,
) -> float:
    """Return `value` as a float; raise unless it is finite and within the bounds.

    >>> check_number("rescore", "level", 0.95, above=0.0, below=1.0)
    0.95
    """
    number = float(value) if isinstance(value, numbers.Real) else math.nan
    bounds = (
        ("above", above, operator.gt),
        ("at least", least, operator.ge),
        ("at most", most, operator.le),
        ("below", below, operator.lt),
    )
    given = [(word, bound, holds) for word, bound, holds in bounds if bound is not None]
    if not math.isfinite(number) or not all(
        holds(number, bound) for _, bound, holds in given
    ):
        words = " and ".join(f"{word} {bound:g}" for word, bound, _ in given)
        expected = f"a finite number {words}".rstrip()
        raise ArgumentError(f"{call}({name}={value!r})", expected, remedy=remedy)
    return number


def check_path(call: str, name: str, value: Any) -> Path:
    """Return `value` as a path; raise for what is neither a string nor a path.

    >>> check_path("carry_rows", "path", "rows.npy").suffix
    '.npy'
    """
    if not isinstance(value, str | os.PathLike):
        raise ArgumentError(
            f"{call}({name}={value!r})",
            "a path",
            type(value).__name__,
            "pass a string or a `pathlib.Path`",
        )
    return Path(value)


def shorten(items: Iterable[str], *, most: int = 3, separator: str = ", ") -> str:
    """Join the first few of many names for a message.

    >>> shorten(["a", "b", "c"], most=2)
    'a, b, and 1 more'
    """
    names = list(items)
    rest = len(names) - most
    return separator.join(names[:most] + [f"and {rest} more"] * (rest > 0))
