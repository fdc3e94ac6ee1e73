# SPDX-License-Identifier: Apache-2.0
"""Embedding a split of the data set, with its progress: what studies begin with."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxalign.data import catalog
from jaxalign.embedding.batch import EmbeddedSet
from jaxalign.encoders.encoders import Encoders
from jaxalign.errors import ArgumentError
from jaxalign.pairing.embedded_split import (
    EmbeddedSplit,
    embed_class_texts,
    embed_examples,
)


def check_splits(dataset: str, splits: Iterable[str]) -> None:
    """Raise over a data set without the splits that an experiment is made for."""
    if not set(splits) <= set(catalog.dataset_info(dataset).splits):
        expected = "openmoji, the one that this experiment is made for"
        remedy = "`jaxalign embed` takes any data set"
        raise ArgumentError("--dataset", expected, repr(dataset), remedy)


def embed_split(
    models: tuple[Encoders, ...],
    dataset: str,
    name: str,
    *,
    data_dir: str | None,
    batch_size: int,
) -> tuple[list[dict[str, Any]], tuple[EmbeddedSet, ...]]:
    """Embed one split of the data set with every model, and show the progress."""
    source = catalog.load_dataset(dataset, name, data_dir=data_dir, in_memory=True)
    examples = [source[i] for i in range(len(source))]
    title = f"Embedding with {len(models)} models, {name} emoji"
    with tqdm(total=len(examples), desc=title, unit=" pairs") as bar:

        def report(done: int) -> None:
            bar.update(done - bar.n)

        rows = embed_examples(models, examples, batch_size=batch_size, report=report)
    return examples, rows


class Embedded(NamedTuple):
    """The data set as two models see it, and one row a class by each."""

    split: EmbeddedSplit
    texts: tuple[np.ndarray, np.ndarray]


def embed_both(
    models: tuple[Encoders, Encoders],
    dataset: str,
    *,
    data_dir: str | None,
    batch_size: int,
) -> Embedded:
    """Embed the data set with both models, and its class texts."""
    examples, embedded = embed_split(
        models, dataset, "learnt", data_dir=data_dir, batch_size=batch_size
    )
    info = catalog.dataset_info(dataset)
    texts = embed_class_texts(models[0], info), embed_class_texts(models[1], info)
    return Embedded(EmbeddedSplit(examples, embedded[0], embedded[1]), texts)
