# SPDX-License-Identifier: Apache-2.0
"""Data sets: a source of examples by random access, and a description of it.

Every example of a source of the catalog is a dict with these keys; a data set may add
others:

| key | value |
|---|---|
| `image` | uint8 array (height, width, 3), or a loaded Pillow image of any mode |
| `id` | str, unique in the split |
| `text` | str, the caption at evaluation; "" where there is none |
| `label` | int, an index into `DatasetInfo.class_names`; -1 where there is none |

and may have these:

| key | value |
|---|---|
| `path` | str, where the picture lies: in the user's own lists and tar files |
| `thing` | str, alike for all pictures of one thing; by default each shows its own |
| `is_query` | bool, False for pictures that anchor only and are no query; else True |

`source[i]` raises `pictures.UnreadablePictureError` where the picture cannot be read.
Sources are picklable, and several threads may read one at a time.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxalign.data.pictures import UnreadablePictureError
from jaxalign.errors import ArgumentError


@runtime_checkable
class Source(Protocol):
    """Random access to examples, each a dict; what Grain reads from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


@runtime_checkable
class CataloguedSource(Source, Protocol):
    """A source that tells whether it is still the one that was read before."""

    @property
    def fingerprint(self) -> str:
        """Hex; another one where the list, captions, labels or files differ."""
        ...


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Description of a data set, known before it is read.

    Attributes:
      name: its name in the catalog, or the path of the user's own.
      splits: the names that `load_dataset` takes.
      class_names: the labels' meaning, in order; empty where there are no labels.
      category_names: the coarser categories' meaning, in order.
      class_prompts: an ensemble of texts a class, in the labels' order.
      credit: text that a report must show.
      license: of pictures and texts.
      class_captions: one caption a class, where the class alone decides an example's
        caption (`text`); None where examples bring their own.
    """

    name: str
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    category_names: tuple[str, ...]
    class_prompts: tuple[tuple[str, ...], ...]
    credit: str
    license: str
    class_captions: tuple[str, ...] | None = None


class InMemorySource(Sequence):
    """All examples of a source, read and decoded once.

    A picture that cannot be read raises its error each time it is asked for, as it does
    in the source itself.
    """

    def __init__(self, source: CataloguedSource):
        self.fingerprint = source.fingerprint
        self._examples = [_read(source, index) for index in range(len(source))]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int, /) -> dict[str, Any]:  # pyright: ignore
        example = self._examples[index]
        if isinstance(example, UnreadablePictureError):
            raise example
        return example


def stack_examples(
    examples: Sequence[Mapping[str, Any]], *, call: str = "stack_examples"
) -> dict[str, np.ndarray]:
    """Stack the columns that all examples have; pictures must be of one shape.

    Args:
      examples: at least one.
      call: named in the error.

    Raises:
      ValueError: if the shapes of a column differ.
    """
    shared = set.intersection(*(set(example) for example in examples))
    batch = {}
    for key in (key for key in examples[0] if key in shared):
        values = [np.asarray(example[key]) for example in examples]
        shapes = {value.shape for value in values}
        if len(shapes) > 1:
            expected = f"examples whose {key!r} have one shape"
            remedy = "bring them to one shape by a transform, or by `collate`"
            raise ArgumentError(call, expected, sorted(shapes), remedy)
        batch[key] = np.stack(values)
    return batch


def check_not_empty(call: str, source: Source) -> None:
    """Raise over a source without examples."""
    if not len(source):
        raise ArgumentError(
            f"{call}(source=...)", "at least one example", "an empty source"
        )


def _read(source: Source, index: int) -> dict[str, Any] | UnreadablePictureError:
    try:
        return source[index]
    except UnreadablePictureError as error:
        return error
