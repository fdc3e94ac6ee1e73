# SPDX-License-Identifier: Apache-2.0
"""The examples a map is judged on: four sets of rows in one order, and class texts."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_rows


@dataclasses.dataclass(frozen=True)
class PairedSet:
    """Embeddings of the same examples by both models, held on the host.

    Attributes:
      source_images: ``(n, d_source)`` unit rows.
      source_texts: ``(n, d_source)`` unit rows, one caption per example.
      target_images: ``(n, d_target)`` unit rows of the same examples in one order.
      target_texts: ``(n, d_target)``.
      labels: ``(n,)`` class of each example, each among `class_ids`.
      source_class_texts: ``(classes, d_source)``, from prompt ensembles.
      target_class_texts: ``(classes, d_target)``.
      class_ids: ``(classes,)`` the classes that zero-shot chooses among.
      ids: ``(n,)`` what an example shows; examples that share an id (renderings of one
        picture, one caption twice) do not count as each other's rivals in exact
        retrieval. Default: every example is its own.
      groups: ``(n,)`` what is resampled for intervals; default `ids`. Use `labels` to
        ask how results vary over classes.
    """

    source_images: Float[ArrayLike, "n d_source"]
    source_texts: Float[ArrayLike, "n d_source"]
    target_images: Float[ArrayLike, "n d_target"]
    target_texts: Float[ArrayLike, "n d_target"]
    labels: Int[ArrayLike, " n"]
    source_class_texts: Float[ArrayLike, "classes d_source"]
    target_class_texts: Float[ArrayLike, "classes d_target"]
    class_ids: Int[ArrayLike, " classes"]
    ids: Int[ArrayLike, " n"] | None = None
    groups: Int[ArrayLike, " n"] | None = None

    def __post_init__(self):
        for name in ("labels", "class_ids"):
            values = np.asarray(getattr(self, name))
            if values.ndim != 1:
                raise ArgumentError(
                    f"PairedSet({name}=...)",
                    "an array with one axis",
                    f"{values.dtype} of shape {values.shape}",
                    "pass one class, a whole number, for each",
                )
        n = len(self.labels)
        ids = np.arange(n) if self.ids is None else self.ids
        groups = ids if self.groups is None else self.groups
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "groups", groups)
        for name in ("labels", "class_ids", "ids", "groups"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        if n == 0:
            raise ArgumentError("PairedSet(labels=...)", "at least one example", "none")
        for side in ("source", "target"):
            self._validate_rows(side)
        for name in ("labels", "ids", "groups"):
            self._check_shape(name, (n,))
        missing = np.setdiff1d(self.labels, self.class_ids)
        if missing.size:
            raise ArgumentError(
                "PairedSet(class_ids=...)",
                "the classes of all examples",
                f"none for {missing[:5].tolist()}",
                "give one class text per class",
            )

    def take(
        self, examples: Int[ArrayLike, " m"] | Bool[ArrayLike, " n"]
    ) -> "PairedSet":
        """Keep some examples, and the class texts of the classes that remain.

        Args:
          examples: row numbers or a mask.

        Returns:
          The smaller set; zero-shot chooses among the remaining classes only.
        """
        examples = np.asarray(examples)
        kept = np.isin(self.class_ids, np.asarray(self.labels)[examples])
        of_classes = ("source_class_texts", "target_class_texts", "class_ids")
        return PairedSet(
            **{
                field.name: getattr(self, field.name)[
                    kept if field.name in of_classes else examples
                ]
                for field in dataclasses.fields(self)
            }
        )

    def _validate_rows(self, side: str) -> None:
        """Raise unless one model's rows have one width, are finite and not zero."""
        width = None
        for name in ("images", "texts", "class_texts"):
            field = f"{side}_{name}"
            count = len(self.class_ids if name == "class_texts" else self.labels)
            given = float_rows("PairedSet", field, getattr(self, field), width=width)
            rows = np.asarray(given)
            object.__setattr__(self, field, rows)
            width = rows.shape[1]
            self._check_shape(field, (count, width))
            bad = ~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)
            if bad.any():
                raise ArgumentError(
                    f"PairedSet({field}=...)",
                    "finite rows that are not zero",
                    f"{bad.sum()} others, the first at row {bad.argmax()}",
                    "look at the encoder's output",
                )

    def _check_shape(self, name: str, expected: tuple[int, ...]) -> None:
        """Raise unless a field has a shape."""
        shape = getattr(self, name).shape
        if shape != expected:
            raise ArgumentError(
                f"PairedSet({name}=...)",
                f"shape {expected}",
                shape,
                "all sides hold the same examples in one order, and a model has one "
                "width",
            )
