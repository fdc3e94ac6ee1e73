# SPDX-License-Identifier: Apache-2.0
"""Starting JAX's devices, with one error where the platform asked for cannot be had.

JAX starts them at the first use, wherever that is, and where `JAX_PLATFORMS` asks for
CUDA on a machine without a GPU, it ends there in an `AssertionError` without a word.
"""

import importlib.metadata

import jax

from jaxalign.errors import ArgumentError


def start_backend() -> None:
    """Start JAX's devices, unless they are there.

    To be called after `join_processes`: from then on, devices are fixed.

    Raises:
      ValueError: if the platforms that are asked for cannot be started.
    """
    try:
        jax.local_devices()
    except (AssertionError, RuntimeError) as error:
        asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        if not asked:  # a plugin fails on its own, and says why
            raise ArgumentError("JAX", "a device", str(error)) from error
        reason = str(error).split(" (set JAX_PLATFORMS", 1)[0]
        version = importlib.metadata.version("jaxlib")
        raise ArgumentError(
            f"JAX_PLATFORMS={asked!r}",
            f"a platform of jaxlib {version}: {', '.join(_platforms())}",
            reason or "one without a device on this machine",
            "unset JAX_PLATFORMS to take what there is, or install JAX for that "
            "device, such as `pip install 'jax[cuda13]'` for NVIDIA GPUs",
        ) from error


def _platforms() -> list[str]:
    """Name what is installed for JAX to compute on."""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return ["cpu", *sorted(plugin.name for plugin in plugins)]
