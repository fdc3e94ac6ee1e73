# SPDX-License-Identifier: Apache-2.0
"""Embed a data set with one model or two, into stores on disk.

Writes an `EmbeddingStore` for each model: the folder layout of clip-retrieval and
autofaiss, and a manifest. May be killed at any moment: started again, it goes on and
ends in the same bytes.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from tqdm import tqdm

from jaxalign.compilation_cache import use_compilation_cache
from jaxalign.data import catalog
from jaxalign.embedding.into_stores import (
    MOST_UNREADABLE_IN_A_ROW,
    Progress,
    embed_into_stores,
    short_name,
)
from jaxalign.embedding.shares import ALONE, Share
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import Partition
from jaxalign.encoders.pretrained import Dtype
from jaxalign.errors import ArgumentError, check_count
from jaxalign.processors import cpu_count
from jaxalign.sharding import data_mesh
from jaxalign.store.reader import EmbeddingStore
from jaxalign.workflows.models import check_models, load_model
from jaxalign.workflows.outputs import open_folder

StoreDtype = Literal["float32", "float16"]

MOST_WORKERS = 16
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run."""

    dataset: str = "openmoji"
    split: str = "learnt"
    data_dir: str | None = None
    batch_size: int = 128
    partition: Partition = "pjit"
    store_dtype: StoreDtype = "float32"
    part_examples: int | None = None
    max_examples: int | None = None
    strict: bool = False
    most_unreadable: int = MOST_UNREADABLE_IN_A_ROW
    threads: int = 2
    workers: int = 0


def run(
    config: Config,
    models: dict[str, Encoders],
    workdir: Path,
    *,
    share: Share = ALONE,
    mesh: jax.sharding.Mesh | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, EmbeddingStore]:
    """Embed what the stores miss, one store a model; return them when all are whole.

    Args:
      config: the settings.
      models: by the name of the folder that each one's store gets.
      workdir: where these folders are.
      share: of the examples, in a run of several processes.
      mesh: whose devices encode; None: the first alone.
      quiet: show no progress.
      say: told what is embedded.
    """
    info = catalog.dataset_info(config.dataset)
    source = catalog.load_dataset(
        config.dataset, config.split, data_dir=config.data_dir
    )
    say(describe_data(config, len(source), info.splits))
    title = "Embedding"
    if share.count > 1:
        title += f", process {share.index} of {share.count}"
    bar: tqdm | None = None
    with contextlib.ExitStack() as stack:

        def report(progress: Progress) -> None:
            nonlocal bar
            if bar is None:
                bar = tqdm(
                    desc=title,
                    total=progress.share,
                    initial=progress.examples,
                    unit=" examples",
                    mininterval=0.5,
                    disable=quiet,
                )
                stack.enter_context(bar)
            if progress.unreadable:
                text = f"{progress.unreadable} unreadable"
                bar.set_postfix_str(text, refresh=False)
            if share.count > 1 and progress.examples == progress.share:
                bar.set_description(f"{title}, done, waits for the others")
            bar.update(progress.examples - bar.n)

        return embed_into_stores(
            source,
            models,
            workdir,
            batch_size=config.batch_size,
            examples=config.max_examples,
            part_examples=config.part_examples,
            class_captions=info.class_captions,
            class_names=info.class_names,
            dtype=config.store_dtype,
            details={"dataset": short_name(config.dataset), "split": config.split},
            strict=config.strict,
            most_unreadable_in_a_row=config.most_unreadable or None,
            num_threads=config.threads,
            num_workers=config.workers,
            mesh=mesh,
            partition=config.partition,
            share=share,
            report=report,
        )


def describe_data(config: Config, examples: int, splits: Sequence[str]) -> str:
    """Say which examples are embedded, and which other splits there are."""
    line = f"{config.dataset}, split {config.split}: {examples} examples"
    if config.max_examples and config.max_examples < examples:
        line += f", the first {config.max_examples} of them"
    others = [name for name in splits if name != config.split]
    return line + (f" (other splits: {', '.join(others)})." if others else ".")


def describe_stores(stores: dict[str, EmbeddingStore]) -> str:
    """Say what was written, and what was left out and why."""
    lines = []
    for role, store in stores.items():
        widths = ", ".join(f"{name} {store.dim(name)}" for name in store.modalities)
        lines.append(
            f"{role}: {len(store)} rows ({widths}; {store.dtype}) in {store.folder}"
        )
    skipped = next(iter(stores.values())).skipped
    if skipped:
        lines.append(
            f"Left out: {len(skipped)} pictures that cannot be read, listed in "
            "manifest.json:"
        )
        lines += [f"  {name}: {reason}" for name, reason in skipped[:SHOWN]]
        if len(skipped) > SHOWN:
            lines.append(f"  and {len(skipped) - SHOWN} more")
    return "\n".join(lines)


def local_mesh(config: Config) -> jax.sharding.Mesh | None:
    """Return the mesh of this process's devices; None for one that needs no mesh.

    Raises:
      ValueError: if their number does not divide the batch size.
    """
    devices = jax.local_devices()
    if config.batch_size % len(devices):
        expected = f"a multiple of this process's {len(devices)} devices"
        remedy = "choose another"
        raise ArgumentError("--batch_size", expected, config.batch_size, remedy)
    alone = len(devices) == 1 and config.partition == "pjit"
    return None if alone else data_mesh(devices)


def default_workers() -> int:
    """Return how many processes decode ahead, that the encoder need not wait.

    On an accelerator all cores but one may decode. On CPU, where they encode as well,
    one in eight is more than a model of CLIP's size asks for; a thread does for few.
    """
    if jax.default_backend() == "cpu":
        return cpu_count() // 8
    return min(MOST_WORKERS, max(1, cpu_count() - 1))


def default_split(splits: Sequence[str]) -> str:
    """Return the split that is for evaluation, by its name, or the first."""
    names = ("test", "learnt", "validation", "val", "dev")
    return next((name for name in names if name in splits), splits[0])


def embed_pictures(
    pictures: str,
    models: str,
    out: str,
    *,
    encoder_dtype: Dtype = "float32",
    split: str | None = None,
    workers: int | None = None,
    verify: bool = False,
    **settings: Any,
) -> dict[str, EmbeddingStore]:
    """Embed pictures and texts with one model or two named ones, and say so.

    Args:
      pictures: as `Config.dataset`.
      models: one name, or two separated by a comma: the stores "source" and "target".
      out: folder of the stores.
      encoder_dtype: of the encoders.
      split: None: the one for evaluation.
      workers: None: see `default_workers`.
      verify: compare all checksums at the end.
      settings: of `Config`.

    Raises:
      ValueError: for an unknown model, data set or option.
    """
    names = [name.strip() for name in models.split(",")]
    if not 1 <= len(names) <= 2 or not all(names):
        remedy = "write --models=A,B"
        raise ArgumentError("--models", "one model or two", repr(models), remedy)
    check_models(names)
    for name in ("batch_size", "max_examples", "part_examples", "threads"):
        if settings.get(name) is not None:
            check_count("jaxalign embed", f"--{name}", settings[name])
    use_compilation_cache()
    config = Config(
        dataset=pictures,
        split=split or default_split(catalog.dataset_info(pictures).splits),
        workers=default_workers() if workers is None else workers,
        **settings,
    )
    mesh = local_mesh(config)
    encoders = {
        role: load_model(name, encoder_dtype)
        for role, name in zip(("source", "target"), names, strict=False)
    }
    stores = run(
        config,
        encoders,
        open_folder(out, "--out"),
        mesh=mesh,
        say=lambda text: tqdm.write(text, file=sys.stderr),
    )
    for store in stores.values() if verify else ():
        store.verify()
    return stores
