# SPDX-License-Identifier: Apache-2.0
"""Optimiser state that a fit starts from: resumed, with hyper-parameters as data.

`optax.inject_hyperparams` keeps an optimiser's numbers in its state, so one compiled
program serves all their values. Two transformations made apart differ as static
arguments, so the numbers are set in the state of one that is kept.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.stiefel.measures import PointTree

_Injected = optax.InjectStatefulHyperparamsState
_MAKE = "optax.inject_hyperparams(ja.stiefel.riemannian_sgd)(learning_rate=0.1)"


def check_state(
    call: str,
    optimizer: optax.GradientTransformation,
    init: PointTree,
    state: optax.OptState | None,
    hyperparams: Mapping[str, float | ArrayLike] | None,
) -> dict[str, Array]:
    """Validate an optimiser and what it starts from; return hyper-parameters as arrays.

    Raises:
      ArgumentError: if `optimizer` is none, `state` has not the structure of the
        optimiser's, a name is not injected, a schedule would overwrite its value, or
        the value is no number.
    """
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        raise ArgumentError(
            f"{call}(optimizer={optimizer!r})",
            "an optax transformation, with `init` and `update`",
            type(optimizer).__name__,
            "pass one such as `ja.stiefel.riemannian_sgd(0.1)`",
        )
    if state is None and not hyperparams:
        return {}
    fresh = jax.eval_shape(optimizer.init, init)
    if state is not None and jax.tree.structure(state) != jax.tree.structure(fresh):
        raise ArgumentError(
            f"{call}(state=...)",
            "the state of this optimizer for these points",
            f"another structure ({type(state).__name__})",
            "pass the `state` of an earlier solution of the same optimizer",
        )
    injected = [node for node in _nodes(fresh) if isinstance(node, _Injected)]
    scheduled = {name for node in injected for name in node.hyperparams_states}
    known = {name for node in injected for name in node.hyperparams} - scheduled
    for name in hyperparams or {}:
        if name not in known:
            got = "a schedule's" if name in scheduled else "an optimizer without it"
            raise ArgumentError(
                f"{call}(hyperparams={{{name!r}: ...}})",
                f"a number that the optimizer injects, of {sorted(known)}",
                got,
                f"make the optimizer by `{_MAKE}`",
            )
    return {name: _number(call, name, one) for name, one in (hyperparams or {}).items()}


def begin(
    optimizer: optax.GradientTransformation,
    init: PointTree,
    state: optax.OptState | None,
    hyperparams: Mapping[str, Array],
) -> optax.OptState:
    """Return the state to start from, with the hyper-parameters set in it."""
    state = optimizer.init(init) if state is None else state

    def overridden(node):
        if not isinstance(node, _Injected):
            return node
        held = {
            name: jnp.asarray(hyperparams.get(name, old), jnp.result_type(old))
            for name, old in node.hyperparams.items()
        }
        return node._replace(hyperparams=held)

    return jax.tree.map(overridden, state, is_leaf=_is_injected)


def _number(call: str, name: str, value: Any) -> Array:
    """Make an array: Python numbers and arrays of any dtype are one program."""
    try:
        # JAX may take None for NaN.
        if value is not None:
            return jnp.asarray(value, float)
        reason = "None"
    except (TypeError, ValueError) as error:
        reason = error
    raise ArgumentError(
        f"{call}(hyperparams={{{name!r}: ...}})",
        "a number or an array",
        reason,
        "leave the name out to keep the optimizer's own",
    )


def _nodes(state: Any) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=_is_injected)


def _is_injected(node: Any) -> bool:
    return isinstance(node, _Injected)
