# SPDX-License-Identifier: Apache-2.0
"""Pick the orthonormal parameters of a tree by path, for `optax.multi_transform`."""

import fnmatch
from collections.abc import Callable
from typing import Any

import jax

from jaxalign.errors import ArgumentError

STIEFEL = "stiefel"
REST = "rest"


def label_paths(*patterns: str) -> Callable[[Any], Any]:
    """Label parameters by path: ``"stiefel"`` where a pattern fits, else ``"rest"``.

    Args:
      patterns: of paths such as ``"layers/0/mixer"``; ``*`` stands for anything, as in
        a shell: ``"*/mixer"``.

    Returns:
      A function from a tree of parameters to a tree of labels, as
      `optax.multi_transform` takes for its `param_labels`.

    Raises:
      ArgumentError: if no pattern is given; by the function, if one fits no parameter.

    >>> params = {"mixer": jax.numpy.eye(2), "head": jax.numpy.zeros((2, 1))}
    >>> label_paths("mixer")(params)
    {'head': 'rest', 'mixer': 'stiefel'}
    """
    if not patterns or not all(isinstance(one, str) for one in patterns):
        raise ArgumentError(
            f"label_paths{patterns!r}",
            "patterns of paths",
            remedy="pass such as '*/mixer'",
        )

    def label(params: Any) -> Any:
        found = jax.tree_util.tree_flatten_with_path(params)
        paths = [_name(path) for path, _ in found[0]]
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
                raise ArgumentError(
                    f"label_paths({pattern!r})",
                    "a pattern that fits a parameter",
                    remedy=f"there are {', '.join(paths) or 'none'}",
                )
        labels = [
            STIEFEL if any(fnmatch.fnmatchcase(path, one) for one in patterns) else REST
            for path in paths
        ]
        return jax.tree.unflatten(found[1], labels)

    return label


def _name(path) -> str:
    """Write a key path with slashes; the value of an NNX variable has no name."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.removesuffix("/value")
