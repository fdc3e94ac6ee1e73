# SPDX-License-Identifier: Apache-2.0
"""The flags of experiments that read two stores, and what the stores share."""

from absl import flags

from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError
from jaxalign.store.reader import EmbeddingStore

SOURCE_STORE = flags.DEFINE_string(
    "source_store", None, "Folder of the source model's store, as `embed` writes it."
)
TARGET_STORE = flags.DEFINE_string(
    "target_store", None, "Folder of the target model's store, of the same data."
)


def shared_modalities(source: EmbeddingStore, target: EmbeddingStore) -> list[Modality]:
    """Modalities that both stores hold; at least one."""
    shared = [name for name in source.modalities if name in target.modalities]
    if not shared:
        raise ArgumentError(
            "--target_store",
            f"rows of {list(source.modalities)}, as the source store",
            list(target.modalities),
            "embed the same modality with both models",
        )
    return shared
