# SPDX-License-Identifier: Apache-2.0
"""torch as a peer on the same device: a Procrustes fit, and CLIP by transformers.

torch reads the buffers of JAX arrays, so that both engines work on the same rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.accelerator_timing import Job

_DEVICES = {"cpu": "cpu", "gpu": "cuda"}


class Torch(NamedTuple):
    """The module, and the name of the device that JAX computes on."""

    module: Any
    device: str

    def forget_peak(self) -> None:
        """Free what is cached, and start measuring the peak of memory anew."""
        if self.device == "cuda":
            self.module.cuda.empty_cache()
            self.module.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> dict[str, int]:
        """Return the bytes held at most; {} where torch does not say."""
        if self.device != "cuda":
            return {}
        return {"torch_peak_bytes": int(self.module.cuda.max_memory_allocated())}

    def view(self, array: jax.Array) -> Any:
        """Return a tensor on the memory of a JAX array."""
        return self.module.from_dlpack(array)


def find_torch(job: Job) -> tuple[Torch | None, str]:
    """Return torch on JAX's device, or None and why it is left out."""
    if not job.torch:
        return None, "left out: --no-torch"
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return None, f"left out: not installed ({error})"
    device = _DEVICES.get(jax.default_backend())
    if device is None or (device == "cuda" and not torch.cuda.is_available()):
        backend = jax.default_backend()
        return None, f"left out: this torch does not compute on {backend!r}"
    return Torch(torch, device), ""


def fit_engine(
    torch: Torch, batches: Sequence[tuple[jax.Array, jax.Array]]
) -> Callable[[], np.ndarray]:
    """Return a fit by torch from batches of rows: means, products, SVD."""
    views = [tuple(torch.view(side) for side in pair) for pair in batches]
    count = sum(len(source) for source, _ in views)

    def fit():
        source_mean, target_mean = (
            sum(pair[side].sum(0) for pair in views) / count for side in (0, 1)
        )
        cross = sum(
            (target - target_mean).T @ (source - source_mean)
            for source, target in views
        )
        u, _, vt = torch.module.linalg.svd(cross, full_matrices=False)
        # Brought to the host, which waits for the device.
        return (u @ vt).cpu().numpy()

    return fit


def tower_engines(
    torch: Torch, folder: Path, modality: str, batch: np.ndarray
) -> dict[str, Callable[[], np.ndarray]]:
    """Return CLIP of a folder by transformers, in each dtype; rows come normalised.

    The engine "TF32" may round the factors of float32 products to TensorFloat-32.
    """
    import transformers

    module = torch.module
    engines = {}
    for name, precision in (
        ("float32", "highest"),
        ("float32, TF32", "high"),
        ("bfloat16", "highest"),
    ):
        if precision == "high" and torch.device == "cpu":
            continue
        dtype = getattr(module, name.split(",")[0])
        model = transformers.CLIPModel.from_pretrained(folder, dtype=dtype)
        model = model.eval().to(torch.device)
        inputs = _inputs(torch, batch, dtype)

        def encode(model=model, inputs=inputs, precision=precision) -> np.ndarray:
            before = module.get_float32_matmul_precision()
            module.set_float32_matmul_precision(precision)
            try:
                with module.inference_mode():
                    rows = _features(model, modality, inputs).float()
                    rows = rows / rows.norm(dim=-1, keepdim=True)
            finally:
                module.set_float32_matmul_precision(before)
            return rows.cpu().numpy()

        engines[f"torch {name}"] = encode
    return engines


def _features(model, modality, inputs):
    """Return projected rows; newer versions of transformers wrap them."""
    if modality == "image":
        rows = model.get_image_features(pixel_values=inputs)
    else:
        rows = model.get_text_features(input_ids=inputs)
    return getattr(rows, "pooler_output", rows)


def _inputs(torch, batch, dtype):
    """Return pictures with channels first, or token ids, on the device."""
    if batch.ndim == 4:
        planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return torch.module.from_numpy(planes).to(torch.device, dtype)
    return torch.module.from_numpy(batch.astype(np.int64)).to(torch.device)
