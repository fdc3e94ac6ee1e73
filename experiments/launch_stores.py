# SPDX-License-Identifier: Apache-2.0
"""The flags of experiments that read two stores."""

from absl import flags

SOURCE_STORE = flags.DEFINE_string(
    "source_store", None, "Folder of the source model's store, as `embed` writes it."
)
TARGET_STORE = flags.DEFINE_string(
    "target_store", None, "Folder of the target model's store, of the same data."
)
