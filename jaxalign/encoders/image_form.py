# SPDX-License-Identifier: Apache-2.0
"""The normal form of an image processor: the settings that change pixels, in effect."""

from collections.abc import Mapping
from typing import Any

_SWITCHED = {
    "do_resize": ("size", "resample"),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
    "do_pad": ("pad_size",),
    "do_convert_rgb": (),
}
_BILINEAR = 2  # of Pillow: what `transformers` resizes by if no filter is named


def image_form(processor: Any) -> dict[str, Any]:
    """Return the normal form of an image processor of `transformers`.

    A setting that is left out counts as its default, and those of a step that is
    switched off do not count.

    Args:
      processor: as `AutoImageProcessor` loads it.

    Returns:
      JSON values whose keys have no order.
    """
    form = {}
    for switch, settings in _SWITCHED.items():
        if getattr(processor, switch, None):
            form[switch] = {
                name: _plain(name, getattr(processor, name, None)) for name in settings
            }
    return form


def _plain(name: str, value: Any) -> Any:
    """Reduce a setting to numbers: enums, size objects, one number for all channels."""
    if name == "resample":
        return _BILINEAR if value is None else int(getattr(value, "value", value))
    if name in ("image_mean", "image_std"):
        channels = value if isinstance(value, list | tuple) else [value] * 3
        return [float(channel) for channel in channels]
    if name == "rescale_factor":
        return float(value)
    if value is None:
        return None
    sides = value if isinstance(value, Mapping) else dict(value)
    return {side: int(length) for side, length in sides.items() if length is not None}
