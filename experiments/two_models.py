# SPDX-License-Identifier: Apache-2.0
"""The flags of a study of two models."""

from typing import Any

from experiments import launch


def read_models() -> dict[str, Any]:
    """Read the flags of `TwoModels`."""
    return {
        "source": launch.SOURCE.value,
        "target": launch.TARGET.value,
        "dtype": launch.DTYPE.value,
        "dataset": launch.dataset_name(),
        "data_dir": launch.DATA_DIR.value,
        "batch_size": launch.BATCH_SIZE.value,
    }
