# SPDX-License-Identifier: Apache-2.0
r"""Least-squares orthonormal projection to a narrower space.

For ``d_source > d_target`` the norm of a projected row depends on the map, so that the
map of the largest trace is not the one of the least squares, and may be far from it:
minimise :math:`\mathrm{tr}(Q G Q^\top) - 2 \langle Q, C \rangle` over orthonormal rows.
With :math:`L` the largest eigenvalue of :math:`G` the first term is concave up to a
constant, and lies below its tangent: the polar factor of :math:`Q + (C - Q G) / L` does
not increase the error. Momentum, given up when it stops to help, speeds it up.

References: Kiers, "Majorization as a tool for optimizing a class of matrix functions",
1990; Green and Gower, "A problem with congruence", 1979; O'Donoghue and Candes,
"Adaptive restart for accelerated gradient schemes", 2015, arXiv 1204.3982.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.newton_schulz import polish
from jaxalign.solve.over_matrices import over_matrices

# Iterations of each start before the best one goes on alone.
_SCOUTING = 50


@pytree_dataclass
class _Descent:
    """State of the iteration: a map, what was measured there, and the momentum."""

    now: Float[Array, "k d"]
    image: Float[Array, "k d"]
    error: Float[Array, ""]
    wanted: Float[Array, "k d"]
    gradient: Float[Array, ""]
    before: tuple[Float[Array, "k d"], Float[Array, "k d"]]
    time: Float[Array, ""]
    steps: Int[Array, ""]
    stalled: Bool[Array, ""]


def least_squares_projection(
    cross: Float[Array, "*batch d_target d_source"],
    gram: Float[Array, "*batch d_source d_source"],
    *,
    with_scale: bool = False,
    max_iterations: int = 2000,
) -> tuple[
    Float[Array, "*batch d_target d_source"],
    Int[Array, "*batch"],
    Bool[Array, "*batch"],
]:
    r"""Minimise the squared error over maps with orthonormal rows.

    Args:
      cross: :math:`C`, shape ``(*batch, d_target, d_source)``, wide.
      gram: :math:`G`, of the centred source rows, ``(*batch, d_source, d_source)``.
      with_scale: static; the error of the best scale for each map, which is
        :math:`-\langle Q, C \rangle^2 / \mathrm{tr}(Q G Q^\top)` up to a constant.
      max_iterations: static; of the start that is followed.

    Returns:
      The map, the iterations of the start that won, and whether its gradient on the
      manifold vanishes to rounding.

    Raises:
      ValueError: if it is differentiated.

    Notes:
      Local minima exist: three starts (the polar factors of :math:`C`, of
      :math:`C G^{-1/2}` and of the regression :math:`C G^{-1}`) run for at most 50
      iterations each, and the best of them until its gradient vanishes. The error never
      increases, up to rounding. Linear convergence, slower the more the eigenvalues of
      :math:`G` differ: 50 iterations where they span a factor of 10, and 600 to 1,000
      where 10,000. An iteration is O(d_target d_source^2): one product with :math:`G`
      and a polar factor by Newton-Schulz, of the cost of five more. No collectives if
      sharded on the batch axes.

    >>> cross, gram = jnp.array([[1.0, 1.1]]), jnp.diag(jnp.array([1.0, 9.0]))
    >>> found, _, _ = least_squares_projection(cross, gram)
    >>> bool(jnp.allclose(found, jnp.array([[0.9925, 0.1221]]), atol=1e-4))
    True
    """
    return _projection(
        jnp.concatenate([cross, gram], axis=-2), with_scale, max_iterations
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _projection(packed, with_scale, max_iterations):
    """Solve for each matrix [C; G]."""
    solve = functools.partial(
        _best_of_starts, with_scale=with_scale, max_iterations=max_iterations
    )
    return over_matrices(solve, packed)


@_projection.defjvp
def _(with_scale, max_iterations, primals, tangents):
    raise ArgumentError(
        "solve_procrustes(objective='least_squares')",
        "no derivative where d_source > d_target, since the optimum is found by "
        "iteration",
        "one asked for",
        "differentiate objective='trace'",
    )


def _best_of_starts(packed, *, with_scale, max_iterations):
    """Iterate from each start; the one of the least error wins."""
    k = packed.shape[0] - packed.shape[1]
    cross, gram = packed[:k], packed[k:]
    values, vectors = jnp.linalg.eigh(gram)
    largest = jnp.where(values[-1] > 0, values[-1], 1.0)
    cross, gram = cross / largest, gram / largest
    eps = float(jnp.finfo(packed.dtype).eps)
    # Directions at rounding must not rule the start.
    shifted = jnp.maximum(values / largest, 0.0) + len(values) * eps
    turned = product(cross, vectors)

    def start(power):
        return _polar(product(turned * (shifted ** (-power))[None, :], vectors.T))

    # Made in place: `over_matrices` takes no array from outside.
    starts = jax.lax.map(start, 0.5 * jnp.arange(3, dtype=packed.dtype))
    begin, descend = _descent(cross, gram, with_scale)

    def run(best, turn):
        # Which valley is deepest shows long before its floor is reached.
        last = turn == 3
        limit = jnp.where(last, max_iterations, min(_SCOUTING, max_iterations))
        begun = _choose(last, best, begin(starts[turn % 3]))
        found = descend(begun, limit)
        return _choose(last | ~(best.error <= found.error), found, best), None

    nothing = dataclasses.replace(
        begin(starts[0]), error=jnp.full((), jnp.inf, packed.dtype)
    )
    found, _ = jax.lax.scan(run, nothing, jnp.arange(4))
    # A stalled run is at rounding if its gradient says so, with some room.
    converged = found.gradient <= 30.0 * _enough(cross.dtype)
    return found.now, found.steps, converged


def _choose(first, one, other):
    """Take one state or the other whole."""
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)


def _descent(cross, gram, with_scale):
    """Make the iteration's first state and its run; `gram` has top eigenvalue 1."""
    eps = float(jnp.finfo(cross.dtype).eps)

    def measure(rotation, image):
        """Error up to a constant, best scale, and gradient relative to its terms."""
        energy = jnp.sum(image * rotation)
        inner = jnp.sum(rotation * cross)
        safe = jnp.where(energy > 0, energy, 1.0)
        factor = jnp.where(inner > 0, inner / safe, 1.0) if with_scale else 1.0
        error = factor * (factor * energy - 2.0 * inner)
        wanted = cross / factor
        slope = wanted - image
        across = product(slope, rotation.T)
        tangent = slope - product(0.5 * (across + across.T), rotation)
        size = jnp.linalg.norm(wanted) + jnp.linalg.norm(image)
        gradient = jnp.linalg.norm(tangent) / jnp.where(size > 0, size, 1.0)
        return error, wanted, gradient

    def begin(start):
        image = product(start, gram)
        error, wanted, gradient = measure(start, image)
        return _Descent(
            now=start,
            image=image,
            error=error,
            wanted=wanted,
            gradient=gradient,
            before=(start, image),
            time=jnp.ones((), cross.dtype),
            steps=jnp.int32(0),
            stalled=jnp.bool_(False),
        )

    def step(state):
        now, image, before = state.now, state.image, state.before
        later = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * state.time**2))
        weight = (state.time - 1.0) / later
        ahead = now + weight * (now - before[0])
        # The image is linear in the map: no further product.
        ahead_image = image + weight * (image - before[1])
        new = _near_polar(ahead + state.wanted - ahead_image)
        new_image = product(new, gram)
        new_error, new_wanted, new_gradient = measure(new, new_image)
        # Equal errors differ by rounding; a plain step never does worse than that.
        slack = 8.0 * eps * (jnp.abs(state.error) + jnp.sum(jnp.abs(new_image * new)))
        worse = ~(new_error <= state.error + slack)
        # Momentum that points up again is forgotten.
        turned = jnp.sum((ahead - new) * (new - now)) > 0
        one = jnp.ones_like(state.time)
        # Without momentum a step that does worse says that rounding is reached.
        stalled = worse & (weight <= 0)
        time = jnp.where(worse | turned, one, later)
        moved = _Descent(
            now=new,
            image=new_image,
            error=new_error,
            wanted=new_wanted,
            gradient=new_gradient,
            before=(now, image),
            time=time,
            steps=state.steps + 1,
            stalled=stalled,
        )
        kept = dataclasses.replace(
            moved,
            now=now,
            image=image,
            error=state.error,
            wanted=state.wanted,
            gradient=state.gradient,
        )
        return _choose(worse, kept, moved)

    def descend(state, limit):
        def unfinished(state):
            going = (state.gradient > _enough(cross.dtype)) & (state.steps < limit)
            return going & ~state.stalled

        return jax.lax.while_loop(unfinished, step, state)

    return begin, descend


def _enough(dtype):
    """Gradient, relative to its terms, at which to stop."""
    return float(jnp.finfo(dtype).eps) ** 0.75


def _near_polar(wide):
    """Polar factor of a matrix whose singular values are mostly near one."""
    gram = product(wide, wide.T)
    largest = jnp.max(jnp.abs(gram))
    safe = gram / jnp.where(largest > 0, largest, 1.0)
    power = jnp.linalg.norm(product(safe, safe)) ** 0.25
    bound = jnp.sqrt(largest) * power
    # Newton-Schulz converges below sqrt(7 / 3) = 1.53.
    factor, _ = polish(wide.T / jnp.maximum(bound / 1.45, 1.0))
    return factor.T


def _polar(wide):
    """Polar factor by SVD, at any rank."""
    u, _, vt = jnp.linalg.svd(wide, full_matrices=False)
    return product(u, vt)
