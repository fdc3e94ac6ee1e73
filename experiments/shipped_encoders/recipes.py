# SPDX-License-Identifier: Apache-2.0
"""Recipes of the two shipped encoder pairs, which are trained independently.

The two differ in everything that a training run draws: architecture, tokenizer,
loss, seed, and the renderings that they see. They share the emoji, for two
models must know the same words before their texts can be compared.
"""

import dataclasses
from collections.abc import Callable, Iterable

from transformers import (
    CLIPConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    SiglipConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import (
    SiglipImageProcessorPil,
)

from experiments.shipped_encoders import tokenizer_training as tokens
from experiments.shipped_encoders.training import TrainingConfig

TEXT_LENGTH = 24
DIM = 128
IMAGE_SIZE = 60
PATCH_SIZE = 12
STEPS = 1400
"""Short on purpose: two models agree less as each overfits its own pictures."""

MAX_LOGIT_SCALE = 4.0
"""Low on purpose. At a low scale the losses ask for the whole pattern of what emoji
share, which two models find alike; at a high one, for telling neighbours apart, which
each does in its own way. Measured on held-out classes, with these captions: 1,800 steps
at 3 give text cosine 0.86, text -> text @1 46 %, 49 % of pictures that find their text
within the target model and 63 % of these across the models; 1,400 steps at 4 give 0.83,
53 %, 54 % and 64 %."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings from which one shipped pair is made.

    Attributes:
      name: of its folder in the package, and after "jaxalign/".
      split: of the embedded data set; the two recipes' renderings are disjoint.
      seed: of parameters, batches, augmentation and captions.
      vocabulary_size: of its tokenizer.
      train_tokenizer: makes the tokenizer from captions.
      make_config: makes the config from the tokenizer's size.
      make_processor: makes the image processor.
      training: the loss and the optimisation.
    """

    name: str
    split: str
    seed: int
    vocabulary_size: int
    train_tokenizer: Callable[..., PreTrainedTokenizerFast]
    make_config: Callable[[int], PreTrainedConfig]
    make_processor: Callable[[], CLIPImageProcessorPil | SiglipImageProcessorPil]
    training: TrainingConfig

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """Train the recipe's tokenizer on captions."""
        return self.train_tokenizer(
            texts, vocabulary_size=self.vocabulary_size, max_length=TEXT_LENGTH
        )


def _clip_config(vocabulary_size: int) -> CLIPConfig:
    return CLIPConfig(
        text_config=dict(
            vocab_size=vocabulary_size,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=DIM,
            bos_token_id=tokens.BOS_ID,
            eos_token_id=tokens.EOS_ID,
            pad_token_id=tokens.PAD_ID,
        ),
        vision_config=dict(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            projection_dim=DIM,
        ),
        projection_dim=DIM,
    )


def _siglip_config(vocabulary_size: int) -> SiglipConfig:
    return SiglipConfig(
        text_config=dict(
            vocab_size=vocabulary_size,
            hidden_size=96,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=3,
            max_position_embeddings=TEXT_LENGTH,
            projection_size=DIM,
            bos_token_id=tokens.EOS_ID,
            eos_token_id=tokens.EOS_ID,
            pad_token_id=tokens.PAD_ID,
        ),
        vision_config=dict(
            hidden_size=DIM,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
        ),
    )


def _clip_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    )


def _siglip_processor() -> SiglipImageProcessorPil:
    return SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="openmoji-clip",
            split="source_train",
            seed=1,
            vocabulary_size=2000,
            train_tokenizer=tokens.train_byte_bpe,
            make_config=_clip_config,
            make_processor=_clip_processor,
            training=TrainingConfig(
                loss="softmax",
                steps=STEPS,
                max_logit_scale=MAX_LOGIT_SCALE,
                image_mean=(0.48145466, 0.4578275, 0.40821073),
                image_std=(0.26862954, 0.26130258, 0.27577711),
            ),
        ),
        Recipe(
            name="openmoji-siglip",
            split="target_train",
            seed=2,
            vocabulary_size=1500,
            train_tokenizer=tokens.train_unigram,
            make_config=_siglip_config,
            make_processor=_siglip_processor,
            training=TrainingConfig(
                loss="sigmoid", steps=STEPS, max_logit_scale=MAX_LOGIT_SCALE
            ),
        ),
    )
}
