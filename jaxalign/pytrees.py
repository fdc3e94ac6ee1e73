# SPDX-License-Identifier: Apache-2.0
"""Dataclasses that JAX can transform: frozen, with arrays as leaves."""

import typing

import flax.struct

T = typing.TypeVar("T")


@typing.dataclass_transform(frozen_default=True, field_specifiers=(flax.struct.field,))
def pytree_dataclass(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass and a PyTree, as `flax.struct.dataclass` does.

    JAX rebuilds PyTrees with leaves that are not arrays: shapes under `jax.eval_shape`,
    shardings, the placeholders of Orbax. Under the import hook of the tests, jaxtyping
    would check these against the annotations of the fields, and raise. So the class is
    exempt from type checks; shapes are checked where functions take and return it.

    >>> @pytree_dataclass
    ... class Point:
    ...     x: float
    >>> Point(1.0).replace(x=2.0)
    Point(x=2.0)
    """
    return typing.no_type_check(flax.struct.dataclass(cls))
