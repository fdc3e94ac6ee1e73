# SPDX-License-Identifier: Apache-2.0
"""Models by the names that commands take."""

import os
from pathlib import Path

from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.pretrained import Dtype, load_encoders


def load_model(name: str, dtype: Dtype = "float32") -> Encoders:
    """Load a model that a flag names: as `load_encoders` does, or owner/name@revision.

    Raises:
      ValueError: see `load_encoders`.
    """
    revision = None
    if "@" in name and not Path(os.path.expanduser(name)).exists():
        name, revision = name.rsplit("@", 1)
    return load_encoders(name, revision=revision, dtype=dtype)
