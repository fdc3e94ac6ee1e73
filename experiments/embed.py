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
import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import launch, launch_processes
from jaxalign.data import catalog
from jaxalign.embedding.batch import EmbeddingBatch
from jaxalign.embedding.fetch import fetch
from jaxalign.embedding.inputs import embedding_batches
from jaxalign.embedding.stream import embed
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import PARTITIONS, Partition
from jaxalign.processors import cpu_count
from jaxalign.sharding import data_mesh
from jaxalign.store.reader import EmbeddingStore
from jaxalign.store.writer import StoreWriter

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
_PART_EXAMPLES = flags.DEFINE_integer(
    "part_examples",
    None,
    "Examples a file, rounded up to whole batches; a process writes whole files. "
    "Default: 65536, or fewer, so that there are 32 files.",
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

_PARTITION = flags.DEFINE_enum(
    "partition",
    "pjit",
    PARTITIONS,
    "How rows are spread over devices: jit with shardings, or pmap. Same rows.",
)

LARGEST_PART = 65536
PARTS = 32
TINY_EXAMPLES = 200
MOST_WORKERS = 16
POLL_SECONDS = 1.0
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run depends on."""

    dataset: str = "openmoji"
    split: str = "learnt"
    data_dir: str | None = None
    batch_size: int = 128
    partition: Partition = "pjit"
    store_dtype: StoreDtype = "float32"
    part_examples: int | None = None
    max_examples: int | None = None
    strict: bool = False
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class Share:
    """Which of a run's processes this is."""

    index: int = 0
    count: int = 1

    def examples(self, examples: int, part_examples: int) -> range:
        """Return the examples of this process's parts, which follow each other."""
        parts = -(-examples // part_examples)
        first, stop = (
            min(number * parts // self.count * part_examples, examples)
            for number in (self.index, self.index + 1)
        )
        return range(first, stop)


def choose_part_examples(config: Config, examples: int) -> int:
    """Return how many examples go into a file, a multiple of the batch size.

    The same for any number of processes, so that another number may go on.
    """
    wanted = config.part_examples or min(LARGEST_PART, -(-examples // PARTS))
    return -(-wanted // config.batch_size) * config.batch_size


def describe(
    config: Config, model: Encoders, source: catalog.CataloguedSource
) -> dict[str, Any]:
    """Return what else than its space and sizes a store must agree on to be gone on."""
    return {
        "model": model.name,
        "model_dtype": model.dtype,
        "dataset": config.dataset,
        "split": config.split,
        "examples_fingerprint": source.fingerprint,
        "batch_size": config.batch_size,
    }


def run(
    config: Config,
    models: dict[str, Encoders],
    workdir: Path,
    *,
    share: Share = Share(),
    mesh: jax.sharding.Mesh | None = None,
    quiet: bool = False,
) -> dict[str, EmbeddingStore]:
    """Embed what the stores miss, one store a model; return them when all are whole."""
    info = catalog.dataset_info(config.dataset)
    source = catalog.load_dataset(
        config.dataset, config.split, data_dir=config.data_dir
    )
    examples = min(len(source), config.max_examples or len(source))
    part_examples = choose_part_examples(config, examples)
    with contextlib.ExitStack() as stack:
        writers = {
            role: stack.enter_context(
                EmbeddingStore.create(
                    workdir / role,
                    space=model.space,
                    examples=examples,
                    part_examples=part_examples,
                    modalities={"image": model.dim, "text": model.dim},
                    dtype=config.store_dtype,
                    details=describe(config, model, source),
                    process_index=share.index,
                )
            )
            for role, model in models.items()
        }
        own = share.examples(examples, part_examples)
        missing = {
            role: writer.missing(own.start, own.stop)
            for role, writer in writers.items()
        }
        left = merge_ranges([part for ranges in missing.values() for part in ranges])
        if not quiet:
            print(describe_left(sum(map(len, left)), own, share), flush=True)
        if left:
            batches = embedding_batches(
                source,
                tuple(models.values()),
                batch_size=config.batch_size,
                examples=left,
                with_texts=info.class_captions is None,
                strict=config.strict,
                num_workers=config.workers,
            )
            captions = {
                # The last row is for the label -1: examples without a class.
                role: model.embed_texts([*info.class_captions, ""])
                for role, model in models.items()
                if info.class_captions is not None
            }
            stream = embed(
                tuple(models.values()), batches, mesh=mesh, partition=config.partition
            )
            for group in show_progress(fetch(stream), left, share, quiet=quiet):
                for (role, writer), batch in zip(writers.items(), group, strict=True):
                    write(writer, batch, missing[role], captions.get(role))
            # JAX lets go of arrays that it was handed when garbage is collected; the
            # last ones, shared with workers, would else be found unowned at the end.
            gc.collect()
        return {
            role: finish_together(writer, role, quiet=quiet)
            for role, writer in writers.items()
        }


def write(
    writer: StoreWriter,
    batch: EmbeddingBatch,
    missing: Sequence[range],
    class_rows: np.ndarray | None,
) -> None:
    """Append a batch to a store that misses it; leave out what cannot be read."""
    real = batch.index >= 0
    first = int(batch.index[0])
    if not any(first in part for part in missing):
        return
    kept = batch.mask
    labels = batch.labels[kept]
    text = np.asarray(batch.text)[kept] if class_rows is None else class_rows[labels]
    ids = batch.ids[kept].tolist()
    writer.append(
        {"image": batch.image[kept], "text": text},
        first=first,
        examples=int(real.sum()),
        ids=ids,
        columns={
            "image_path": ids,
            "caption": batch.captions[kept].tolist(),
            "label": labels.tolist(),
        },
        skipped=[
            (str(batch.ids[row]), str(batch.problems[row]))
            for row in np.flatnonzero(real & ~kept)
        ],
    )


def merge_ranges(ranges: Sequence[range]) -> list[range]:
    """Return the union of ranges as sorted ranges that do not touch.

    >>> merge_ranges([range(4, 8), range(0, 2), range(1, 4), range(9, 10)])
    [range(0, 8), range(9, 10)]
    """
    merged: list[range] = []
    for part in sorted(ranges, key=lambda part: part.start):
        if merged and part.start <= merged[-1].stop:
            stop = max(merged[-1].stop, part.stop)
            merged[-1] = range(merged[-1].start, stop)
        else:
            merged.append(part)
    return merged


def show_progress(
    stream: Iterable[tuple[EmbeddingBatch, ...]],
    left: Sequence[range],
    share: Share,
    *,
    quiet: bool,
) -> Iterator[tuple[EmbeddingBatch, ...]]:
    """Pass batches on, with a bar, a rate and the time left."""
    title = "Embedding"
    if share.count > 1:
        title += f", process {share.index} of {share.count}"
    skipped = 0
    total = sum(map(len, left))
    with tqdm(total=total, desc=title, unit=" examples", disable=quiet) as bar:
        for group in stream:
            yield group  # counted when it is written
            batch = group[0]
            real = batch.index >= 0
            bar.update(int(real.sum()))
            skipped += int((real & ~batch.mask).sum())
            if skipped:
                bar.set_postfix_str(f"{skipped} unreadable")


def finish_together(writer: StoreWriter, role: str, *, quiet: bool) -> EmbeddingStore:
    """Return the finished store; wait while other processes still write theirs.

    Whoever finds all parts written writes the manifest.
    """
    told = False
    while not (writer.is_finished or writer.is_complete()):
        if not (told or quiet):
            print(f"{role}: waiting for the parts of other processes.", flush=True)
            told = True
        time.sleep(POLL_SECONDS)
    return writer.finish()


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


def describe_left(left: int, own: range, share: Share) -> str:
    """Say how much there is to do, and for whom."""
    who = f"Process {share.index} of {share.count}: " if share.count > 1 else ""
    if left == len(own):
        return f"{who}{left} examples to embed."
    return f"{who}{left} of {len(own)} examples left to embed; the rest is there."


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
    return next((name for name in ("test", "learnt") if name in splits), splits[0])


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
        workers=default_workers() if _WORKERS.value is None else _WORKERS.value,
    )


def main() -> None:
    """Read the flags, run, and print what was written."""
    launch_processes.join()
    started = time.perf_counter()
    config = read_config()
    devices = jax.local_devices()
    if config.batch_size % len(devices):
        raise ValueError(
            f"--batch_size: expected a multiple of this process's {len(devices)} "
            f"devices, got {config.batch_size}; choose another."
        )
    names = {"source": launch.SOURCE.value, "target": launch.TARGET.value}
    models = {role: launch.load_model(name) for role, name in names.items() if name}
    if not models:
        raise ValueError("--source, --target: expected one model at least, got none.")
    alone = len(devices) == 1 and config.partition == "pjit"
    stores = run(
        config,
        models,
        launch.open_workdir("runs/embed"),
        share=Share(jax.process_index(), jax.process_count()),
        mesh=None if alone else data_mesh(devices),
    )
    print(describe_stores(stores))
    print(f"{time.perf_counter() - started:.0f} s in all.", flush=True)


flags.adopt_module_key_flags(launch_processes)
for _name in (
    *("source", "target", "dtype", "dataset", "data_dir", "workdir", "batch_size"),
    "tiny",
):
    flags.declare_key_flag(_name)

if __name__ == "__main__":
    launch.launch(main)
