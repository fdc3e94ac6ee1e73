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
    run, search = functools.partial, functools.partial(Method, line_search=True)
    sgd, adam = {"momenta": True, "nesterov": True}, {"adam": True}
    found = {
        "geoopt": [
            Method(
                "geoopt RiemannianSGD",
                run(_run_torch, _geoopt, "SGD"),
                grid(geometries, **sgd),
            ),
            Method(
                "geoopt RiemannianAdam",
                run(_run_torch, _geoopt, "Adam"),
                grid(geometries, **adam),
                unit=step_length,
            ),
        ],
        "pymanopt": [
            search(
                "pymanopt SteepestDescent",
                run(_run_pymanopt, "descent"),
                grid(("qr", "qr float64")),
            ),
            search(
                "pymanopt ConjugateGradient",
                run(_run_pymanopt, "conjugate"),
                grid(rules),
            ),
        ],
        "torch": [
            Method(
                "torch orthogonal, SGD",
                run(_run_torch, _parametrized, "SGD"),
                grid(maps, **sgd),
            ),
            Method(
                "torch orthogonal, Adam",
                run(_run_torch, _parametrized, "Adam"),
                grid(maps, **adam),
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


def _run_torch(
    start: Callable,
    kind: str,
    problem: Problem,
    setting: Setting,
    steps: int,
    watch: Judge | None = None,
) -> np.ndarray:
    """Take steps of a torch optimiser that `start` makes of the problem."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    options = {"lr": setting.rate}
    if kind == "SGD":
        options |= {"momentum": setting.momentum, "nesterov": setting.nesterov}
    optimizer, before, read = start(problem, setting.variant, kind, options)
    for step in range(steps):
        if setting.horizon:
            done = min(step / setting.horizon, 1.0)
            rate = setting.rate * 0.5 * (1 + math.cos(math.pi * done))
            optimizer.param_groups[0]["lr"] = rate
        before()
        optimizer.step()
        if watch is not None and watch(read()):
            break
    return read()


def _geoopt(problem: Problem, variant: str, kind: str, options: dict):
    """Return an optimiser, what goes before a step, and what reads the point."""
    import geoopt  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    manifold = geoopt.Stiefel(canonical=variant == "canonical")
    point = geoopt.ManifoldParameter(
        torch.from_numpy(problem.start.copy()), manifold=manifold
    )
    # The gradient is the same at every point; the optimisers leave it as it is.
    point.grad = -torch.from_numpy(problem.cross)
    optimizer = getattr(geoopt.optim, f"Riemannian{kind}")([point], **options)
    return optimizer, lambda: None, lambda: point.detach().numpy()


def _parametrized(problem: Problem, variant: str, kind: str, options: dict):
    """Return the same of a weight that torch keeps orthogonal."""
    import torch  # pyright: ignore[reportMissingImports]

    d = problem.start.shape[0]
    layer = torch.nn.Linear(d, d, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(problem.start))
    torch.nn.utils.parametrizations.orthogonal(layer, orthogonal_map=variant)
    gradient = -torch.from_numpy(problem.cross)
    (weight,) = layer.parameters()

    def before() -> None:
        weight.grad = None
        layer.weight.backward(gradient)

    def read() -> np.ndarray:
        with torch.no_grad():
            return layer.weight.numpy()

    return getattr(torch.optim, kind)([weight], **options), before, read


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
    limits = dict(
        max_time=np.inf, min_gradient_norm=0.0, min_step_size=0.0, verbosity=0
    )
    descent = kind == "descent"
    names = ("AdaptiveLineSearcher", "BackTrackingLineSearcher")
    search = getattr(line_search, names[descent])()
    if watch is not None:
        search = _WatchedSearch(search, watch)
    if descent:
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
