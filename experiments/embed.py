# SPDX-License-Identifier: Apache-2.0
"""Embed a data set with one model or two, into stores on disk.

    python -m experiments.embed
    python -m experiments.embed --dataset=/data/pictures --source=openai/clip-vit-base-patch32 --target=

Writes an `EmbeddingStore` for each model, `source` and `target`, to --workdir: the
folder layout of clip-retrieval and autofaiss, and a manifest. May be killed at any
moment: started again, it goes on and ends in the same bytes. Runs as one process or as
several (see BUILD.md), which then share --workdir.
"""  # noqa: E501

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import jax
from absl import flags
from tqdm import tqdm

from experiments import launch, launch_processes
from jaxalign.data import catalog
from jaxalign.embedding.into_stores import (
    MOST_UNREADABLE_IN_A_ROW,
    Progress,
    embed_into_stores,
    short_name,
)
from jaxalign.embedding.shares import ALONE, Share
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import PARTITIONS, Partition
from jaxalign.errors import ArgumentError
from jaxalign.processors import cpu_count
from jaxalign.sharding import data_mesh
from jaxalign.store.reader import EmbeddingStore

StoreDtype = Literal["float32", "float16"]

_SPLIT = flags.DEFINE_string(
    "split", None, "Which split of the data set. Default: its split for evaluation."
)
_STORE_DTYPE = flags.DEFINE_enum(
    "store_dtype", "float32", ["float32", "float16"], "Of the rows on disk."
)
_STRICT = flags.DEFINE_boolean(
    "strict", False, "End at a picture that cannot be read, instead of leaving it out."
)
_MOST_UNREADABLE = flags.DEFINE_integer(
    "most_unreadable",
    MOST_UNREADABLE_IN_A_ROW,
    "End at more pictures in a row that cannot be read, before they are left out for "
    "good; 0 for any number.",
    lower_bound=0,
)
_PART_EXAMPLES = flags.DEFINE_integer(
    "part_examples",
    None,
    "Examples a file, rounded up to whole batches; a process writes whole files. "
    "Default: 65536, or fewer, so that there are 64 files.",
    lower_bound=1,
)
_MAX_EXAMPLES = flags.DEFINE_integer(
    "max_examples", None, "Only the first so many examples.", lower_bound=1
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Processes that decode and preprocess ahead; 0: a thread does. Default: one for "
    "eight cores; where a GPU or TPU encodes, one less than cores, at most 16.",
    lower_bound=0,
)

_THREADS = flags.DEFINE_integer(
    "threads", 2, "Threads that decode and preprocess, in each process that does.", 1
)
_VERIFY = flags.DEFINE_boolean(
    "verify", False, "At the end, read all files again and compare their checksums."
)
_PARTITION = flags.DEFINE_enum(
    "partition",
    "pjit",
    PARTITIONS,
    "How rows are spread over devices: jit with shardings, or pmap. Same rows.",
)

TINY_EXAMPLES = 200
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
) -> dict[str, EmbeddingStore]:
    """Embed what the stores miss, one store a model; return them when all are whole."""
    info = catalog.dataset_info(config.dataset)
    source = catalog.load_dataset(
        config.dataset, config.split, data_dir=config.data_dir
    )
    if not quiet:
        print(describe_data(config, len(source), info.splits), flush=True)
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


def read_config() -> Config:
    """Make the config of the flags.

    Raises:
      ValueError: if one of them is wrong.
    """
    info = catalog.dataset_info(launch.dataset_name())
    limit = _MAX_EXAMPLES.value
    return Config(
        dataset=launch.dataset_name(),
        split=_SPLIT.value or default_split(info.splits),
        data_dir=launch.DATA_DIR.value,
        batch_size=launch.BATCH_SIZE.value,
        partition=cast(Partition, _PARTITION.value),
        store_dtype=cast(StoreDtype, _STORE_DTYPE.value),
        part_examples=_PART_EXAMPLES.value,
        max_examples=min(limit or TINY_EXAMPLES, TINY_EXAMPLES)
        if launch.TINY.value
        else limit,
        strict=_STRICT.value,
        most_unreadable=_MOST_UNREADABLE.value,
        threads=_THREADS.value,
        workers=default_workers() if _WORKERS.value is None else _WORKERS.value,
    )


def main() -> None:
    """Read the flags, run, and print what was written."""
    launch_processes.join()
    started = time.perf_counter()
    config = read_config()
    devices = jax.local_devices()
    if config.batch_size % len(devices):
        expected = f"a multiple of this process's {len(devices)} devices"
        remedy = "choose another"
        raise ArgumentError("--batch_size", expected, config.batch_size, remedy)
    names = {"source": launch.SOURCE.value, "target": launch.TARGET.value}
    models = {role: launch.load_model(name) for role, name in names.items() if name}
    if not models:
        raise ArgumentError("--source, --target", "one model at least", "none")
    alone = len(devices) == 1 and config.partition == "pjit"
    stores = run(
        config,
        models,
        launch.open_workdir("runs/embed"),
        share=Share(jax.process_index(), jax.process_count()),
        mesh=None if alone else data_mesh(devices),
    )
    if _VERIFY.value and jax.process_index() == 0:
        for store in stores.values():
            store.verify()
    print(describe_stores(stores))
    print(f"{time.perf_counter() - started:.0f} s in all.", flush=True)


flags.adopt_module_key_flags(launch_processes)
for _name in (
    *("source", "target", "dtype", "dataset", "data_dir", "workdir", "batch_size"),
    "tiny",
):
    flags.declare_key_flag(_name)

if __name__ == "__main__":
    launch.launch(main, unused=("fit_on", "seeds"))
