# SPDX-License-Identifier: Apache-2.0
"""The model card of a shipped pair: how it was trained, and what it scores."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedConfig

from experiments.shipped_encoders.captions import CAPTION_SHARES
from experiments.shipped_encoders.recipes import DIM, TEXT_LENGTH, Recipe
from experiments.shipped_encoders.training import TrainingConfig


def format_card(
    recipe: Recipe,
    config: PreTrainedConfig,
    *,
    batch_size: int,
    parameters: int,
    renderings: Sequence[str],
    scores: Mapping[str, Mapping[str, float | int]],
    credit: str,
    versions: Mapping[str, str],
) -> str:
    """Write the card as Markdown.

    Args:
      recipe: what was trained.
      config: of the model.
      batch_size: pairs a step.
      parameters: how many.
      renderings: ids of the renderings seen in training.
      scores: table name -> metric -> value, shares in [0, 1].
      credit: of the pictures.
      versions: of the libraries that trained it.

    Returns:
      The text of a `README.md`.
    """
    text, vision = config.text_config, config.vision_config
    metrics = list(next(iter(scores.values())))
    table = [
        "| | " + " | ".join(metrics) + " |",
        "|---|" + "---|" * len(metrics),
        *(
            f"| {name} | " + " | ".join(f"{row[m]:.4g}" for m in metrics) + " |"
            for name, row in scores.items()
        ),
    ]
    return f"""---
license: cc-by-sa-4.0
library_name: jaxalign
---
# jaxalign/{recipe.name}

A small image-text model, trained from scratch on drawings of emoji. It exists so that
jaxalign's main job runs without a network; it knows nothing but emoji and their names.

## What it is

- A `{type(config).__name__}` with {parameters / 1e6:.2f} M parameters, stored as
  float16, used as float32; `transformers` loads the folder.
- Images: {vision.image_size} x {vision.image_size} pixels, patches of \
{vision.patch_size}, width {vision.hidden_size}, {vision.num_hidden_layers} blocks.
- Texts: {TEXT_LENGTH} tokens of a vocabulary of {text.vocab_size} \
(`{recipe.train_tokenizer.__name__}`), width {text.hidden_size}, \
{text.num_hidden_layers} blocks.
- Embeddings: {DIM} wide.

## How it was trained

- Data: split `{recipe.split}` of the embedded data set, renderings \
{", ".join(renderings)}. The other shipped pair has seen none of these.
- Batches of {batch_size} pairs, one picture of an emoji a batch; seed {recipe.seed}.
{describe_training(recipe.training)}
- Again: `python -m experiments.train_encoders --recipe={recipe.name}`. Made with \
{", ".join(f"{name} {version}" for name, version in versions.items())}.

## What it scores

Exact retrieval within this model: of n pictures (as OpenMoji draws them, a rendering
that training left out), how many find their own caption, "an emoji of <name>".

{chr(10).join(table)}

## Licence

{credit} The weights are under the same licence.
"""


def describe_training(training: TrainingConfig) -> str:
    """Two lines of the list on how the pair was trained."""
    shares = ", ".join(
        f"{kind} {100 * share:.0f} %" for kind, share in CAPTION_SHARES.items()
    )
    return (
        f"- {training.steps} steps: {training.loss} contrastive loss, logit scale at "
        f"most {training.max_logit_scale:g}; Muon on kernels and Adam elsewhere, "
        f"peak learning rate {training.learning_rate:g}, {training.warmup_steps} steps "
        f"of warm-up, cosine decay, weight decay {training.weight_decay:g}.\n"
        f"- Captions tell: {shares}."
    )
