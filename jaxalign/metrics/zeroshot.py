# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification: class texts from prompt ensembles, and their top-1.

A class is the mean of the unit embeddings of its
prompts, normalised again; an image goes to the class whose text is nearest.

References:
  Radford et al., "Learning Transferable Visual Models From Natural Language
  Supervision", arXiv 2103.00020 (prompt ensembles in embedding space).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import check_floating, float_rows
from jaxalign.metrics.recall import class_top1
from jaxalign.unit_rows import unit_rows


def average_prompts(
    prompt_rows: Float[ArrayLike, "classes prompts d"],
) -> Float[Array, "classes d"]:
    """Make one unit row per class from the embeddings of its prompts.

    Args:
      prompt_rows: ``(classes, prompts, d)``, rows of any norm.

    Returns:
      ``(classes, d)``: mean of the normalised rows, normalised again.

    Raises:
      ValueError: if `prompt_rows` does not have three axes, or is not real floating.

    >>> average = average_prompts(jnp.array([[[2.0, 0.0], [0.0, 5.0]]]))
    >>> bool(jnp.allclose(average, jnp.sqrt(0.5)))
    True
    """
    if not hasattr(prompt_rows, "shape") or len(prompt_rows.shape) != 3:
        got = getattr(prompt_rows, "shape", type(prompt_rows).__name__)
        raise ArgumentError(
            "average_prompts(prompt_rows=...)",
            "shape (classes, prompts, d)",
            got,
            "embed all prompts of a class and stack classes",
        )
    classes, prompts, width = prompt_rows.shape
    if isinstance(prompt_rows, jax.Array):
        check_floating("average_prompts", "prompt_rows", prompt_rows)
    else:
        flat = prompt_rows.reshape(classes * prompts, width)
        rows = np.asarray(float_rows("average_prompts", "prompt_rows", flat))
        prompt_rows = rows.reshape(classes, prompts, width)
    return first_rows(_average(pad_to_bucket(prompt_rows)), classes)


@jax.jit
def _average(prompt_rows):
    """Mean of the normalised rows of each class, normalised again."""
    return unit_rows(jnp.mean(unit_rows(prompt_rows), axis=1))


def zeroshot_hits(
    images: Float[ArrayLike, "n d"],
    labels: Int[ArrayLike, " n"],
    class_texts: Float[ArrayLike, "classes d"],
    class_ids: Int[ArrayLike, " classes"],
    *,
    offsets: Float[ArrayLike, " classes"] | None = None,
) -> Bool[np.ndarray, " n"]:
    """Tell for every image whether its own class text is the nearest.

    Args:
      images: ``(n, d)``, rows of any norm.
      labels: ``(n,)`` class of each image.
      class_texts: ``(classes, d)``, one row per class, as `average_prompts` makes them.
      class_ids: ``(classes,)`` the class of each text.
      offsets: ``(classes,)`` subtracted from the scores of the class texts.

    Returns:
      ``(n,)`` hits; their mean is the zero-shot top-1. Ties count as misses.
    """
    return class_top1(images, labels, class_texts, class_ids, offsets=offsets)


def class_similarities(
    images: Float[ArrayLike, "n d"],
    labels: Int[ArrayLike, " n"],
    class_texts: Float[ArrayLike, "classes d"],
    class_ids: Int[ArrayLike, " classes"],
) -> Float[np.ndarray, "classes classes"]:
    """Average the cosine of the images of one class with the text of another.

    Args:
      images: ``(n, d)``, rows of any norm.
      labels: ``(n,)`` class of each image.
      class_texts: ``(classes, d)``, rows of any norm.
      class_ids: ``(classes,)`` the class of each text.

    Returns:
      ``(classes, classes)``: entry ``(i, j)`` is the mean cosine of the images of class
      ``class_ids[i]`` with text ``j``; NaN in a row whose class has no image.
    """
    images, texts = (
        np.asarray(unit_rows(float_rows("class_similarities", name, rows)))
        for name, rows in (("images", images), ("class_texts", class_texts))
    )
    members = np.asarray(labels)[None, :] == np.asarray(class_ids)[:, None]
    counts = members.sum(axis=1, keepdims=True)
    sums = members.astype(images.dtype) @ images
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means @ texts.T
