# SPDX-License-Identifier: Apache-2.0
r"""Fit the map from two stores of one data set, and say how far to trust it.

    python -m experiments.embed --workdir=runs/embed
    python -m experiments.fit --source_store=runs/embed/source \
        --target_store=runs/embed/target

One pass over the rows of each modality, in constant memory, over all devices of all
processes; killed and started again, it goes on from its last checkpoint and ends with
the same bits. Writes `map.safetensors`, `results.json` and `report.html`.
"""

import dataclasses
import functools
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

import jaxalign as ja
from experiments import launch, launch_processes, launch_stores
from experiments.launch_stores import SOURCE_STORE, TARGET_STORE, shared_modalities
from jaxalign.anchors.stores import MatchedRows
from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.evaluate.rows import ResultRow
from jaxalign.report.document import (
    paragraphs,
    run_section,
    section,
    table,
    write_document,
)
from jaxalign.report.results import library_versions
from jaxalign.report.trust import describe_trust

_BLOCKS = flags.DEFINE_integer(
    "blocks",
    64,
    "Blocks that rows are dealt to, for intervals. Each holds a matrix of its own.",
    lower_bound=8,
)
_REPLICATES = flags.DEFINE_integer(
    "replicates",
    200,
    "Fits of resampled blocks behind the intervals; 0: none. Each costs a solve.",
    lower_bound=0,
)
_CHECKPOINT_EVERY = flags.DEFINE_integer(
    "checkpoint_every", 64, "Batches between checkpoints.", lower_bound=1
)
_SCALE = flags.DEFINE_enum(
    "scale",
    "energy",
    ["energy", "none", "least_squares"],
    "Of rows after the rotation; none is the paper's.",
)
BATCH_SIZE = 8192
TINY_PAIRS = 512


@dataclasses.dataclass(frozen=True)
class Config:
    """What the experiment depends on; stored with the map."""

    source_store: str
    target_store: str
    fit_on: str = "image"
    scale: str = "energy"
    batch_size: int = BATCH_SIZE
    blocks: int = 64
    replicates: int = 200
    checkpoint_every: int = 64
    most_pairs: int | None = None


def accumulate(
    config: Config,
    stores: tuple[ja.EmbeddingStore, ja.EmbeddingStore],
    matched: MatchedRows,
    modality: str,
    workdir: Path,
) -> ja.Moments:
    """Pass over one modality: moments by block, on all processes alike."""
    count = min(matched.count, config.most_pairs or matched.count)
    rows = ja.anchors.process_rows(
        count, jax.process_index(), jax.process_count(), multiple=config.batch_size
    )
    batches = ja.anchors.store_pairs(
        *stores,
        modality,
        matched=matched,
        group=functools.partial(ja.trust.block_of_rows, blocks=config.blocks),
        batch_size=config.batch_size,
        rows=rows,
    )
    details = {
        "modality": modality,
        # One default folder serves every run: other rows must not pass for these.
        "stores": [store.fingerprint for store in stores],
        "pairs": count,
        "batch_size": config.batch_size,
    }
    folder = workdir / "moments" / modality
    title = f"Moments of {modality} rows"
    with (
        ja.moments.PassCheckpoints(
            folder, every=config.checkpoint_every, details=details
        ) as checkpoints,
        tqdm(total=len(rows), desc=title, unit=" pairs", unit_scale=True) as bar,
    ):

        def report(done: int) -> None:
            # What a checkpoint brought back counts as done before the first batch.
            bar.update(batches.get_state()["next_row"] - rows.start - bar.n)

        return ja.accumulate_moments(
            batches,
            mesh=ja.sharding.data_mesh(),
            groups=config.blocks,
            grams=True,
            checkpoints=checkpoints,
            report=report,
        )


def run(config: Config, workdir: Path) -> tuple[ja.AlignmentMap, list[str]]:
    """Fit, assess, write; return the map and what there is to say."""
    stores = (
        ja.EmbeddingStore.open(config.source_store),
        ja.EmbeddingStore.open(config.target_store),
    )
    matched = ja.anchors.match_stores(*stores)
    modalities = shared_modalities(*stores)
    if config.fit_on != "all" and config.fit_on not in modalities:
        raise ArgumentError(
            "--fit_on",
            f"'all' or one of {modalities}, which both stores hold",
            f"{config.fit_on!r}",
        )
    blocks = {
        name: accumulate(config, stores, matched, name, workdir) for name in modalities
    }
    amap = ja.fit_map(
        {name: ja.moments.reduce_groups(one) for name, one in blocks.items()},
        fit_on=config.fit_on,
        scale=config.scale,  # pyright: ignore[reportArgumentType]
        source_space=stores[0].space,
        target_space=stores[1].space,
        card={"stores": as_json(config)},
    )
    said = [describe_pairs(config, stores, matched)]
    rows = []
    # The first process alone writes; the map is the same on all.
    if jax.process_index() == 0:
        amap.save(workdir / "map.safetensors")
    # A map of all modalities is assessed by what each would give alone.
    names = modalities if config.fit_on == "all" else [config.fit_on]
    for name in names if config.replicates else []:
        print(f"Assessing the fit on {name} rows ...", flush=True)
        trust = ja.assess_map(
            blocks[name],
            replicates=config.replicates,
            scale=config.scale,  # pyright: ignore[reportArgumentType]
        )
        who = f"{name} alone" if len(names) > 1 else name
        said += [f"{who}: {sentence}" for sentence in describe_trust(trust)]
        rows += trust_rows(trust, name, config)
    if jax.process_index() == 0:
        write(workdir, config, amap, rows, said)
    return amap, said


def trust_rows(trust: ja.trust.Trust, modality: str, config: Config) -> list[ResultRow]:
    """Give the assessment as result rows."""
    found = {
        "agreement": trust.metrics.agreement,
        "relative_residual": trust.metrics.relative_residual,
        "held_out_error": trust.held_out,
    }
    return [
        ResultRow(
            table=f"fit on {modality} rows",
            method="orthogonal map",
            metric=metric,
            value=_finite(value.estimate),
            # Too few rows to hold any out give no number, and the verdict says so.
            interval=(
                (float(value.low), float(value.high))
                if np.all(np.isfinite([value.low, value.high]))
                else None
            ),
            n=int(trust.anchors),
            seed=0,
            config=as_json(config),
        )
        for metric, value in found.items()
    ]


def _finite(value: ArrayLike) -> float | None:
    """Give a number, or None where there is none."""
    return float(value) if np.isfinite(value) else None


def write(
    workdir: Path,
    config: Config,
    amap: ja.AlignmentMap,
    rows: list[ResultRow],
    said: list[str],
) -> None:
    """Write the results and the page."""
    ja.report.write_results(workdir / "results.json", rows)
    lines = [
        [
            f"{row.metric}, {row.table}",
            "-" if row.value is None else f"{row.value:.4f}",
            "-" if row.interval is None else "{:.4f} to {:.4f}".format(*row.interval),
        ]
        for row in rows
    ]
    fit = amap.card["fit"]
    of_modality = [
        [
            name,
            f"{found['anchors']:,}",
            f"{found['scale']:.4f}",
            f"{found['relative_residual']:.4f}",
        ]
        for name, found in fit["modalities"].items()
    ]
    write_document(
        workdir / "report.html",
        f"One map from {config.source_store} to {config.target_store}",
        [
            section("How far to trust it", paragraphs(said)),
            section("The fit", table(["", "estimate", "95 % interval"], lines)),
            section(
                "Modalities",
                table(["", "pairs", "scale", "relative residual"], of_modality),
            ),
            run_section(as_json(config), library_versions()),
        ],
    )


def describe_pairs(
    config: Config,
    stores: tuple[ja.EmbeddingStore, ja.EmbeddingStore],
    matched: MatchedRows,
) -> str:
    """Say what the map was fitted on."""
    count = min(matched.count, config.most_pairs or matched.count)
    text = f"{count:,} pairs of rows, widths "
    text += " and ".join(str(store.dim(store.modalities[0])) for store in stores)
    alone = matched.source_only + matched.target_only
    if alone:
        text += (
            f"; {matched.source_only:,} rows of the source store and "
            f"{matched.target_only:,} of the target's have no partner and are left out"
        )
    return text + "."


def as_json(config: Config) -> dict:
    """Settings as JSON values."""
    return dataclasses.asdict(config)


def main() -> None:
    """Read the flags, run, and say what came out."""
    launch_processes.join()
    started = time.perf_counter()
    for flag in (SOURCE_STORE, TARGET_STORE):
        if flag.value is None:
            raise ArgumentError(
                f"--{flag.name}",
                "the folder of a store",
                "none",
                "write both by `python -m experiments.embed`",
            )
    own_size = flags.FLAGS["batch_size"].present
    config = Config(
        source_store=SOURCE_STORE.value or "",
        target_store=TARGET_STORE.value or "",
        fit_on=launch.FIT_ON.value,
        scale=_SCALE.value,
        batch_size=launch.BATCH_SIZE.value if own_size else BATCH_SIZE,
        blocks=_BLOCKS.value,
        replicates=_REPLICATES.value,
        checkpoint_every=_CHECKPOINT_EVERY.value,
    )
    if launch.TINY.value:
        config = dataclasses.replace(
            config,
            most_pairs=TINY_PAIRS,
            replicates=min(config.replicates, 20),
            blocks=min(config.blocks, 16),
        )
    workdir = launch.open_workdir("runs/fit")
    _, said = run(config, workdir)
    print("\n".join(said))
    print(
        f"\nWritten to {workdir}: map.safetensors, results.json, report.html."
        f"\n{time.perf_counter() - started:.0f} s in all."
    )
    sys.stdout.flush()


flags.adopt_module_key_flags(launch_processes)
flags.adopt_module_key_flags(launch_stores)
for _name in ("workdir", "fit_on", "batch_size", "tiny"):
    flags.declare_key_flag(_name)

if __name__ == "__main__":
    launch.launch(
        main, unused=("source", "target", "dtype", "dataset", "data_dir", "seeds")
    )
