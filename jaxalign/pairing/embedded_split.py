# SPDX-License-Identifier: Apache-2.0
"""One split of a data set as two models see it: a source of anchors and of pairs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxalign.anchors.anchors import Anchors
from jaxalign.data import catalog
from jaxalign.embedding.batch import EmbeddedSet
from jaxalign.embedding.fetch import gather
from jaxalign.embedding.inputs import embedding_batches
from jaxalign.embedding.stream import embed
from jaxalign.encoders.encoders import Encoders
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.metrics.zeroshot import average_prompts


@dataclasses.dataclass(frozen=True)
class EmbeddedSplit:
    """One split of a data set, embedded by a source and a target model.

    Attributes:
      examples: as the catalog gives them. Their key "thing" names what an example
        shows (default: each shows something else), and "is_query" whether it is
        searched for and brings its caption (default: all are); the others only anchor.
      source: their rows by the source model, in the same order.
      target: their rows by the target model.
    """

    examples: Sequence[Mapping[str, Any]]
    source: EmbeddedSet
    target: EmbeddedSet

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The class of each example."""
        return self.source.labels

    @property
    def is_query(self) -> Bool[np.ndarray, " n"]:
        """True for the examples that are searched for."""
        return np.array([example.get("is_query", True) for example in self.examples])

    @property
    def things(self) -> Shaped[np.ndarray, " n"]:
        """What each example shows, the same value for pictures of one thing."""
        return np.array([e.get("thing", i) for i, e in enumerate(self.examples)])

    def of_classes(self, classes: Int[np.ndarray, " k"]) -> Bool[np.ndarray, " n"]:
        """True for the examples of some classes."""
        return np.isin(self.labels, classes)

    def anchors(self, classes: Int[np.ndarray, " k"]) -> Anchors:
        """Return anchors: all pictures of classes, and a caption a thing."""
        chosen = self.of_classes(classes)
        rows = {"image": chosen, "text": chosen & self.is_query}
        return Anchors(
            {
                name: (getattr(self.source, name)[of], getattr(self.target, name)[of])
                for name, of in rows.items()
            },
            groups={name: self.labels[of] for name, of in rows.items()},
            ids={name: self.things[of] for name, of in rows.items()},
            source_space=self.source.space,
            target_space=self.target.space,
        )

    def pairs(
        self,
        classes: Int[np.ndarray, " k"],
        source_class_texts: Float[np.ndarray, "all d_source"],
        target_class_texts: Float[np.ndarray, "all d_target"],
    ) -> PairedSet:
        """Return the examples of classes that are searched for.

        Args:
          classes: which; those that do not occur are left out.
          source_class_texts: one row a class of the data set, numbered as the labels.
          target_class_texts: the same by the target model.
        """
        rows = np.flatnonzero(self.of_classes(classes) & self.is_query)
        labels = self.labels[rows]
        occurring = np.unique(labels)
        return PairedSet(
            self.source.image[rows],
            self.source.text[rows],
            self.target.image[rows],
            self.target.text[rows],
            labels,
            source_class_texts[occurring],
            target_class_texts[occurring],
            occurring,
            groups=labels,
        )


def embed_examples(
    models: Sequence[Encoders],
    examples: catalog.Source,
    *,
    batch_size: int = 128,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[EmbeddedSet, ...]:
    """Embed pictures and their captions with every model in one pass.

    Args:
      models: m of them.
      examples: as the catalog gives them.
      batch_size: examples a step.
      report: called with the number of examples done so far.

    Returns:
      The rows by each of the m models, in the order of the examples.
    """
    batches = embedding_batches(examples, models, batch_size=batch_size)
    return gather(embed(models, batches), report=report)


def embed_class_texts(
    model: Encoders, info: catalog.DatasetInfo
) -> Float[np.ndarray, "classes d"]:
    """Return one row a class of a data set, from its prompt ensemble."""
    texts = [text for ensemble in info.class_prompts for text in ensemble]
    rows = model.embed_texts(texts).reshape(len(info.class_prompts), -1, model.dim)
    return np.asarray(average_prompts(rows))
