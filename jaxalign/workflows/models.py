# SPDX-License-Identifier: Apache-2.0
"""Models by the names that commands take."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.pretrained import Dtype, load_encoders
from jaxalign.errors import ArgumentError


def check_models(names: Sequence[str]) -> None:
    """Raise if one model is named twice, before it is loaded.

    Raises:
      ValueError: naming `--models`.
    """
    meant = [name.strip() for name in names]
    paths = [Path(os.path.expanduser(name)) for name in meant]
    if len({path.resolve() if path.is_dir() else path for path in paths}) < len(meant):
        raise ArgumentError(
            "--models", "two models", f"{meant[0]!r} twice", "name the other one"
        )


def load_model(name: str, dtype: Dtype = "float32") -> Encoders:
    """Load a model that a flag names: as `load_encoders` does, or owner/name@revision.

    Raises:
      ValueError: see `load_encoders`.
    """
    revision = None
    if "@" in name and not Path(os.path.expanduser(name)).exists():
        name, revision = name.rsplit("@", 1)
    return load_encoders(name, revision=revision, dtype=dtype)
