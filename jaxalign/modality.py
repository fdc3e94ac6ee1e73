# SPDX-License-Identifier: Apache-2.0
"""The name of a modality, apart from array types: importing it loads no JAX."""

from typing import TypeAlias

Modality: TypeAlias = str
"""Which tower a row comes from: `"image"`, `"text"`, or any other name."""
