# SPDX-License-Identifier: Apache-2.0
"""Stiefel optimisers of other libraries, each as fast as its users can make it.

The gradient is given where a library takes one, so that nothing is differentiated; all
work in float32, torch on two threads as ours. What is not installed is left out.
"""

import functools
import importlib.util
import math
import os
from collections.abc import Callable

import numpy as np

from experiments.solvers.problem import Judge, Problem
from experiments.solvers.tuning import Method, Setting, grid, step_length


def peers() -> list[Method]:
    """Return the optimisers of the libraries that are installed."""
    geometries = ("canonical", "euclidean")
    maps = ("matrix_exp", "cayley", "householder")
    # The rules of conjugate gradients, in float32 and float64.
    rules = [
        f"{rule}{wide}"
        for rule in ("HestenesStiefel", "PolakRibiere", "LiuStorey")
        for wide in ("", " float64")
    ]
    descent = functools.partial(_run_pymanopt, "descent")
    conjugate = functools.partial(_run_pymanopt, "conjugate")
    found = {
        "geoopt": [
            Method(
                "geoopt RiemannianSGD",
                _geoopt("sgd"),
                grid(geometries, momenta=True, nesterov=True),
            ),
            Method(
                "geoopt RiemannianAdam",
                _geoopt("adam"),
                grid(geometries, adam=True),
                unit=step_length,
            ),
        ],
        "pymanopt": [
            Method(
                "pymanopt SteepestDescent", descent, grid(("qr", "qr float64")), True
            ),
            Method("pymanopt ConjugateGradient", conjugate, grid(rules), True),
        ],
        "torch": [
            Method(
                "torch orthogonal, SGD",
                _torch("sgd"),
                grid(maps, momenta=True, nesterov=True),
            ),
            Method(
                "torch orthogonal, Adam",
                _torch("adam"),
                grid(maps, adam=True),
                unit=lambda problem: 2.0**-7,
            ),
        ],
    }
    return [
        method
        for library, methods in found.items()
        if importlib.util.find_spec(library)
        for method in methods
    ]


def _rates(setting: Setting) -> Callable[[int], float]:
    """Learning rate at a step: constant, or cosine to 0 over the setting's horizon."""
    if not setting.horizon:
        return lambda step: setting.rate
    return lambda step: (
        setting.rate * 0.5 * (1 + math.cos(math.pi * min(step / setting.horizon, 1.0)))
    )


def _set_threads() -> None:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)


def _loop(optimizer, rate, steps, watch, read, before=None) -> np.ndarray:
    """Take steps of a torch optimiser."""
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        if before is not None:
            before()
        optimizer.step()
        if watch is not None and watch(read()):
            break
    return read()


def _geoopt(kind: str):
    def run(
        problem: Problem, setting: Setting, steps: int, watch: Judge | None = None
    ) -> np.ndarray:
        import geoopt  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]

        _set_threads()
        manifold = geoopt.Stiefel(canonical=setting.variant == "canonical")
        point = geoopt.ManifoldParameter(
            torch.from_numpy(problem.start.copy()), manifold=manifold
        )
        # The gradient is the same at every point; the optimisers leave it as it is.
        point.grad = -torch.from_numpy(problem.cross)
        if kind == "sgd":
            optimizer = geoopt.optim.RiemannianSGD(
                [point],
                lr=setting.rate,
                momentum=setting.momentum,
                nesterov=setting.nesterov,
            )
        else:
            optimizer = geoopt.optim.RiemannianAdam([point], lr=setting.rate)
        return _loop(
            optimizer,
            _rates(setting),
            steps,
            watch,
            lambda: point.detach().numpy(),
        )

    return run


def _torch(kind: str):
    def run(
        problem: Problem, setting: Setting, steps: int, watch: Judge | None = None
    ) -> np.ndarray:
        import torch  # pyright: ignore[reportMissingImports]

        _set_threads()
        d = problem.start.shape[0]
        layer = torch.nn.Linear(d, d, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(problem.start))
        torch.nn.utils.parametrizations.orthogonal(
            layer, orthogonal_map=setting.variant
        )
        gradient = -torch.from_numpy(problem.cross)
        (weight,) = layer.parameters()
        if kind == "sgd":
            optimizer = torch.optim.SGD(
                [weight],
                lr=setting.rate,
                momentum=setting.momentum,
                nesterov=setting.nesterov,
            )
        else:
            optimizer = torch.optim.Adam([weight], lr=setting.rate)

        def before() -> None:
            weight.grad = None
            layer.weight.backward(gradient)

        def read() -> np.ndarray:
            with torch.no_grad():
                return layer.weight.numpy()

        return _loop(optimizer, _rates(setting), steps, watch, read, before)

    return run


class _WatchedSearch:
    """A line search that shows its result to the judge."""

    def __init__(self, search, watch: Judge):
        self._search, self._watch = search, watch

    def __deepcopy__(self, memo):
        return self

    def search(self, *arguments):
        step_size, point = self._search.search(*arguments)
        if self._watch(point):
            raise _StopError(point)
        return step_size, point


class _StopError(Exception):
    pass


def _run_pymanopt(
    kind: str,
    problem: Problem,
    setting: Setting,
    steps: int,
    watch: Judge | None = None,
) -> np.ndarray:
    import pymanopt  # pyright: ignore[reportMissingImports]
    from pymanopt.optimizers import (  # pyright: ignore[reportMissingImports]
        ConjugateGradient,
        SteepestDescent,
        line_search,
    )

    variant, _, wide = setting.variant.partition(" ")
    dtype = np.float64 if wide else np.float32
    cross, start = problem.cross.astype(dtype), problem.start.astype(dtype)
    gradient = -cross
    manifold = pymanopt.manifolds.Stiefel(*start.shape)

    @pymanopt.function.numpy(manifold)
    def cost(point):
        return -np.vdot(cross, point)

    @pymanopt.function.numpy(manifold)
    def euclidean_gradient(point):
        return gradient

    task = pymanopt.Problem(manifold, cost, euclidean_gradient=euclidean_gradient)
    limits = {
        "max_time": np.inf,
        "min_gradient_norm": 0.0,
        "min_step_size": 0.0,
        "verbosity": 0,
    }
    if kind == "descent":
        search = line_search.BackTrackingLineSearcher()
    else:
        search = line_search.AdaptiveLineSearcher()
    if watch is not None:
        search = _WatchedSearch(search, watch)
    if kind == "descent":
        optimizer = SteepestDescent(search, max_iterations=steps, **limits)
    else:
        # It counts the look at the last point as well.
        optimizer = ConjugateGradient(
            variant, line_searcher=search, max_iterations=steps + 1, **limits
        )
    try:
        return optimizer.run(task, initial_point=start).point.astype(np.float32)
    except _StopError as stop:
        return stop.args[0].astype(np.float32)
