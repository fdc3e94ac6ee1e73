# SPDX-License-Identifier: Apache-2.0
"""Dataclasses that JAX can transform: frozen, with arrays as leaves."""

import dataclasses
import typing
from typing import Any

import jax

T = typing.TypeVar("T")


def static_field(**options: Any) -> Any:
    """Declare a field of a `pytree_dataclass` that is no leaf: part of the structure.

    Args:
      **options: as `dataclasses.field` takes them, such as ``default``. The field's
        values must be hashable; another value is another compiled program.
    """
    return dataclasses.field(metadata={"static": True}, **options)


@typing.dataclass_transform(
    frozen_default=True, field_specifiers=(static_field, dataclasses.field)
)
def pytree_dataclass(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass and a PyTree, with a method ``replace``.

    JAX rebuilds PyTrees with leaves that are not arrays: shapes under `jax.eval_shape`,
    shardings. Under the import hook of the tests, jaxtyping would check these against
    the annotations of the fields, and raise. So the class is exempt from type checks;
    shapes are checked where functions take and return it.

    >>> @pytree_dataclass
    ... class Point:
    ...     x: float
    >>> Point(1.0).replace(x=2.0)
    Point(x=2.0)
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    made.replace = _replace  # pyright: ignore[reportAttributeAccessIssue]
    return typing.no_type_check(jax.tree_util.register_dataclass(made))


def _replace(self: Any, **updates: Any) -> Any:
    """Return a copy with other values in the named fields."""
    return dataclasses.replace(self, **updates)
