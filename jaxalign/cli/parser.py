# SPDX-License-Identifier: Apache-2.0
"""The parser of every subcommand: one line for a mistake, and examples in its help."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxalign.errors import ArgumentError, UserError

LARGEST_SEED = 2**31 - 1


class UsageError(UserError):
    """A command line that cannot be understood."""


class CommandParser(argparse.ArgumentParser):
    """A parser of one subcommand, with the flags that all have.

    `--a-b` and `--a_b` are one flag (see `underscored`); no flag may be shortened, and
    only those that say so may come twice.
    """

    def __init__(self, name: str, description: str, examples: str):
        super().__init__(
            prog=f"jaxalign {name}",
            description=description,
            epilog=f"examples:\n{examples.strip(chr(10))}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._repeatable: set[str] = set()
        common = self.add_argument_group("of every command")
        common.add_argument("-h", "--help", action="store_true", help="show this")
        common.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout"
        )
        common.add_argument(
            "--traceback",
            action="store_true",
            help="show where in the code a mistake was found",
        )

    def add_repeatable(self, flag: str, **options: Any) -> None:
        """Add a flag that may come several times."""
        self._repeatable.add(flag)
        self.add_argument(flag, action="append", default=[], **options)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace | None:
        """Parse what `underscored` gave; print the help and return None for `--help`.

        Raises:
          UsageError: naming the argument.
        """
        if {"-h", "--help"} & set(_flags(arguments)):
            self.print_help()
            return None
        given = [flag.split("=", 1)[0] for flag in _flags(arguments)]
        for flag in sorted(set(given) - self._repeatable):
            if given.count(flag) > 1:
                self.error(
                    f"{flag} is given {given.count(flag)} times; give it once, and "
                    "quote a pattern with braces, which the shell would expand"
                )
        return self.parse_args(list(arguments))

    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving."""
        raise UsageError(f"{message}; see {self.prog} --help")


def underscored(arguments: Sequence[str]) -> list[str]:
    """Write flags with underscores: `--id-column=url` is `--id_column=url`.

    >>> underscored(["fit", "--id-column=my-id", "a-b.npy", "--", "--as-is"])
    ['fit', '--id_column=my-id', 'a-b.npy', '--', '--as-is']
    """
    flags = len(_flags(arguments, whole=True))
    found = []
    for number, text in enumerate(arguments):
        if number < flags and text.startswith("--") and len(text) > 2:
            name, equals, value = text[2:].partition("=")
            text = f"--{name.replace('-', '_')}{equals}{value}"
        found.append(text)
    return found


def _flags(arguments: Sequence[str], *, whole: bool = False) -> list[str]:
    """Flags among the arguments before `--`; all of these if `whole`."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    before = list(arguments[:end])
    return before if whole else [text for text in before if text.startswith("-")]


def read_seeds(flag: str, text: str) -> tuple[int, ...]:
    """Read distinct seeds, separated by commas.

    >>> read_seeds("--seeds", "0,2")
    (0, 2)
    """
    parts = [part.strip() for part in text.split(",")]
    seeds = tuple(int(part) for part in parts if part.isdigit())
    if len(set(seeds)) != len(parts) or max(seeds) > LARGEST_SEED:
        expected = f"distinct integers of 0 to {LARGEST_SEED}"
        raise ArgumentError(flag, expected, repr(text), f"write {flag}=0,1,2")
    return seeds
