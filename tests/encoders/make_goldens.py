# SPDX-License-Identifier: Apache-2.0
"""Write the golden checkpoints and rows that each family's test reads.

Run by hand, in an environment with torch (the extra `parity`); no test imports it:

    python tests/encoders/make_goldens.py [variant ...]

Each variant is a folder of random weights with `io.safetensors`: inputs, and the unit
rows that `transformers` gives for them.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

GOLDENS = Path(__file__).parent / "goldens"
ROWS, LENGTH, VOCABULARY = 4, 9, 64

TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=LENGTH,
    bos_token_id=3,
    eos_token_id=1,
    pad_token_id=0,
)
VISION = dict(
    hidden_size=20,
    intermediate_size=28,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=12,
    patch_size=4,
)


def clip(text: dict, vision: dict) -> transformers.CLIPModel:
    """Make a CLIP whose towers differ in width."""
    config = transformers.CLIPConfig(
        text_config={**TEXT, **text},
        vision_config={**VISION, **vision},
        projection_dim=18,
    )
    return transformers.CLIPModel(config)


def siglip(text: dict, vision: dict) -> transformers.SiglipModel:
    """Make a SigLIP."""
    config = transformers.SiglipConfig(
        text_config={**TEXT, **text}, vision_config={**VISION, **vision}
    )
    return transformers.SiglipModel(config)


PART = dict(
    hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1
)


def flava(text: dict, vision: dict, architecture: str) -> transformers.PreTrainedModel:
    """Make a FLAVA whose towers differ in width, what we leave unread being small."""
    text = {k: v for k, v in TEXT.items() if k[:3] not in ("bos", "eos")} | text
    config = transformers.FlavaConfig(
        text_config=text,
        image_config={**VISION, "vocab_size": 4, **vision},
        multimodal_config=PART,
        image_codebook_config=dict(
            num_blocks_per_group=1, hidden_size=4, vocab_size=4, freeze=False
        ),
        hidden_size=4,
        projection_dim=18,
    )
    return getattr(transformers, architecture)(config)


# A variant's place is its seed: new ones go last.
VARIANTS = {
    # Pools at the largest id; two pixels on either axis lie beyond the last patch.
    "clip-gelu-legacy-eos": lambda: clip(
        dict(eos_token_id=2, hidden_act="gelu"),
        dict(hidden_act="gelu", image_size=14),
    ),
    "clip-quick-gelu": lambda: clip({}, {}),
    "siglip": lambda: siglip(dict(hidden_size=20), {}),
    "siglip-projected": lambda: siglip(
        dict(projection_size=20), dict(image_size=15, patch_size=6)
    ),
    "flava": lambda: flava({}, {}, "FlavaModel"),
    # As released checkpoints are: a prefix, a codebook and the heads of other losses.
    "flava-for-pretraining": lambda: flava(
        dict(qkv_bias=False, layer_norm_eps=1e-5),
        dict(hidden_act="quick_gelu", image_size=14, mask_token=False),
        "FlavaForPreTraining",
    ),
}


def draw_ids(generator: torch.Generator) -> torch.Tensor:
    """Draw texts of several lengths; the last has no end and one has two."""
    ids = torch.randint(4, VOCABULARY - 1, (ROWS, LENGTH), generator=generator)
    for row, end in enumerate((2, 5, LENGTH - 1)):
        # The largest id just before the end tells the two pooling rules apart.
        ids[row, end - 1] = VOCABULARY - 1
        ids[row, end] = 1
        ids[row, end + 1 :] = 0
    ids[1, 2] = 1
    return ids


@torch.no_grad()
def write(name: str) -> None:
    """Write one variant."""
    seed = list(VARIANTS).index(name)
    torch.manual_seed(seed)  # of the weights that the model starts from
    generator = torch.Generator().manual_seed(seed)
    model = VARIANTS[name]().eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(0.15 * noise)
    is_flava = model.config.model_type == "flava"
    vision = model.config.image_config if is_flava else model.config.vision_config
    size = vision.image_size
    pixels = torch.randn(ROWS, 3, size, size, generator=generator)
    ids = draw_ids(generator)
    mask = torch.rand(ids.shape, generator=generator) < 0.7
    mask[:, 0] = True

    def unit_rows(output) -> np.ndarray:
        rows = output.pooler_output.double()
        # FLAVA projects every token, and compares the first.
        rows = rows[:, 0] if is_flava else rows
        return (rows / rows.norm(dim=-1, keepdim=True)).float().numpy()

    folder = GOLDENS / name
    model.save_pretrained(folder)
    model = getattr(model, "flava", model)
    save_file(
        {
            "pixels": pixels.permute(0, 2, 3, 1).contiguous().numpy(),
            "ids": ids.to(torch.int32).numpy(),
            "mask": mask.numpy(),
            "image_rows": unit_rows(model.get_image_features(pixel_values=pixels)),
            "text_rows": unit_rows(model.get_text_features(input_ids=ids)),
            "masked_text_rows": unit_rows(
                model.get_text_features(input_ids=ids, attention_mask=mask.long())
            ),
        },
        folder / "io.safetensors",
    )


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    for variant in sys.argv[1:] or VARIANTS:
        write(variant)
