# SPDX-License-Identifier: Apache-2.0
"""Settings of every test: 8 virtual CPU devices, no silent rank promotion, keys."""

import os
from pathlib import Path

import jax
import pytest

# No test needs a network; one that asked for it would hang or depend on the day.
os.environ["HF_HUB_OFFLINE"] = "1"

# Before any backend starts: sharding is tested on 8 virtual devices everywhere.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


# They hold no doctests, and two of one name cannot both be imported to look for some.
collect_ignore_glob = ["*/conftest.py"]


@pytest.fixture(scope="module", autouse=True)
def _room_for_programs():
    """Forget compiled programs before the process runs out of memory maps.

    Each program takes some; Linux gives a process 65,530, and XLA crashes beyond.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Enable float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def no_shape_hook():
    """Turn the jaxtyping hook off, so that our own errors are the ones that show."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
