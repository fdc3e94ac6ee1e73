# SPDX-License-Identifier: Apache-2.0
"""OpenCLIP's preprocessing of pictures, bit for bit, without torch.

Not through `transformers`: its CLIP processor turns pictures into RGB before it resizes
(other pixels for transparent, palette and CMYK pictures) and rounds the offset of the
centre crop down (one pixel off where 3, 7, 11... pixels are cut).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from jaxalign.encoders.damage import damaged
from jaxalign.encoders.preprocessing import as_pictures, explain_unreadable
from jaxalign.errors import check_option

# OpenCLIP's own defaults; "random" interpolation is one of training, bicubic otherwise.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "random": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


class OpenClipImagePreprocessor:
    """Turns pictures into the pixels that OpenCLIP's image tower takes.

    Attributes:
      shape: (height, width, 3) of what it makes of any picture.
    """

    def __init__(self, settings: Mapping[str, Any], *, image_size: int, where: str):
        self.shape = (image_size, image_size, 3)
        mode = settings.get("resize_mode") or "shortest"
        interpolation = settings.get("interpolation") or "bicubic"
        for name, value, known in (
            ("mode", settings.get("mode") or "RGB", ("RGB",)),
            ("resize_mode", mode, ("shortest", "squash")),
            ("interpolation", interpolation, tuple(_FILTERS)),
        ):
            remedy = f"preprocess as {where} asks, and pass pixels to `encode_image`"
            check_option("preprocess_cfg", name, value, known, remedy=remedy)
        self._squashes = mode == "squash"
        self._filter = _FILTERS[interpolation]
        self._mean = _channels(settings.get("mean") or _MEAN, "mean", where)
        self._std = _channels(settings.get("std") or _STD, "std", where)

    def __call__(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Resize, crop and normalise pictures.

        Args:
          images: uint8 arrays (height, width, 3), or Pillow images of any mode.

        Returns:
          (n, h, w, 3), float32.

        Raises:
          ValueError: if a picture cannot be read; see `as_pictures` also.
        """
        fitted = []
        for picture in as_pictures(images):
            with explain_unreadable(picture):
                fitted.append(np.asarray(self._fit(picture)))
        pixels = np.asarray(fitted, np.uint8).reshape(-1, *self.shape)
        # In float32 throughout, as OpenCLIP computes it.
        return (pixels.astype(np.float32) / np.float32(255) - self._mean) / self._std

    def _fit(self, picture: Image.Image) -> Image.Image:
        """Return the picture at the model's size, in RGB only then."""
        size = self.shape[0]
        if self._squashes:
            wide, high = size, size
        else:
            shortest = min(picture.size)
            wide, high = (size * side // shortest for side in picture.size)
        picture = picture.resize((wide, high), self._filter)
        # Halves go to the even offset.
        left, top = round((wide - size) / 2), round((high - size) / 2)
        return picture.crop((left, top, left + size, top + size)).convert("RGB")

    def older_canonical(self) -> str:
        """Return what stood in its place in earlier fingerprints: the same."""
        return self.canonical()

    def canonical(self) -> str:
        """Return the settings that change pixels, as JSON with sorted keys."""
        settings = {
            "open_clip": {
                "interpolation": self._filter.name.lower(),
                "mean": self._mean.tolist(),
                "resize_mode": "squash" if self._squashes else "shortest",
                "size": self.shape[0],
                "std": self._std.tolist(),
            }
        }
        return json.dumps(settings, sort_keys=True)


def _channels(value: Any, name: str, where: str) -> Float[np.ndarray, "3"]:
    """Return a setting of the three channels; one number stands for all."""
    try:
        channels = np.broadcast_to(np.asarray(value, np.float32), (3,))
    except (TypeError, ValueError):
        channels = np.full(3, np.nan, np.float32)
    if not np.isfinite(channels).all() or (name == "std" and not (channels > 0).all()):
        kind = "positive numbers" if name == "std" else "numbers"
        raise damaged(where, f"preprocess_cfg.{name} to be three {kind}", repr(value))
    return channels
