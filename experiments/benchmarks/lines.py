# SPDX-License-Identifier: Apache-2.0
"""Lines of a benchmark: seconds, a ratio, and what the ratio should be."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jaxalign.atomic_files import write_atomically
from jaxalign.report.results import library_versions


@dataclasses.dataclass(frozen=True)
class Line:
    """One measurement.

    Attributes:
      section: what is compared.
      what: who, and how large.
      seconds: the median, or None where the line is about something else.
      ratio: against what the section says; above 1 is in our favour if `wanted`.
      wanted: the ratio asked for, at least.
      at_most: the ratio allowed, at most.
      note: a few words.
    """

    section: str
    what: str
    seconds: float | None = None
    ratio: float | None = None
    wanted: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the ratio is as asked for; empty where nothing is asked."""
        if self.ratio is None:
            return ""
        if self.wanted is not None:
            word = "ok" if self.ratio >= self.wanted else "MISSED"
            return f"{word}, >= {self.wanted:g}"
        if self.at_most is not None:
            word = "ok" if self.ratio <= self.at_most else "MISSED"
            return f"{word}, <= {self.at_most:g}"
        return ""


def format_lines(lines: Sequence[Line]) -> str:
    """Set lines as a table, a heading for each section."""
    text, section = [], None
    width = max((len(line.what) for line in lines), default=0)
    for line in lines:
        if line.section != section:
            section = line.section
            text.append(f"\n{section}")
        seconds = "" if line.seconds is None else f"{line.seconds:10.4f} s"
        ratio = "" if line.ratio is None else f"{line.ratio:6.2f} x"
        row = f"  {line.what:<{width}} {seconds:>12} {ratio:>8}  {line.verdict:<16}"
        text.append(f"{row} {line.note}".rstrip())
    return "\n".join(text)


def keep(path: Path, lines: Sequence[Line], versions: Mapping[str, str]) -> None:
    """Write what was measured, with the versions."""
    document = {
        "versions": dict(versions),
        "lines": [dataclasses.asdict(one) for one in lines],
    }
    write_atomically(path, json.dumps(document, indent=1))


def run_sections(
    sections: Mapping[str, Callable[[], Iterable[Sequence[Line]]]], path: Path
) -> None:
    """Run sections, print lines as they come, and keep them.

    Args:
      sections: by name; each gives its lines, a group at a time.
      path: of the file that is written after each group.
    """
    versions = library_versions()
    print("  ".join(f"{name} {version}" for name, version in versions.items()))
    lines: list[Line] = []
    for section in sections.values():
        for found in section():
            print(format_lines(found), flush=True)
            lines += found
            keep(path, lines, versions)
