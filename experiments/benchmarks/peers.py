# SPDX-License-Identifier: Apache-2.0
"""Other engines on the same checkpoint: torch eager and compiled, ONNX Runtime.

Each is optional, and left out with a word where its package is missing. They read the
folder that jaxalign wrote, so that all engines compute the same rows.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

Engine = Callable[[], np.ndarray]
"""Encodes one fixed batch and returns its rows."""


def torch_engines(folder: Path, modality: str, batch: np.ndarray) -> dict[str, Engine]:
    """Return torch eager and compiled, float32 and bfloat16; nothing without torch."""
    try:
        import torch
        import transformers
    except ImportError:
        return {}
    torch.set_num_threads(cpu_count())
    engines = {}
    for dtype in ("float32", "bfloat16"):
        typed = transformers.AutoModel.from_pretrained(
            folder, dtype=getattr(torch, dtype)
        ).eval()
        forward = _torch_forward(typed, modality)
        inputs = _torch_inputs(batch, getattr(torch, dtype))
        for name, call in (("eager", forward), ("compile", torch.compile(forward))):
            engines[f"torch {name} {dtype}"] = _torch_engine(call, inputs)
    return engines


def onnx_engine(
    folder: Path, modality: str, batch: np.ndarray, scratch: Path
) -> dict[str, Engine]:
    """Return ONNX Runtime in float32 on torch's export; nothing without either."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch exports with
        import torch
        import transformers
    except ImportError:
        return {}
    model = transformers.AutoModel.from_pretrained(folder).eval()
    forward = _torch_forward(model, modality)

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs):
            return forward(inputs)

    inputs = _torch_inputs(batch, torch.float32)
    path = scratch / f"{modality}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Tower().eval(), (inputs,), str(path), dynamo=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_count()
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    feed = {name: inputs.numpy()}
    return {"ONNX Runtime float32": lambda: np.asarray(session.run(None, feed)[0])}


def cpu_count() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _torch_forward(model, modality):
    """Return the function from inputs to features."""
    if modality == "image":
        return lambda inputs: (
            model.get_image_features(pixel_values=inputs).pooler_output
        )
    return lambda inputs: model.get_text_features(input_ids=inputs).pooler_output


def _torch_inputs(batch, dtype):
    """Return pictures with channels first in a dtype, or token ids."""
    import torch

    if batch.ndim == 4:
        planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return torch.from_numpy(planes).to(dtype)
    return torch.from_numpy(batch.astype(np.int64))


def _torch_engine(forward, inputs) -> Engine:
    """Bind inputs, without gradients."""
    import torch

    def encode() -> np.ndarray:
        with torch.inference_mode():
            return forward(inputs).float().numpy()

    return encode
