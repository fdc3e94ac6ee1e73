# SPDX-License-Identifier: Apache-2.0
"""Rule tables: which tensor of a checkpoint is which parameter, and how it is laid out.

A rule pairs the name of a tensor in a Hugging Face checkpoint with the path of a
parameter in our tree and a layout. Tables are functions of the config, since the
number of blocks is; `checkpoint.py` checks them against the shapes of both sides.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from transformers import CLIPConfig, FlavaConfig, SiglipConfig

from jaxalign.encoders.configs import StackConfig, text_config, vision_config


@dataclasses.dataclass(frozen=True)
class Layout:
    """Conversion of one tensor between both sides.

    Attributes:
      read: from the checkpoint's array to ours.
      write: from ours to the checkpoint's.
    """

    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


def _write_patches(kernel: np.ndarray) -> np.ndarray:
    patch = math.isqrt(kernel.shape[0] // 3)
    return kernel.reshape(patch, patch, 3, -1).transpose(3, 2, 0, 1)


SAME = Layout(lambda a: a, lambda a: a)
# Linear layers of torch hold (out, in).
TRANSPOSED = Layout(lambda a: a.T, lambda a: a.T)
# A convolution (width, 3, patch, patch) as a matrix (patch * patch * 3, width).
PATCHES = Layout(
    lambda a: a.transpose(2, 3, 1, 0).reshape(-1, a.shape[0]), _write_patches
)
# A vector that the checkpoint holds with leading axes of length one.
ROW = Layout(lambda a: a.reshape(-1), lambda a: a.reshape(1, 1, -1))
# A table that the checkpoint holds with one leading axis of length one.
ROWS = Layout(lambda a: a.reshape(a.shape[-2:]), lambda a: a[None])
SCALAR = Layout(lambda a: a.reshape(()), lambda a: a.reshape(1))


@dataclasses.dataclass(frozen=True)
class Rule:
    """One tensor on both sides.

    Attributes:
      tensor: its name in the checkpoint.
      parameter: its path in our tree, joined by dots.
      layout: how to carry it over.
      part: which of `parts` this rule reads, where one tensor feeds several parameters.
      parts: into how many equal parts the tensor's first axis falls.
    """

    tensor: str
    parameter: str
    layout: Layout
    part: int = 0
    parts: int = 1

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the whole tensor for a parameter's shape."""
        stored = self.layout.write(np.empty(shape, np.int8)).shape
        if self.parts == 1:
            return stored
        return (self.parts * stored[0], *stored[1:])

    def read(self, tensor: np.ndarray) -> np.ndarray:
        """Return the parameter from the whole tensor."""
        if self.parts > 1:
            tensor = np.split(tensor, self.parts)[self.part]
        return self.layout.read(tensor)


def _dense(tensor: str, parameter: str, *, bias: bool = True) -> Iterator[Rule]:
    yield Rule(f"{tensor}.weight", f"{parameter}.kernel", TRANSPOSED)
    if bias:
        yield Rule(f"{tensor}.bias", f"{parameter}.bias", SAME)


def _norm(tensor: str, parameter: str) -> Iterator[Rule]:
    yield Rule(f"{tensor}.weight", f"{parameter}.scale", SAME)
    yield Rule(f"{tensor}.bias", f"{parameter}.bias", SAME)


@dataclasses.dataclass(frozen=True)
class _BlockNames:
    """Names of the parts of a transformer block in a checkpoint.

    Attributes:
      blocks: where blocks are, below the tower.
      dense: linear layers: theirs to ours.
      norms: layer norms: theirs to ours.
    """

    blocks: str
    dense: dict[str, str]
    norms: dict[str, str]

    def rules(
        self, tower: str, parameter: str, depth: int, *, qkv_bias: bool = True
    ) -> Iterator[Rule]:
        """Yield the rules of a tower's blocks."""
        for i in range(depth):
            block = f"{tower}{self.blocks}.{i}"
            ours = f"{parameter}.stack.blocks.{i}"
            for theirs, name in self.dense.items():
                bias = qkv_bias or not name.endswith((".query", ".key", ".value"))
                yield from _dense(f"{block}.{theirs}", f"{ours}.{name}", bias=bias)
            for theirs, name in self.norms.items():
                yield from _norm(f"{block}.{theirs}", f"{ours}.{name}")


_CLIP_BLOCKS = _BlockNames(
    ".encoder.layers",
    dense={
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.out_proj": "attention.out",
        "mlp.fc1": "mlp.expand",
        "mlp.fc2": "mlp.contract",
    },
    norms={"layer_norm1": "norm_attention", "layer_norm2": "norm_mlp"},
)
_FLAVA_BLOCKS = _BlockNames(
    ".encoder.layer",
    dense={
        "attention.attention.query": "attention.query",
        "attention.attention.key": "attention.key",
        "attention.attention.value": "attention.value",
        "attention.output.dense": "attention.out",
        "intermediate.dense": "mlp.expand",
        "output.dense": "mlp.contract",
    },
    norms={"layernorm_before": "norm_attention", "layernorm_after": "norm_mlp"},
)
# One tensor holds query, key and value: see `_open_clip_stack`.
_OPEN_CLIP_BLOCKS = _BlockNames(
    "transformer.resblocks",
    dense={
        "attn.out_proj": "attention.out",
        "mlp.c_fc": "mlp.expand",
        "mlp.c_proj": "mlp.contract",
    },
    norms={"ln_1": "norm_attention", "ln_2": "norm_mlp"},
)


def _text_tower(depth: int) -> Iterator[Rule]:
    """Embeddings, blocks and last norm of a CLIP-like text tower."""
    table = "text_model.embeddings.{}_embedding.weight"
    yield Rule(table.format("token"), "text.tokens.table", SAME)
    yield Rule(table.format("position"), "text.positions.table", SAME)
    yield from _CLIP_BLOCKS.rules("text_model", "text", depth)
    yield from _norm("text_model.final_layer_norm", "text.norm_out")


def clip_rules(config: CLIPConfig) -> list[Rule]:
    """Return the rules of `transformers.CLIPModel`."""
    images = "vision_model.embeddings"
    return [
        Rule("logit_scale", "logit_scale", SAME),
        Rule(f"{images}.class_embedding", "vision.class_token", SAME),
        Rule(
            f"{images}.patch_embedding.weight", "vision.patches.project.kernel", PATCHES
        ),
        Rule(f"{images}.position_embedding.weight", "vision.positions.table", SAME),
        # The misspelt name is the released checkpoints'.
        *_norm("vision_model.pre_layrnorm", "vision.norm_in"),
        *_CLIP_BLOCKS.rules("vision_model", "vision", vision_config(config).depth),
        *_norm("vision_model.post_layernorm", "vision.norm_out"),
        *_text_tower(text_config(config).depth),
        *_dense("visual_projection", "image_projection", bias=False),
        *_dense("text_projection", "text_projection", bias=False),
    ]


FLAVA_PREFIX = "flava."
"""Released checkpoints are of `FlavaForPreTraining`, whose FlavaModel has this name."""

FLAVA_UNREAD = (
    # Stands in for hidden patches in training; whole pictures have none.
    "image_model.embeddings.mask_token",
    # Pool for downstream classifiers; rows are the class token's state itself.
    "image_model.pooler.",
    "text_model.pooler.",
    # Fuse a picture and a text into one state, which is a row of neither.
    "multimodal_model.",
    "image_to_mm_projection.",
    "text_to_mm_projection.",
    # Makes the targets of masked image modelling.
    "image_codebook.",
    # Heads of the losses beside the contrastive one.
    "mim_head.",
    "mlm_head.",
    "itm_head.",
    "mmm_image_head.",
    "mmm_text_head.",
)
"""Tensors of FLAVA checkpoints that no row of a picture or text depends on."""


def _flava_tower(tower: str, parameter: str, config: StackConfig) -> Iterator[Rule]:
    """Blocks and last norm of a FLAVA tower, whose names are those of BERT."""
    yield from _FLAVA_BLOCKS.rules(
        tower, parameter, config.depth, qkv_bias=config.qkv_bias
    )
    yield from _norm(f"{tower}.layernorm", f"{parameter}.norm_out")


def flava_rules(config: FlavaConfig) -> list[Rule]:
    """Return the rules of the towers of `transformers.FlavaModel`."""
    images, texts = "image_model.embeddings", "text_model.embeddings"
    stem = f"{images}.patch_embeddings.projection"
    return [
        Rule("logit_scale", "logit_scale", SAME),
        Rule(f"{images}.cls_token", "vision.class_token", ROW),
        Rule(f"{stem}.weight", "vision.patches.project.kernel", PATCHES),
        Rule(f"{stem}.bias", "vision.patches.project.bias", SAME),
        Rule(f"{images}.position_embeddings", "vision.positions.table", ROWS),
        *_flava_tower("image_model", "vision", vision_config(config)),
        Rule(f"{texts}.word_embeddings.weight", "text.tokens.table", SAME),
        Rule(f"{texts}.position_embeddings.weight", "text.positions.table", SAME),
        Rule(f"{texts}.token_type_embeddings.weight", "text.types.table", SAME),
        *_norm(f"{texts}.LayerNorm", "text.norm_in"),
        *_flava_tower("text_model", "text", text_config(config)),
        *_dense("image_projection", "image_projection"),
        *_dense("text_projection", "text_projection"),
    ]


def siglip_rules(config: SiglipConfig) -> list[Rule]:
    """Return the rules of `transformers.SiglipModel`."""
    images, head = "vision_model.embeddings", "vision_model.head"
    return [
        Rule("logit_scale", "logit_scale", SCALAR),
        Rule("logit_bias", "logit_bias", SCALAR),
        Rule(
            f"{images}.patch_embedding.weight", "vision.patches.project.kernel", PATCHES
        ),
        Rule(f"{images}.patch_embedding.bias", "vision.patches.project.bias", SAME),
        Rule(f"{images}.position_embedding.weight", "vision.positions.table", SAME),
        *_CLIP_BLOCKS.rules("vision_model", "vision", vision_config(config).depth),
        *_norm("vision_model.post_layernorm", "vision.norm_out"),
        Rule(f"{head}.probe", "vision.pool.probe", ROW),
        Rule(
            f"{head}.attention.in_proj_weight", "vision.pool.project.kernel", TRANSPOSED
        ),
        Rule(f"{head}.attention.in_proj_bias", "vision.pool.project.bias", SAME),
        *_dense(f"{head}.attention.out_proj", "vision.pool.out"),
        *_norm(f"{head}.layernorm", "vision.pool.norm"),
        *_dense(f"{head}.mlp.fc1", "vision.pool.mlp.expand"),
        *_dense(f"{head}.mlp.fc2", "vision.pool.mlp.contract"),
        *_text_tower(text_config(config).depth),
        *_dense("text_model.head", "text.head"),
    ]


def open_clip_rules(config: CLIPConfig, *, text: str, scale: Layout) -> list[Rule]:
    """Return the rules of OpenCLIP's `CLIP` and `CustomTextCLIP`.

    Args:
      config: as `open_clip_config.read_settings` translates it.
      text: what names of the text tower begin with, "" or "text.".
      scale: how the temperature is stored, `SAME` or `SCALAR`.

    Returns:
      The rules, to parameters of `Clip`.
    """
    if getattr(config, "text_projection_bias", False):
        projection = list(_dense(f"{text}text_projection", "text_projection"))
    else:
        # A bare matrix (in, out), where a linear layer would hold (out, in).
        projection = [Rule(f"{text}text_projection", "text_projection.kernel", SAME)]
    return [
        Rule("logit_scale", "logit_scale", scale),
        Rule("visual.class_embedding", "vision.class_token", SAME),
        Rule("visual.conv1.weight", "vision.patches.project.kernel", PATCHES),
        Rule("visual.positional_embedding", "vision.positions.table", SAME),
        *_norm("visual.ln_pre", "vision.norm_in"),
        *_open_clip_stack("visual.", "vision", vision_config(config).depth),
        *_norm("visual.ln_post", "vision.norm_out"),
        Rule("visual.proj", "image_projection.kernel", SAME),
        Rule(f"{text}token_embedding.weight", "text.tokens.table", SAME),
        Rule(f"{text}positional_embedding", "text.positions.table", SAME),
        *_open_clip_stack(text, "text", text_config(config).depth),
        *_norm(f"{text}ln_final", "text.norm_out"),
        *projection,
    ]


def _open_clip_stack(tower: str, parameter: str, depth: int) -> Iterator[Rule]:
    """Blocks of an OpenCLIP tower: one tensor holds query, key and value."""
    for i in range(depth):
        block = f"{tower}transformer.resblocks.{i}"
        ours = f"{parameter}.stack.blocks.{i}"
        for part, name in enumerate(("query", "key", "value")):
            for fused, leaf, layout in (
                ("in_proj_weight", "kernel", TRANSPOSED),
                ("in_proj_bias", "bias", SAME),
            ):
                yield Rule(
                    f"{block}.attn.{fused}",
                    f"{ours}.attention.{name}.{leaf}",
                    layout,
                    part=part,
                    parts=3,
                )
    yield from _OPEN_CLIP_BLOCKS.rules(tower, parameter, depth)
