# SPDX-License-Identifier: Apache-2.0
"""Whether products and moments are right on this JAX and device, in float64's eyes.

Bounds are multiples of float32's eps. TensorFloat-32 keeps 11 bits of a factor, so that
a product in it misses them by far.
"""

from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.accelerator_check_solvers import (
    EPS,
    check_optimizers,
    check_polar,
    check_solvers,
)
from experiments.benchmarks.accelerator_record import (
    OUT_OF_TIME,
    Measurement,
    failure,
    timed,
)
from experiments.benchmarks.accelerator_timing import Job, time_in_turns
from jaxalign.moments import Moments, init_moments, reduce_groups, update_moments

# Relative to |A| |B|, entry by entry: rounding of sums of products in any order.
PRODUCT = 16.0
# Centred sums relative to the energies: 1 eps seen; n products that are added one by
# one may reach sqrt(n) / 2.
SUMS = 20.0
_GROUPS = 5
_DISTINCT = 64
_HIGHEST = jax.lax.Precision.HIGHEST

Check = Callable[[bool], Iterator[tuple[str, float, float]]]
"""From whether it is tiny to names, errors and the largest errors allowed."""


def check_all(job: Job) -> Iterator[list[Measurement]]:
    """Run all checks; one that raises fails by itself."""
    yield time_products(job)
    checks: dict[str, Check] = {
        "moments": check_moments,
        "polar factors": check_polar,
        "solvers": check_solvers,
        "Stiefel optimisers": check_optimizers,
    }
    for title, check in checks.items():
        section = f"correctness, {title}"
        if job.deadline.passed:
            yield [Measurement(section, "all", note=OUT_OF_TIME)]
            continue
        yield _run_check(section, check, job)


def _run_check(section: str, check: Check, job: Job) -> list[Measurement]:
    """Run one check as far as time allows; an error is a failure of its own."""
    lines = []
    try:
        for name, error, allowed in check(job.tiny):
            lines.append(
                Measurement(
                    section,
                    name,
                    errors={"error": error},
                    figures={"allowed": allowed},
                    # NaN compares false.
                    passed=bool(error <= allowed),
                )
            )
            if job.deadline.passed:
                lines.append(Measurement(section, "the rest", note=OUT_OF_TIME))
                break
    except Exception as error:  # noqa: BLE001
        lines.append(failure(section, "the rest", error))
    return lines


def time_products(job: Job) -> list[Measurement]:
    """Time products of each precision, and measure them: HIGHEST must be float32."""
    section, d = "matrix products", 256 if job.tiny else 4096
    left, right = jax.random.normal(jax.random.key(0), (2, d, d))
    # A corner is enough to tell the precision, and spares the host a large product.
    corner = min(d, 512)
    exact_left, exact_right = (
        np.asarray(side, np.float64) for side in (left[:corner], right[:, :corner])
    )
    exact, size = exact_left @ exact_right, np.abs(exact_left) @ np.abs(exact_right)
    half = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    product = jax.jit(jnp.matmul, static_argnames="precision")
    forms = {
        "float32, HIGHEST": (left, right, _HIGHEST),
        "float32, DEFAULT": (left, right, jax.lax.Precision.DEFAULT),
        "bfloat16": (*half, None),
    }
    calls = {
        name: lambda form=form: product(form[0], form[1], precision=form[2])
        for name, form in forms.items()
    }
    timings = time_in_turns(calls, rounds=job.rounds, deadline=job.deadline)
    lines = []
    for name, timing in timings.items():
        error, passed, figures = float("nan"), None, {}
        if timing.value is not None:
            found = np.asarray(timing.value[:corner, :corner], np.float64)
            error = float((np.abs(found - exact) / size).max())
            if name == "float32, HIGHEST":
                passed = error <= PRODUCT * EPS
        if timing.seconds:
            figures = {"TFLOP_per_s": 2e-12 * d**3 / timing.seconds}
        lines.append(
            timed(
                section,
                name,
                timing,
                shape=f"{d} x {d}",
                dtype=name.split(",")[0],
                errors={"error": error},
                figures=figures,
                passed=passed,
            )
        )
    return lines


def check_moments(tiny: bool) -> Iterator[tuple[str, float, float]]:
    """Compare moments of rows on a cone with those of NumPy in float64."""
    source, target = draw_rows(tiny)
    n = len(source)
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.0, 2.0, n).astype(np.float32)
    weights[rng.choice(n, n // 4, replace=False)] = 0.0
    group = rng.integers(0, _GROUPS, n)
    widths = source.shape[1], target.shape[1]
    empty = init_moments(*widths, grams=True)

    found = update_moments(empty, source, target)
    yield "of rows", worst_error(found, exact_moments(source, target)), SUMS * EPS

    # Rows of weight 0 are padding, and may hold anything.
    padded = source.copy()
    padded[weights == 0] = np.nan
    found = update_moments(empty, padded, target, weights=weights)
    expected = exact_moments(source, target, weights.astype(np.float64))
    yield "of weighted rows", worst_error(found, expected), SUMS * EPS

    half = n // 2
    found = update_moments(empty, source[:half], target[:half])
    found = update_moments(found, source[half:], target[half:])
    yield (
        "of two batches",
        worst_error(found, exact_moments(source, target)),
        SUMS * EPS,
    )

    grouped = init_moments(*widths, grams=True, groups=_GROUPS)
    grouped = update_moments(grouped, source, target, group=group)
    errors = [
        worst_error(
            jax.tree.map(lambda leaf, one=one: leaf[one], grouped),
            exact_moments(source[group == one], target[group == one]),
        )
        for one in range(_GROUPS)
    ]
    yield "of groups, the worst", float(np.max(errors)), SUMS * EPS

    chosen = np.arange(_GROUPS) % 2 == 0
    kept = chosen[group]
    expected = exact_moments(source[kept], target[kept])
    found = reduce_groups(grouped, chosen)
    yield "of a subset of groups", worst_error(found, expected), SUMS * EPS


def draw_rows(tiny: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw paired float32 rows on cones whose means are far larger than the spread.

    They are few rows over and over: rounding of factors does not average out, which
    would hide TensorFloat-32.
    """
    n, d_source, d_target = (5000, 24, 16) if tiny else (20_000, 256, 192)
    rng = np.random.default_rng(0)
    source, target = (
        rng.standard_normal((_DISTINCT, d)) * 0.02 + rng.standard_normal(d)
        for d in (d_source, d_target)
    )
    target[:, :8] += source[:, :8]
    repeats = -(-n // _DISTINCT)
    source, target = (
        np.tile(side, (repeats, 1))[:n].astype(np.float32) for side in (source, target)
    )
    return source, target


def exact_moments(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None
) -> Mapping[str, np.ndarray]:
    """Compute moments by NumPy in float64."""
    source, target = source.astype(np.float64), target.astype(np.float64)
    weights = np.ones(len(source)) if weights is None else weights
    means = weights @ source / weights.sum(), weights @ target / weights.sum()
    x, y = source - means[0], target - means[1]
    weighted = weights[:, None] * y
    return {
        "count": weights.sum(),
        "source_mean": means[0],
        "target_mean": means[1],
        "cross_covariance": weighted.T @ x,
        "source_gram": (weights[:, None] * x).T @ x,
        "target_gram": weighted.T @ y,
        "source_energy": (weights[:, None] * x * x).sum(),
        "target_energy": (weighted * y).sum(),
    }


def worst_error(found: Moments, expected: Mapping[str, np.ndarray]) -> float:
    """Return the largest error of all parts, each relative to its own size."""
    energies = expected["source_energy"], expected["target_energy"]
    sizes = {
        "cross_covariance": np.sqrt(energies[0] * energies[1]),
        "source_gram": energies[0],
        "target_gram": energies[1],
    }
    return float(
        np.max(
            [
                np.linalg.norm(np.asarray(getattr(found, name), np.float64) - value)
                / sizes.get(name, np.linalg.norm(value))
                for name, value in expected.items()
            ]
        )
    )
