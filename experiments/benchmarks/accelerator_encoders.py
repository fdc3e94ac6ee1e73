# SPDX-License-Identifier: Apache-2.0
"""CLIP ViT-B/32 with random weights on an accelerator: pictures and texts a second.

No hub is asked, and no picture is decoded. torch loads the same weights.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from transformers import CLIPConfig

from experiments.benchmarks.accelerator_record import (
    OUT_OF_TIME,
    Measurement,
    timed,
)
from experiments.benchmarks.accelerator_timing import (
    Job,
    Timing,
    first_line,
    time_in_turns,
)
from experiments.benchmarks.accelerator_torch import find_torch, tower_engines
from jaxalign.encoders.checkpoint import abstract_model, save_model
from jaxalign.encoders.configs import text_config, vision_config
from jaxalign.encoders.families import find_family
from jaxalign.encoders.quiet import quiet_transformers

MODALITIES = {"image": "ViT-B/32 pictures", "text": "CLIP texts"}
_BATCH, _TINY_BATCH = 256, 4
# Of a small tower in float32 on two processors: rounding of sums in another order.
_CLOSE = 1e-4


def make_config(*, tiny: bool) -> CLIPConfig:
    """Return the config of CLIP ViT-B/32, which is the default, or one of toy size."""
    if not tiny:
        return CLIPConfig()
    small = dict(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    text = dict(
        small,
        vocab_size=512,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    vision = dict(small, patch_size=8, image_size=32)
    return CLIPConfig(vision_config=vision, text_config=text, projection_dim=32)


@dataclasses.dataclass(frozen=True)
class Towers:
    """Both towers of a model: how they are built, and float32 parameters on the host.

    Attributes:
      config: of the model.
      graph: of the model, as by `nnx.split`.
      parameters: NumPy arrays.
    """

    config: CLIPConfig
    graph: Any
    parameters: Any

    def on_device(self, dtype: str, device: Any = None) -> Any:
        """Return the parameters in a dtype, on a device."""
        return jax.tree.map(
            lambda value: jax.device_put(value.astype(dtype), device), self.parameters
        )

    def rows(self, modality: str) -> Callable[[Any, jax.Array], jax.Array]:
        """Return the compiled function from parameters and a batch to unit rows."""
        return jax.jit(functools.partial(_unit_rows, self.graph, modality))


def _unit_rows(graph, modality, parameters, batch):
    """Encode and normalise, as `jaxalign.encoders.Encoders` does."""
    model = nnx.merge(graph, parameters)
    encode = model.image_features if modality == "image" else model.text_features
    rows = encode(batch).astype(jnp.float32)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


def build(config: CLIPConfig) -> Towers:
    """Draw a model's parameters on the host: no program is compiled for it."""
    rng = np.random.default_rng(0)
    graph, shapes = abstract_model(find_family("clip"), config)
    drawn = [
        (path, variable.replace(_draw(rng, str(path[-1]), variable.shape)))
        for path, variable in nnx.to_flat_state(shapes)
    ]
    return Towers(config, graph, nnx.from_flat_state(drawn))


def _draw(rng, name, shape):
    """Draw a parameter as a trained model may have it: nothing grows or vanishes."""
    if name == "bias":
        return np.zeros(shape, np.float32)
    if name in ("scale", "logit_scale"):
        return np.ones(shape, np.float32)
    values = rng.standard_normal(shape, dtype=np.float32)
    return values * np.float32(shape[0] ** -0.5 if name == "kernel" else 0.02)


def make_batch(config: CLIPConfig, modality: str, count: int) -> np.ndarray:
    """Draw normalised pixels, or token ids that end with the end token."""
    rng = np.random.default_rng(1)
    if modality == "image":
        size = vision_config(config).image_size
        return rng.standard_normal((count, size, size, 3), dtype=np.float32)
    sizes = text_config(config)
    ids = rng.integers(2, sizes.vocabulary - 2, (count, sizes.length))
    ids[:, -1] = sizes.eos_id or 0
    return ids.astype(np.int32)


def time_encoders(job: Job) -> Iterator[list[Measurement]]:
    """Check a small model against the host's processor; time the released size."""
    yield _compare_with_host()
    towers = build(make_config(tiny=job.tiny))
    torch, reason = find_torch(job)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if torch is not None:
            save_model(folder, towers.parameters, towers.config)
        else:
            yield [Measurement("encoders", "torch", note=reason)]
        for modality, title in MODALITIES.items():
            if job.deadline.passed:
                yield [Measurement(f"encoders, {title}", "all", note=OUT_OF_TIME)]
                continue
            yield _time_tower(job, towers, modality, torch, folder)


def _time_tower(job, towers, modality, torch, folder) -> list[Measurement]:
    """Time one tower on all engines."""
    count = _TINY_BATCH if job.tiny else _BATCH
    host = make_batch(towers.config, modality, count)
    batch, rows = jax.device_put(host), towers.rows(modality)
    # All engines bring their rows to the host.
    calls: dict[str, Callable[[], np.ndarray]] = {
        f"jaxalign {dtype}": functools.partial(
            lambda parameters: np.asarray(rows(parameters, batch)),
            towers.on_device(dtype),
        )
        for dtype in ("float32", "bfloat16")
    }
    further = []
    section = f"encoders, {MODALITIES[modality]}"
    if torch is not None:
        try:
            with quiet_transformers():
                calls |= tower_engines(torch, folder, modality, host)
        # Another library's trouble must not end our own measurements.
        except Exception as error:  # noqa: BLE001
            note = f"not available: {first_line(error)}"
            further = [Measurement(section, "torch", note=note)]
    timings = time_in_turns(calls, rounds=job.rounds, deadline=job.deadline)
    reference = timings["jaxalign float32"].value
    return [
        *(
            timed(
                section,
                name,
                timing,
                optional=name.startswith("torch"),
                shape=" x ".join(map(str, host.shape)),
                dtype=name.split()[1].rstrip(","),
                errors=_distances(reference, timing),
                figures={"rows_per_s": count / timing.seconds}
                if timing.seconds
                else {},
            )
            for name, timing in timings.items()
        ),
        *further,
    ]


def _distances(reference: np.ndarray | None, timing: Timing) -> dict[str, float]:
    """Measure rows against ours in float32.

    Random towers give rows that are alike, so the difference is also told as a part of
    their spread.
    """
    if reference is None or timing.value is None:
        return {}
    exact = reference.astype(np.float64)
    missed = np.linalg.norm(timing.value - exact, axis=1)
    spread = np.linalg.norm(exact - exact.mean(axis=0), axis=1).mean()
    cosines = (timing.value * exact).sum(axis=1)
    return {
        "1_minus_cosine": float(np.max(1.0 - cosines)),
        "of_spread": float(missed.max() / spread),
    }


def _compare_with_host() -> list[Measurement]:
    """Compare float32 rows of a small model with those of this host's processor."""
    section = "encoders, a small model against the host's processor"
    try:
        host = jax.devices("cpu")[0]
    except RuntimeError:
        note = "JAX_PLATFORMS leaves out the CPU"
        return [Measurement(section, "all", note=note)]
    towers, lines = build(make_config(tiny=True)), []
    for modality, name in MODALITIES.items():
        rows = towers.rows(modality)
        batch = make_batch(towers.config, modality, _TINY_BATCH)
        found, expected = (
            np.asarray(
                rows(towers.on_device("float32", place), jax.device_put(batch, place))
            )
            for place in (jax.devices()[0], host)
        )
        error = float(np.abs(found - expected).max())
        lines.append(
            Measurement(
                section,
                name,
                dtype="float32",
                errors={"distance": error},
                # NaN compares false.
                passed=error <= _CLOSE,
            )
        )
    return lines
