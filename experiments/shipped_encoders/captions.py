# SPDX-License-Identifier: Apache-2.0
"""Training captions: many ways to tell of one picture, drawn at random."""

from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxalign.data.openmoji_texts import readable_class

CAPTION_SHARES = {
    "name": 0.15,
    "name and keywords": 0.3,
    "keywords": 0.2,
    "class": 0.35,
}
"""Kinds of training captions, and their shares. Shared properties of emoji (keywords,
classes) align the geometries of two models; names alone leave them independent."""

DETAIL_SHARE = 0.15
"""Share of training captions with words for the style, and as much, independently, with
words for the background."""

_NAME_TEMPLATES = (
    "{}",
    "an emoji of {}",
    "a picture of {}",
    "a drawing of {}",
    "an icon of {}",
    "the emoji {}",
)
_STYLE_WORDS = {
    "full": ("in colour", "with lines and colours"),
    "line": ("as a line drawing", "in black lines"),
    "fill": ("without lines", "in flat colours"),
}


def training_caption(example: Mapping[str, object], rng: np.random.Generator) -> str:
    """Write one of the many captions that fit a training picture.

    A caption tells the emoji's name, its name and some keywords, some keywords alone,
    or its class, with the shares of `CAPTION_SHARES`.

    Args:
      example: an example of the catalog: "name", "keywords", "subgroup", "style" and
        "background" are read. Without keywords the name stands in for them.
      rng: where the choice comes from.
    """
    kind = rng.choice(list(CAPTION_SHARES), p=list(CAPTION_SHARES.values()))
    if kind == "class":
        class_name = readable_class(str(example["subgroup"]))
        text = _choose(("a kind of {}", "{}"), rng).format(class_name)
    else:
        name = [str(example["name"])]
        keywords = _some_keywords(str(example["keywords"]), rng)
        subject = {
            "name": name,
            "name and keywords": name + keywords,
            "keywords": keywords or name,
        }[kind]
        text = _choose(_NAME_TEMPLATES, rng).format(", ".join(subject))
    if rng.random() < DETAIL_SHARE:
        text = f"{text} {_choose(_STYLE_WORDS[str(example['style'])], rng)}"
    if rng.random() < DETAIL_SHARE:
        text = f"{text} on {_with_article(str(example['background']))} background"
    return text


class WriteTrainingCaption(grain.transforms.RandomMap):
    """Set `text` to a caption drawn at random, see `training_caption`."""

    def random_map(
        self, element: dict[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Add a random caption to one example."""
        return {**element, "text": training_caption(element, rng)}


def _some_keywords(keywords: str, rng: np.random.Generator) -> list[str]:
    """Draw one to three of the keywords in any order; [] if there are no keywords."""
    words = [word for word in keywords.split(", ") if word]
    if not words:
        return []
    count = min(len(words), int(rng.integers(1, 4)))
    return [words[i] for i in rng.choice(len(words), size=count, replace=False)]


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _choose(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
