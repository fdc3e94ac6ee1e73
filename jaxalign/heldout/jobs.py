# SPDX-License-Identifier: Apache-2.0
"""The searches that a purpose stands for, between the modalities of the anchors."""

import dataclasses
import typing
from typing import Literal

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError, check_option
from jaxalign.families.scorer import Side

Purpose = Literal["search", "rewrite", "cross", "zero_shot"]
PURPOSES: tuple[str, ...] = typing.get_args(Purpose)


@dataclasses.dataclass(frozen=True)
class Job:
    """One kind of search that the map is for.

    Attributes:
      query: modality of the queries.
      index: modality of the rows that are searched.
      queries_are: which model's rows ask; the other's are searched.
    """

    query: Modality
    index: Modality
    queries_are: Side = "source"

    @property
    def rows_are(self) -> Side:
        """Which model's rows are searched."""
        return "target" if self.queries_are == "source" else "source"

    def describe(self) -> str:
        """Say the job in a few words.

        >>> Job("image", "text").describe()
        'source image -> target text'
        """
        return f"{self.queries_are} {self.query} -> {self.rows_are} {self.index}"


def jobs_of(
    anchors: Anchors,
    purpose: Purpose,
    query: Modality | None,
    index: Modality | None,
    queries_are: Side | None,
) -> list[Job]:
    """The searches of a purpose, with each model as the one that asks."""
    call = "choose_map"
    if queries_are is not None:
        check_option(call, "queries_are", queries_are, ("source", "target"))
    sides: tuple[Side, ...] = ("source", "target")
    if purpose == "rewrite":
        sides = ("target",)
    sides = sides if queries_are is None else (queries_are,)
    known = [*anchors.rows, *anchors.unpaired]
    for name, value in (("query", query), ("index", index)):
        if value is not None:
            remedy = "add pairs of that modality, or unpaired rows"
            check_option(call, name, value, known, remedy=remedy)
    if purpose in ("search", "rewrite"):
        wanted = query or index
        if query is not None and index is not None and query != index:
            raise ArgumentError(
                f"{call}(purpose={purpose!r}, query={query!r}, index={index!r})",
                "one modality that is searched by itself",
                remedy="pass purpose='cross' for a search across modalities",
            )
        names = [wanted] if wanted else list(anchors.rows)
        return [Job(name, name, side) for name in names for side in sides]
    if query is None and index is None:
        pair = ["image", "text"] if {"image", "text"} <= set(known) else known
        if len(pair) != 2:
            raise ArgumentError(
                f"{call}(purpose={purpose!r})",
                f"`query` and `index`, of {known}",
                remedy="name the modality that asks and the one that is searched",
            )
        query, index = pair
    elif query is None or index is None:
        others = [name for name in known if name not in (query, index)]
        if len(others) != 1:
            raise ArgumentError(
                f"{call}(purpose={purpose!r}, query={query!r}, index={index!r})",
                f"both, of {known}",
                remedy="name the modality that asks and the one that is searched",
            )
        query, index = query or others[0], index or others[0]
    if query == index:
        raise ArgumentError(
            f"{call}(purpose={purpose!r}, query={query!r}, index={index!r})",
            "two modalities",
            remedy="pass purpose='search' for one",
        )
    label = "groups" if purpose == "zero_shot" else "ids"
    for name in (query, index):
        rows = anchors.rows.get(name)
        given = rows is None or (rows.ids if label == "ids" else rows.labels)
        if given is None:
            raise ArgumentError(
                f"{call}(purpose={purpose!r})",
                f"{label} of {query!r} and {index!r}, which tell what answers what",
                remedy=f"pass Anchors(pairs, {label}={{'image': ..., 'text': ...}})",
            )
    return [Job(query, index, side) for side in sides]
