# SPDX-License-Identifier: Apache-2.0
"""Values as JSON can hold them: what a program reads, or a map's card keeps."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_values(value: Any) -> Any:
    """Convert to JSON values; numbers that are not finite become None.

    >>> json_values({"top1": float("inf"), "files": [Path("map.safetensors")]})
    {'top1': None, 'files': ['map.safetensors']}
    """
    if isinstance(value, Mapping):
        return {str(key): json_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a number of NumPy's
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
