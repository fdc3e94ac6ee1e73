# SPDX-License-Identifier: Apache-2.0
"""jaxalign: one orthogonal map from one image-text model's space to another's.

Public names are loaded on first use, so that a numerical programmer who imports a
solver loads neither transformers nor an image library.
"""

import importlib
from typing import TYPE_CHECKING

from jaxalign._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxalign.data.planted import PlantedPairs as PlantedPairs
    from jaxalign.data.planted import planted_pairs as planted_pairs
    from jaxalign.data.planted import random_rotation as random_rotation
    from jaxalign.maps.alignment_map import AlignmentMap as AlignmentMap
    from jaxalign.maps.fit import fit_map as fit_map
    from jaxalign.moments import Moments as Moments
    from jaxalign.moments import init_moments as init_moments
    from jaxalign.moments import merge_moments as merge_moments
    from jaxalign.moments import subtract_moments as subtract_moments
    from jaxalign.moments import update_moments as update_moments
    from jaxalign.sharding import DATA_AXIS as DATA_AXIS
    from jaxalign.sharding import data_mesh as data_mesh
    from jaxalign.sharding import pad_rows as pad_rows
    from jaxalign.sharding import row_sharding as row_sharding
    from jaxalign.solve.linear import LinearSolution as LinearSolution
    from jaxalign.solve.linear import RidgeChoice as RidgeChoice
    from jaxalign.solve.linear import choose_ridge as choose_ridge
    from jaxalign.solve.linear import solve_linear as solve_linear
    from jaxalign.solve.mlp import MlpSolution as MlpSolution
    from jaxalign.solve.mlp import fit_mlp as fit_mlp
    from jaxalign.solve.polar import PolarFactor as PolarFactor
    from jaxalign.solve.polar import polar_factor as polar_factor
    from jaxalign.solve.procrustes import ProcrustesSolution as ProcrustesSolution
    from jaxalign.solve.procrustes import solve_procrustes as solve_procrustes
    from jaxalign.status import SolveError as SolveError
    from jaxalign.status import Status as Status

_HOMES: dict[str, str] = {
    "AlignmentMap": "jaxalign.maps.alignment_map",
    "DATA_AXIS": "jaxalign.sharding",
    "LinearSolution": "jaxalign.solve.linear",
    "MlpSolution": "jaxalign.solve.mlp",
    "Moments": "jaxalign.moments",
    "PlantedPairs": "jaxalign.data.planted",
    "PolarFactor": "jaxalign.solve.polar",
    "ProcrustesSolution": "jaxalign.solve.procrustes",
    "RidgeChoice": "jaxalign.solve.linear",
    "SolveError": "jaxalign.status",
    "Status": "jaxalign.status",
    "choose_ridge": "jaxalign.solve.linear",
    "data_mesh": "jaxalign.sharding",
    "fit_map": "jaxalign.maps.fit",
    "fit_mlp": "jaxalign.solve.mlp",
    "init_moments": "jaxalign.moments",
    "merge_moments": "jaxalign.moments",
    "pad_rows": "jaxalign.sharding",
    "planted_pairs": "jaxalign.data.planted",
    "polar_factor": "jaxalign.solve.polar",
    "random_rotation": "jaxalign.data.planted",
    "row_sharding": "jaxalign.sharding",
    "solve_linear": "jaxalign.solve.linear",
    "solve_procrustes": "jaxalign.solve.procrustes",
    "subtract_moments": "jaxalign.moments",
    "update_moments": "jaxalign.moments",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxalign' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
