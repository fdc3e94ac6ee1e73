# SPDX-License-Identifier: Apache-2.0
"""The plan of a store: settings that its writers share, fixed before the first row."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.spaces import Space, older_spaces, same_space
from jaxalign.store.documents import FORMAT
from jaxalign.store.layout import METADATA, ROW_FOLDERS, part_file

Dtype = Literal["float32", "float16"]
DTYPES: tuple[Dtype, ...] = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of a store, before it has rows.

    Attributes:
      space: the fingerprint of the rows' space.
      dtype: of the rows on disk.
      modalities: "image" and "text", or one of them, each with its width.
      examples: of the data, those without rows among them.
      part_examples: part k covers the examples from k * part_examples.
      details: JSON values that say where the rows come from.
    """

    space: str
    dtype: Dtype
    modalities: dict[str, int]
    examples: int
    part_examples: int
    details: dict[str, Any]

    @property
    def parts(self) -> int:
        """Number of parts of the store."""
        return -(-self.examples // self.part_examples)

    @property
    def storage_dtype(self) -> np.dtype:
        """The rows' dtype in the files: little-endian on every machine."""
        return np.dtype(self.dtype).newbyteorder("<")

    def part_range(self, part: int) -> range:
        """Return the examples of a part."""
        first = part * self.part_examples
        return range(first, min(first + self.part_examples, self.examples))

    def part_files(self, part: int) -> dict[str, str]:
        """Name a part's files: a modality or "metadata" to a relative path."""
        kinds = (*self.modalities, METADATA)
        return {kind: part_file(kind, part, self.parts) for kind in kinds}

    def to_document(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        document = {"format": FORMAT, **dataclasses.asdict(self)}
        older = older_spaces(self.space)
        return {**document, **({"older_spaces": list(older)} if older else {})}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Plan":
        """Take the plan out of `plan.json` or a manifest."""
        names = (field.name for field in dataclasses.fields(cls))
        values = {name: document[name] for name in names}
        if "older_spaces" in document:
            values["space"] = Space(values["space"], document["older_spaces"])
        return cls(**values)

    def differences(self, other: "Plan") -> list[str]:
        """Say where another plan differs: a line a field, `other`'s value first."""
        if same_space(self.space, other.space):
            other = dataclasses.replace(other, space=self.space)
        here, there = _flat(self.to_document()), _flat(other.to_document())
        for settings in (here, there):
            settings.pop("older_spaces", None)
        names = dict.fromkeys([*here, *there])
        return [
            f"{name}: {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} "
            "here"
            for name in names
            if here.get(name) != there.get(name)
        ]


def make_plan(
    *,
    space: str,
    dtype: Dtype,
    modalities: Mapping[str, int],
    examples: int,
    part_examples: int,
    details: Mapping[str, Any],
) -> Plan:
    """Validate the arguments of `EmbeddingStore.create`, and convert them for JSON."""
    call = "EmbeddingStore.create"
    if not isinstance(space, str) or not space:
        raise ArgumentError(
            f"{call}(space={space!r})", "a fingerprint", remedy="pass `encoders.space`"
        )
    check_option(call, "dtype", dtype, DTYPES)
    if not modalities or not set(modalities) <= set(ROW_FOLDERS):
        raise ArgumentError(
            f"{call}(modalities={dict(modalities)})",
            f"widths of modalities among {sorted(ROW_FOLDERS)}",
            remedy="pass {'image': 512, 'text': 512}",
        )
    sizes = {"examples": examples, "part_examples": part_examples, **modalities}
    for name, size in sizes.items():
        check_count(call, name, size, remedy="pass how many there are")
    try:
        plain = json.loads(json.dumps(dict(details), allow_nan=False))
    except (TypeError, ValueError) as error:
        remedy = "keep strings, numbers, lists and dictionaries in them"
        raise ArgumentError(
            f"{call}(details=...)", "JSON values", str(error), remedy
        ) from error
    return Plan(
        space=space,
        dtype=dtype,
        modalities={name: int(modalities[name]) for name in sorted(modalities)},
        examples=int(examples),
        part_examples=int(part_examples),
        details=plain,
    )


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Name nested values by their path, each as JSON."""
    flat = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.dumps(value, sort_keys=True)
    return flat
