# SPDX-License-Identifier: Apache-2.0
"""Settings of every test: 8 virtual CPU devices, no silent promotion, one cache.

Nearly all of a test's time is compilation, so programs are compiled with few
optimisations, and once for all workers of a run: the cache folder is the run's own.
"""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import jaxlib.version
import pytest

_CACHE = "JAX_COMPILATION_CACHE_DIR"

# No test needs a network; one that asked for it would hang or depend on the day.
os.environ["HF_HUB_OFFLINE"] = "1"

# Without fusion emitters programs compile in half the time. XLA ends the process for a
# flag that it does not know, and 0.12 no longer knows this one.
if jaxlib.version.__version_info__[:2] == (0, 10):
    os.environ["XLA_FLAGS"] = " ".join(
        [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"]
    ).strip()

# Before any backend starts: sharding is tested on 8 virtual devices everywhere.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)


# They hold no doctests, and two of one name cannot both be imported to look for some.
collect_ignore_glob = ["*/conftest.py"]


def pytest_configure(config):
    """Make the run's cache folder; workers and child processes inherit it."""
    if not hasattr(config, "workerinput"):
        config.stash[_FOLDER] = tempfile.mkdtemp(prefix="jaxalign-tests-")
        os.environ[_CACHE] = config.stash[_FOLDER]
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # Traced programs live as long as the run: looking through them is in vain.
    gc.set_threshold(100_000, 50, 50)
    jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


_FOLDER = pytest.StashKey[str]()


def pytest_unconfigure(config):
    """Remove the run's cache folder."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


def _promotion_of(node):
    """Standard promotion of dtypes if a node asks for it."""
    standard = node.get_closest_marker("standard_promotion") is not None
    return jax.numpy_dtype_promotion("standard" if standard else "strict")


@pytest.fixture(scope="module", autouse=True)
def _promotion_of_module(request):
    """Let a module that calls optax or flax promote dtypes as they do."""
    with _promotion_of(request.node):
        yield


@pytest.fixture(autouse=True)
def _promotion_and_optimizations(request):
    """The same for one test; one that reads compiled text compiles as users do."""
    with _promotion_of(request.node):
        if request.node.get_closest_marker("compiled_text") is None:
            yield
        else:
            jax.config.update("jax_disable_most_optimizations", False)
            yield
            jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def _room_for_programs():
    """Forget compiled programs before the process runs out of memory maps.

    Each program takes some; Linux gives a process 65,530, and XLA crashes beyond.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
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
