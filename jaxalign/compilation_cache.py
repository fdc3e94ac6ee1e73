# SPDX-License-Identifier: Apache-2.0
"""Compiled programs that are kept between runs: a command starts in half the time."""

import os
from pathlib import Path


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, beside prepared data sets.

    What the user's `JAX_COMPILATION_CACHE_DIR` says stays. Without a cache folder
    programs are compiled every time.
    """
    import jax

    # Made at run time.
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(cache) if cache else Path.home() / ".cache"
        folder = home / "jaxalign" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):  # no HOME, or no room
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
