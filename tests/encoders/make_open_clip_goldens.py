# SPDX-License-Identifier: Apache-2.0
"""Write the golden OpenCLIP checkpoints, rows and pixels of the `test_open_clip*.py`.

Run by hand, in an environment with torch and OpenCLIP (BUILD.md); no test imports it:

    python tests/encoders/make_open_clip_goldens.py

Each variant is a folder as on the hub, of random weights, with `io.safetensors`:
inputs, and the unit rows that OpenCLIP gives for them. `openclip-pixels` holds awkward
pictures, and what OpenCLIP's transforms make of them.
"""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_model

GOLDENS = Path(__file__).parent / "goldens"
ROWS, LENGTH, VOCABULARY = 4, 9, 64
END = VOCABULARY - 1

VISION = {
    "image_size": 12,
    "patch_size": 4,
    "width": 20,
    "layers": 2,
    "head_width": 10,
    "mlp_ratio": 1.5,
}
TEXT = {
    "context_length": LENGTH,
    "vocab_size": VOCABULARY,
    "width": 16,
    "heads": 4,
    "layers": 1,
}
# A hub config as OpenCLIP's own `push_to_hf_hub` writes it.
PREPROCESS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}

VARIANTS = {
    "openclip-gelu": {"vision_cfg": VISION, "text_cfg": TEXT},
    # Two pixels on either axis lie beyond the last patch; 20 * 1.47 is no whole number;
    # the other settings change no row.
    "openclip-quick-gelu": {
        "quick_gelu": True,
        "nonscalar_logit_scale": True,
        "init_logit_bias": -10,
        "vision_cfg": {
            **VISION,
            "image_size": 14,
            "mlp_ratio": 1.47,
            "patch_dropout": 0.5,
            "ls_init_value": None,
        },
        "text_cfg": {**TEXT, "mlp_ratio": 2.0},
    },
    # The text tower has names of its own, and its projection a bias.
    "openclip-custom-text": {
        "custom_text": True,
        "vision_cfg": VISION,
        "text_cfg": {**TEXT, "proj_bias": True, "layers": 2},
    },
}

PIXELS = {
    "shortest": PREPROCESS,
    "squash": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    },
}
SIZES = {"61x37": (37, 61), "37x61": (61, 37), "1x50": (50, 1), "12x12": (12, 12)}


def draw_ids(generator: torch.Generator) -> torch.Tensor:
    """Draw texts of several lengths, padded with 0; one has two ends, one has none."""
    ids = torch.randint(1, END, (ROWS, LENGTH), generator=generator)
    for row, end in enumerate((2, 5, LENGTH - 1)):
        ids[row, end] = END
        ids[row, end + 1 :] = 0
    ids[1, 3] = END
    return ids


@torch.no_grad()
def write(name: str) -> None:
    """Write one variant."""
    # OpenCLIP draws its first weights from the global generator.
    generator = torch.manual_seed(sorted(VARIANTS).index(name))
    folder = GOLDENS / name
    folder.mkdir(parents=True, exist_ok=True)
    model_cfg = {"embed_dim": 18, **VARIANTS[name]}
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS}
    weights = folder / "open_clip_model.safetensors"
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    # From the folder, as a user's: once for its shapes, once with its weights.
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    for parameter in made.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(0.15 * noise)
    save_model(made, str(weights))
    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    model.eval()
    size = model_cfg["vision_cfg"]["image_size"]
    pixels = torch.randn(ROWS, 3, size, size, generator=generator)
    ids = draw_ids(generator)

    def unit_rows(rows: torch.Tensor) -> np.ndarray:
        rows = rows.double()
        return (rows / rows.norm(dim=-1, keepdim=True)).float().numpy()

    save_file(
        {
            "pixels": pixels.permute(0, 2, 3, 1).contiguous().numpy(),
            "ids": ids.to(torch.int32).numpy(),
            "image_rows": unit_rows(model.encode_image(pixels)),
            "text_rows": unit_rows(model.encode_text(ids)),
        },
        folder / "io.safetensors",
    )


def draw_pictures() -> dict[str, Image.Image]:
    """Draw pictures of awkward sizes and modes; their names end in the mode."""
    rng = np.random.default_rng(0)
    pictures = {
        f"{name} RGB": Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        for name, size in SIZES.items()
    }
    # Three pixels too high: the centre falls between two offsets.
    pictures["12x15 RGB"] = Image.fromarray(rng.integers(0, 256, (15, 12, 3), np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (17, 23, 4), np.uint8))
    for mode in ("L", "LA", "RGBA", "CMYK"):
        opaque = alpha.convert("RGB")
        source = opaque if mode in ("L", "CMYK") else alpha
        pictures[f"23x17 {mode}"] = source.convert(mode)
    palette = Image.fromarray(rng.integers(0, 256, (17, 23), np.uint8))
    palette.putpalette(rng.integers(0, 256, 768, np.uint8).tolist())
    pictures["23x17 P"] = palette
    return pictures


def write_pixels() -> None:
    """Write pictures, and what OpenCLIP's transforms make of them."""
    pictures = draw_pictures()
    stored = {f"picture {name}": np.array(p) for name, p in pictures.items()}
    stored["palette"] = np.array(pictures["23x17 P"].getpalette(), np.uint8)
    for way, settings in PIXELS.items():
        transform = image_transform_v2(PreprocessCfg(size=12, **settings), False)
        for name, picture in pictures.items():
            pixels = transform(picture).permute(1, 2, 0).contiguous()
            stored[f"{way} {name}"] = pixels.numpy()
    folder = GOLDENS / "openclip-pixels"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocess_cfg.json").write_text(json.dumps(PIXELS, indent=2) + "\n")
    save_file(stored, folder / "io.safetensors")


if __name__ == "__main__":
    for variant in VARIANTS:
        write(variant)
    write_pixels()
