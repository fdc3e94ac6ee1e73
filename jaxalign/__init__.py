# SPDX-License-Identifier: Apache-2.0
"""jaxalign: one orthogonal map from one image-text model's space to another's.

Public names are loaded on first use, so that a numerical programmer who imports a
solver loads neither transformers nor an image library.
"""

import importlib
from typing import TYPE_CHECKING

from jaxalign._version import __version__ as __version__

if TYPE_CHECKING:
    pass

_HOMES: dict[str, str] = {}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxalign' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
