# SPDX-License-Identifier: Apache-2.0
"""Pictures, texts and image settings that preprocessing is likely to get wrong."""

import io
import json

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from jaxalign.encoders.preprocessing import IMAGE_FILE

TEXTS = [
    "",
    " ",
    "  \t\n ",
    "an emoji of red apple",
    "An EMOJI of Red  Apple!",
    "a very long text about apples and clocks " * 100,
    "apple fish " * 5000,
    "x" * 3000,
    "😀 🏳️‍🌈 👩🏽‍🚀 👨‍👩‍👧‍👦",
    "שלום עולם مرحبا بالعالم \u202eabc\u202c",
    "中文 ｆｕｌｌ ﬁ Å e\u0301 \u200b",
    "Z\u0351\u036ba\u0300\u0301\u0302lgo, İSTANBUL, ẞ, ǅ",
    "tab\tand\nnew line\r\n \x00\x07\x1b[0m \x7f\ufeff\ufffd",
    "<eos> <pad> </s> <|endoftext|> a",
    "<bos><s><unk><mask><|startoftext|><0x41>▁a",
    "a red apple<eos>",
    "'s don't 1234567890 ... !!! $5.00 #tag @user https://localhost/?q=1&r=2",
]


def noise(width, height, *, seed=0, bands=3):
    """Draw a picture, an RGB one unless told otherwise."""
    shape = (height, width, bands)[: 2 if bands == 1 else 3]
    drawn = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(drawn)


def _reopened(picture, kind, **options):
    """Write a picture to a file in memory, and open it as users do."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return Image.open(file)


def rotated():
    """Return a JPEG of a turned camera: its EXIF orientation makes it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _reopened(noise(40, 20), "JPEG", exif=exif.tobytes())


def pictures():
    """Return pictures of every mode, file kind and shape, by name."""
    colour, alpha = noise(61, 37), noise(61, 37, bands=4)
    palette = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    depth = np.linspace(0, 65535, 61 * 37).astype(np.uint16).reshape(37, 61)
    return {
        "colour": colour,
        "grayscale": colour.convert("L"),
        "grayscale-alpha": alpha.convert("LA"),
        "grayscale-transparent": _reopened(
            colour.convert("L"),
            "PNG",
            transparency=colour.convert("L").getpixel((0, 0)),
        ),
        "colour-transparent": _reopened(
            colour, "PNG", transparency=colour.getpixel((0, 0))
        ),
        "palette": palette,
        "palette-one-transparent": _reopened(palette, "PNG", transparency=3),
        "palette-many-transparent": _reopened(
            palette, "PNG", transparency=bytes(range(256))
        ),
        "gif": _reopened(palette, "GIF", transparency=3),
        "transparent": alpha,
        "one-bit": colour.convert("1"),
        "print": colour.convert("CMYK"),
        "print-jpeg": _reopened(colour.convert("CMYK"), "JPEG"),
        "16-bit": _reopened(Image.fromarray(depth), "PNG"),
        "32-bit": Image.fromarray(depth.astype(np.int32)),
        "float": Image.fromarray(depth.astype(np.float32) / 256),
        "turned-camera": rotated(),
        "wide": colour.resize((600, 1)),
        "tall": colour.resize((1, 600)),
        "one-pixel": colour.resize((1, 1)),
        "three-rows": noise(30, 3),
        "large": colour.resize((300, 200)),
    }


@st.composite
def image_settings(draw, kind):
    """Draw what `preprocessor_config.json` may say for one kind of processor."""
    side = st.integers(1, 24)

    def three(low, high):
        number = st.floats(low, high, allow_nan=False, width=32)
        return draw(st.lists(number, min_size=3, max_size=3))

    sides = st.fixed_dictionaries({"height": side, "width": side})
    return {
        "image_processor_type": kind,
        "do_resize": draw(st.sampled_from([True, True, True, False])),
        "size": draw(
            side | sides | st.fixed_dictionaries({"shortest_edge": side}),
        ),
        "resample": draw(st.integers(0, 5)),
        "do_center_crop": draw(st.booleans()),
        "crop_size": draw(side | sides),
        "do_rescale": draw(st.booleans()),
        "rescale_factor": draw(st.sampled_from([1 / 255, 1 / 127.5, 1.0])),
        "do_normalize": draw(st.booleans()),
        "image_mean": three(0.0, 1.0),
        "image_std": three(0.125, 2.0),
        "do_convert_rgb": draw(st.sampled_from([True, False, None])),
    }


@st.composite
def drawn_pictures(draw):
    """Draw a picture of any size up to 40 and of a common mode."""
    picture = noise(
        draw(st.integers(1, 40)), draw(st.integers(1, 40)), seed=draw(st.integers(0, 9))
    )
    mode = draw(st.sampled_from(["RGB", "RGB", "L", "LA", "RGBA", "P", "CMYK", "1"]))
    return picture.convert(mode)


def write_settings(folder, settings):
    """Write a folder that holds image settings and nothing else."""
    (folder / IMAGE_FILE).write_text(json.dumps(settings))
    return folder


def by_hand(picture, settings):
    """Preprocess a picture by Pillow and NumPy alone; float64, (h, w, 3)."""
    if "A" in picture.getbands() or "transparency" in picture.info:
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture.convert("RGBA"))
    picture = picture.convert("RGB")
    if settings["do_resize"]:
        size, resample = settings["size"], settings["resample"]
        if isinstance(size, int):
            size = {"shortest_edge": size}
        if "shortest_edge" in size:
            edge, short = size["shortest_edge"], min(picture.size)
            width, height = (
                edge if side == short else int(edge * side / short)
                for side in picture.size
            )
        else:
            width, height = size["width"], size["height"]
        picture = picture.resize((width, height), resample)
    values = np.asarray(picture)
    if settings["do_center_crop"]:
        crop = settings["crop_size"]
        if isinstance(crop, int):
            crop = {"height": crop, "width": crop}
        values = _crop(_crop(values, 0, crop["height"]), 1, crop["width"])
    values = values.astype(np.float64)
    if settings["do_rescale"]:
        values = values * settings["rescale_factor"]
    if settings["do_normalize"]:
        values = (values - settings["image_mean"]) / settings["image_std"]
    return values


def _crop(values, axis, length):
    """Cut the middle of an axis, or put black on both of its sides."""
    beyond = values.shape[axis] - length
    if beyond >= 0:
        return np.take(values, range(beyond // 2, beyond // 2 + length), axis)
    # The odd row goes before the picture.
    pads = [(0, 0)] * 3
    pads[axis] = (-(beyond // 2), -beyond + beyond // 2)
    return np.pad(values, pads)
