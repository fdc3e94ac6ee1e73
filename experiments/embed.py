# SPDX-License-Identifier: Apache-2.0
"""Embed a data set with one model or two, into stores on disk.

    python -m experiments.embed
    python -m experiments.embed --dataset=/data/pictures --source=openai/clip-vit-base-patch32 --target=

Writes an `EmbeddingStore` for each model, `source` and `target`, to --workdir: the
folder layout of clip-retrieval and autofaiss, and a manifest. May be killed at any
moment: started again, it goes on and ends in the same bytes. Runs as one process or as
several (see BUILD.md), which then share --workdir.
"""  # noqa: E501

import time
from typing import cast

import jax
from absl import flags

from experiments import launch, launch_processes
from jaxalign.data import catalog
from jaxalign.embedding.into_stores import MOST_UNREADABLE_IN_A_ROW
from jaxalign.embedding.shares import Share
from jaxalign.encoders.partition import PARTITIONS, Partition
from jaxalign.errors import ArgumentError
from jaxalign.workflows.embed import (
    Config,
    StoreDtype,
    default_split,
    default_workers,
    describe_stores,
    local_mesh,
    run,
)

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
    mesh = local_mesh(config)
    names = {"source": launch.SOURCE.value, "target": launch.TARGET.value}
    models = {role: launch.load_model(name) for role, name in names.items() if name}
    if not models:
        raise ArgumentError("--source, --target", "one model at least", "none")
    stores = run(
        config,
        models,
        launch.open_workdir("runs/embed"),
        share=Share(jax.process_index(), jax.process_count()),
        mesh=mesh,
        say=lambda text: print(text, flush=True),
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
