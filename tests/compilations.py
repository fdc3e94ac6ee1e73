# SPDX-License-Identifier: Apache-2.0
"""Counts the programs that XLA compiles, or takes from the cache, while a test runs."""

import contextlib
from collections.abc import Iterator

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_compiled: list[float] = []


def _listen(event: str, duration: float, **_: object) -> None:
    if event == _EVENT:
        _compiled.append(duration)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """Give a list that holds one entry a program once the context has ended."""
    before, found = len(_compiled), []
    yield found
    found.extend(_compiled[before:])
