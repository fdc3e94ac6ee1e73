# SPDX-License-Identifier: Apache-2.0
"""Where JAX has no device to start, one error says what was asked and what is there."""

import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from jaxalign import backend


def without_devices(platforms, error=None):
    """A stand-in for JAX on a machine that has none of `platforms`."""

    def fail():
        # What JAX raises where it is to use CUDA and there is no GPU.
        raise error or AssertionError

    config = types.SimpleNamespace(jax_platforms=platforms)
    return types.SimpleNamespace(local_devices=fail, config=config, lib=jax.lib)


@pytest.mark.parametrize(
    ("platforms", "error", "words"),
    [
        ("cuda", None, ["JAX_PLATFORMS='cuda'", jax.lib.__version__]),
        (
            "tpu",
            RuntimeError("no libtpu.so (set JAX_PLATFORMS='')"),
            ["got no libtpu.so;"],
        ),
        (None, RuntimeError("a plugin broke"), ["a plugin broke"]),
    ],
    ids=["cuda", "tpu", "no-choice"],
)
def test_a_platform_that_is_missing_is_one_error(monkeypatch, platforms, error, words):
    backend.start_backend()  # with devices there is nothing to say
    monkeypatch.setattr(backend, "jax", without_devices(platforms, error))
    with pytest.raises(ValueError, match="JAX") as caught:
        backend.start_backend()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU can be started")
def test_entries_of_the_library_say_it():
    code = "import jaxalign as ja; ja.{}"
    for entry in ("sharding.data_mesh()", "load_encoders('jaxalign/openmoji-clip')"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(entry)],
            env={**os.environ, "JAX_PLATFORMS": "cuda"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.splitlines()[-1].startswith(
            "jaxalign.errors.ArgumentError: `JAX_PLATFORMS"
        )
