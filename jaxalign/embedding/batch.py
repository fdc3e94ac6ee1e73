# SPDX-License-Identifier: Apache-2.0
"""Embedded rows with their ids: one batch or a whole set."""

import dataclasses

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped


@dataclasses.dataclass(frozen=True)
class EmbeddingBatch:
    """One batch of one model's rows, in the data's order.

    Attributes:
      image: (n, d) unit rows.
      text: (n, d) unit rows of the captions; None where the batches brought none.
      ids: (n,) strings that name the examples.
      labels: (n,) classes.
      mask: (n,), False on padding and on pictures that could not be read.
      space: the fingerprint of the rows' space.
      index: (n,) numbers of the examples in their source, -1 on padding.
      captions: (n,) the texts; empty where the batches brought none.
      paths: (n,) where the pictures lie; the ids where the batches did not say.
      problems: (n,) why a picture could not be read, else empty.

    On a mesh of several processes `image` and `text` are rows of all of them, and the
    rest is of this process.
    """

    image: Float[Array | np.ndarray, "rows d"]
    text: Float[Array | np.ndarray, "rows d"] | None
    ids: Shaped[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    mask: Bool[np.ndarray, " n"]
    space: str
    index: Int[np.ndarray, " n"]
    captions: Shaped[np.ndarray, " n"]
    paths: Shaped[np.ndarray, " n"]
    problems: Shaped[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class EmbeddedSet:
    """A whole data set's rows of one model, on the host, in the data's order.

    Attributes:
      image: (n, d) unit rows.
      text: (n, d) unit rows of the captions.
      ids: (n,) strings that name the examples.
      labels: (n,) classes.
      space: the fingerprint of the rows' space.
    """

    image: Float[np.ndarray, "n d"]
    text: Float[np.ndarray, "n d"]
    ids: Shaped[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    space: str
