# SPDX-License-Identifier: Apache-2.0
"""How fast the encoders are, beside torch and ONNX Runtime on the same checkpoint.

    python -m experiments.benchmarks.encoders

Random weights of the released sizes. All engines take turns in one process; the table
has medians, FLOPs, the achieved rate, and its share of the rate of a large float32
matrix product, timed in the same turns. Peers need `torch` (the extra `parity`) and
`onnxruntime onnx onnxscript`; those that are missing are left out.
"""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from experiments import launch
from experiments.benchmarks import peers
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.launch_benchmark import ROUNDS
from experiments.benchmarks.models import clip_config
from jaxalign.atomic_files import write_atomically
from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.configs import (
    TextConfig,
    VisionConfig,
    read_integer,
    text_config,
    vision_config,
)
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.families import find_family
from jaxalign.encoders.pretrained import DTYPES, load_encoders
from jaxalign.report.results import library_versions

_PEERS = flags.DEFINE_boolean("peers", True, "Also time torch and ONNX Runtime.")

CEILING = "float32 matmul"


@dataclasses.dataclass(frozen=True)
class Case:
    """One tower at one batch size."""

    name: str
    modality: str
    batch: int
    patch: int = 32
    tiny: bool = False

    def config(self) -> Any:
        """Return the sizes of CLIP ViT-B, or toy ones."""
        return clip_config(patch=self.patch, tiny=self.tiny)


def make_cases(*, tiny: bool, batch_size: int | None) -> list[Case]:
    """Return the towers that are timed."""
    sizes = (("ViT-B/32 image", "image", 32, 32), ("ViT-B/16 image", "image", 8, 16))
    cases = [
        Case(name, modality, batch_size or batch, patch, tiny)
        for name, modality, batch, patch in sizes
    ]
    return [*cases, Case("CLIP text", "text", batch_size or 32, tiny=tiny)]


def count_flops(config: Any, modality: str) -> int:
    """Return the floating-point operations of one row's matrix products.

    With t tokens of width d, and h inside the MLP, a block takes 2 t (4 d^2 + 2 d h)
    in its dense layers and 4 t^2 d in attention.
    """
    sizes: VisionConfig | TextConfig
    if modality == "image":
        sizes = vision_config(config)
        tokens = sizes.patches + 1
        stem = 2 * sizes.patches * 3 * sizes.patch_size**2 * sizes.width
    else:
        sizes = text_config(config)
        tokens, stem = sizes.length, 0
    dense = 2 * tokens * (4 * sizes.width**2 + 2 * sizes.width * sizes.hidden)
    attention = 4 * tokens**2 * sizes.width
    head = 2 * sizes.width * read_integer(config, "projection_dim")
    return stem + sizes.depth * (dense + attention) + head


def run_case(case: Case, *, rounds: int, with_peers: bool, matmul: int) -> list[dict]:
    """Time one tower on every engine; return a row for each."""
    config = case.config()
    batch = make_batch(case, config)
    model = find_family("clip").build(config, rngs=nnx.Rngs(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder, nnx.state(model), config)
        ours = {dtype: load_encoders(folder, dtype=dtype) for dtype in DTYPES}
        engines: dict[str, Callable[[], object]] = {
            f"jaxalign {dtype}": functools.partial(encode, one, case.modality, batch)
            for dtype, one in ours.items()
        }
        if with_peers:
            engines |= peers.torch_engines(folder, case.modality, batch)
            engines |= peers.onnx_engine(folder, case.modality, batch, folder)
        reference = _unit(engines["jaxalign float32"]())
        cosines = {
            engine: float((_unit(call()) * reference).sum(-1).min())
            for engine, call in engines.items()
        }
        seconds = median_seconds(
            engines | {CEILING: large_product(matmul)}, rounds=rounds
        )
    ceiling = 2 * matmul**3 / seconds.pop(CEILING)
    work = count_flops(config, case.modality) * case.batch
    memory = {
        f"jaxalign {d}": compiled_bytes(e, case.modality, batch)
        for d, e in ours.items()
    }
    return [
        {
            "case": case.name,
            "batch": case.batch,
            "engine": engine,
            "rows_per_second": case.batch / taken,
            "gflop_per_row": work / case.batch / 1e9,
            "gflop_per_second": work / taken / 1e9,
            "share_of_float32_matmul": work / taken / ceiling,
            "cosine_with_float32": cosines[engine],
            "peak_bytes": memory.get(engine),
            "rounds": rounds,
        }
        for engine, taken in seconds.items()
    ]


def make_batch(case: Case, config: Any) -> np.ndarray:
    """Draw pixels, or token ids that end with the end token."""
    rng = np.random.default_rng(0)
    if case.modality == "image":
        size = vision_config(config).image_size
        return rng.standard_normal((case.batch, size, size, 3)).astype(np.float32)
    sizes = text_config(config)
    ids = rng.integers(3, sizes.vocabulary - 2, (case.batch, sizes.length))
    ids[:, -1] = min(sizes.eos_id or 0, sizes.vocabulary - 1)
    return ids.astype(np.int32)


def encode(encoders: Encoders, modality: str, batch: np.ndarray) -> np.ndarray:
    """Encode and wait."""
    call = encoders.encode_image if modality == "image" else encoders.encode_text
    return np.asarray(call(batch))


def compiled_bytes(encoders: Encoders, modality: str, batch: np.ndarray) -> int | None:
    """Return what the compiled program holds at most: parameters, batch, buffers."""
    stats = encoders.compile(modality, batch).memory_analysis()
    if stats is None:  # some backends do not say
        return None
    return stats.argument_size_in_bytes + stats.temp_size_in_bytes


def large_product(size: int) -> Callable[[], object]:
    """Return a float32 matrix product of that size: the ceiling of what is possible."""
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(functools.partial(jnp.matmul, precision="highest"))
    return lambda: product(matrix, matrix).block_until_ready()


def format_rows(rows: list[dict]) -> str:
    """Lay the rows out as a table."""
    heads = ("rows", "GFLOP", "GFLOP", "of f32", "cosine", "memory")
    units = ("per s", "a row", "per s", "matmul", "to f32", "MB")
    lines = [f"{'':40}" + "".join(f"{head:>9}" for head in heads)]
    lines += [f"{'':40}" + "".join(f"{unit:>9}" for unit in units)]
    for name in dict.fromkeys(row["case"] for row in rows):
        chosen = [row for row in rows if row["case"] == name]
        lines.append(f"{name}, batch {chosen[0]['batch']}")
        for row in chosen:
            memory = row["peak_bytes"]
            lines.append(
                f"  {row['engine']:38}{row['rows_per_second']:9.1f}"
                f"{row['gflop_per_row']:9.2f}{row['gflop_per_second']:9.0f}"
                f"{row['share_of_float32_matmul']:9.2f}"
                f"{row['cosine_with_float32']:9.5f}"
                + (f"{memory / 1e6:9.0f}" if memory else f"{'-':>9}")
            )
    return "\n".join(lines)


def _unit(rows) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def main() -> None:
    """Time every case, print the table and write `results.json`."""
    tiny = launch.TINY.value
    workdir = launch.open_workdir("runs/benchmarks/encoders")
    batch_size = launch.BATCH_SIZE.value if launch.BATCH_SIZE.present else None
    rows = []
    for case in make_cases(tiny=tiny, batch_size=batch_size):
        rows += run_case(
            case,
            rounds=2 if tiny else ROUNDS.value,
            with_peers=_PEERS.value,
            matmul=256 if tiny else 2048,
        )
    print(format_rows(rows))
    document = {"versions": library_versions(), "rows": rows}
    write_atomically(workdir / "results.json", json.dumps(document, indent=1) + "\n")
    print(f"\nWritten to {workdir}/results.json.")


flags.adopt_module_key_flags(launch)
flags.declare_key_flag("rounds")

if __name__ == "__main__":
    launch.launch(main, unused=("sections",))
