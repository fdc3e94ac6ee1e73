# SPDX-License-Identifier: Apache-2.0
"""jaxalign: one orthogonal map from one image-text model's space to another's.

Public names are loaded on first use, so that a numerical programmer who imports a
solver loads neither transformers nor an image library.
"""

import importlib
from typing import TYPE_CHECKING

from jaxalign._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxalign import stiefel as stiefel
    from jaxalign.anchors.arrays import array_pairs as array_pairs
    from jaxalign.anchors.arrays import process_rows as process_rows
    from jaxalign.anchors.encoded import encoded_pairs as encoded_pairs
    from jaxalign.anchors.stores import match_stores as match_stores
    from jaxalign.anchors.stores import store_pairs as store_pairs
    from jaxalign.data.catalog import dataset_info as dataset_info
    from jaxalign.data.catalog import load_dataset as load_dataset
    from jaxalign.data.catalog import split_classes as split_classes
    from jaxalign.data.ordered import ordered_batches as ordered_batches
    from jaxalign.data.pipeline import image_text_batches as image_text_batches
    from jaxalign.data.planted import PlantedPairs as PlantedPairs
    from jaxalign.data.planted import planted_pairs as planted_pairs
    from jaxalign.data.planted import random_rotation as random_rotation
    from jaxalign.embedding.batch import EmbeddedSet as EmbeddedSet
    from jaxalign.embedding.batch import EmbeddingBatch as EmbeddingBatch
    from jaxalign.embedding.fetch import fetch as fetch
    from jaxalign.embedding.fetch import gather as gather
    from jaxalign.embedding.inputs import embedding_batches as embedding_batches
    from jaxalign.embedding.into_stores import embed_into_stores as embed_into_stores
    from jaxalign.embedding.shares import Share as Share
    from jaxalign.embedding.stream import embed as embed
    from jaxalign.encoders.encoders import Encoders as Encoders
    from jaxalign.encoders.pretrained import load_encoders as load_encoders
    from jaxalign.encoders.pretrained import untrained_encoders as untrained_encoders
    from jaxalign.evaluate.cosine import centred_cosine as centred_cosine
    from jaxalign.evaluate.cosine import mean_cosine as mean_cosine
    from jaxalign.evaluate.cosine import mismatched_cosine as mismatched_cosine
    from jaxalign.evaluate.held_out import Job as Job
    from jaxalign.evaluate.hubness import append_offsets as append_offsets
    from jaxalign.evaluate.hubness import append_one as append_one
    from jaxalign.evaluate.hubness import hubness_offsets as hubness_offsets
    from jaxalign.evaluate.intervals import bootstrap_interval as bootstrap_interval
    from jaxalign.evaluate.methods import Anchors as Anchors
    from jaxalign.evaluate.methods import fit_methods as fit_methods
    from jaxalign.evaluate.offsets_file import load_offsets as load_offsets
    from jaxalign.evaluate.offsets_file import save_offsets as save_offsets
    from jaxalign.evaluate.paired_set import PairedSet as PairedSet
    from jaxalign.evaluate.protocol import Run as Run
    from jaxalign.evaluate.protocol import evaluate_map as evaluate_map
    from jaxalign.evaluate.protocol import evaluate_native as evaluate_native
    from jaxalign.evaluate.recipes import Recipe as Recipe
    from jaxalign.evaluate.recipes import Searcher as Searcher
    from jaxalign.evaluate.rescoring import Rescored as Rescored
    from jaxalign.evaluate.rescoring import rescore as rescore
    from jaxalign.evaluate.rescoring import rescore_recall as rescore_recall
    from jaxalign.evaluate.retrieval import class_top1 as class_top1
    from jaxalign.evaluate.retrieval import exact_recall as exact_recall
    from jaxalign.evaluate.retrieval import top_k as top_k
    from jaxalign.evaluate.rows import ResultRow as ResultRow
    from jaxalign.evaluate.rows import average_over_seeds as average_over_seeds
    from jaxalign.evaluate.select import MapChoice as MapChoice
    from jaxalign.evaluate.select import choose_map as choose_map
    from jaxalign.evaluate.zeroshot import average_prompts as average_prompts
    from jaxalign.maps.alignment_map import AlignmentMap as AlignmentMap
    from jaxalign.maps.carry import carry_rows as carry_rows
    from jaxalign.maps.fit import fit_map as fit_map
    from jaxalign.maps.from_moments import map_from_moments as map_from_moments
    from jaxalign.maps.from_rotation import map_from_rotation as map_from_rotation
    from jaxalign.maps.subsets import maps_of_subsets as maps_of_subsets
    from jaxalign.moments import Moments as Moments
    from jaxalign.moments import decay_moments as decay_moments
    from jaxalign.moments import init_moments as init_moments
    from jaxalign.moments import merge_moments as merge_moments
    from jaxalign.moments import reduce_groups as reduce_groups
    from jaxalign.moments import subtract_moments as subtract_moments
    from jaxalign.moments import update_moments as update_moments
    from jaxalign.moments.checkpoint import PassCheckpoints as PassCheckpoints
    from jaxalign.moments.passes import PairBatch as PairBatch
    from jaxalign.moments.passes import accumulate_moments as accumulate_moments
    from jaxalign.report.page import write_report as write_report
    from jaxalign.report.results import read_results as read_results
    from jaxalign.report.results import write_results as write_results
    from jaxalign.report.table import format_table as format_table
    from jaxalign.report.trust import describe_trust as describe_trust
    from jaxalign.sharding import DATA_AXIS as DATA_AXIS
    from jaxalign.sharding import data_mesh as data_mesh
    from jaxalign.sharding import pad_rows as pad_rows
    from jaxalign.sharding import row_sharding as row_sharding
    from jaxalign.solve.consensus import ConsensusSolution as ConsensusSolution
    from jaxalign.solve.consensus import solve_consensus as solve_consensus
    from jaxalign.solve.leave_one_out import leave_one_out as leave_one_out
    from jaxalign.solve.linear import LinearSolution as LinearSolution
    from jaxalign.solve.linear import solve_linear as solve_linear
    from jaxalign.solve.mlp import MlpSolution as MlpSolution
    from jaxalign.solve.mlp import fit_mlp as fit_mlp
    from jaxalign.solve.polar import PolarFactor as PolarFactor
    from jaxalign.solve.polar import polar_factor as polar_factor
    from jaxalign.solve.procrustes import ProcrustesSolution as ProcrustesSolution
    from jaxalign.solve.procrustes import solve_procrustes as solve_procrustes
    from jaxalign.solve.ridge_choice import RidgeChoice as RidgeChoice
    from jaxalign.solve.ridge_choice import choose_ridge as choose_ridge
    from jaxalign.solve.robust import RobustSolution as RobustSolution
    from jaxalign.solve.robust import solve_robust as solve_robust
    from jaxalign.status import SolveError as SolveError
    from jaxalign.status import Status as Status
    from jaxalign.store.disk_errors import FullDiskError as FullDiskError
    from jaxalign.store.reader import EmbeddingStore as EmbeddingStore
    from jaxalign.store.reader import StoredBatch as StoredBatch
    from jaxalign.store.writer import StoreWriter as StoreWriter
    from jaxalign.trust.assess import assess_map as assess_map
    from jaxalign.trust.blocks import block_of_rows as block_of_rows
    from jaxalign.trust.delta import delta_intervals as delta_intervals
    from jaxalign.trust.functional import rotation_interval as rotation_interval
    from jaxalign.trust.result import Trust as Trust

_HOMES: dict[str, str] = {
    "AlignmentMap": "jaxalign.maps.alignment_map",
    "Anchors": "jaxalign.evaluate.methods",
    "ConsensusSolution": "jaxalign.solve.consensus",
    "DATA_AXIS": "jaxalign.sharding",
    "EmbeddedSet": "jaxalign.embedding.batch",
    "EmbeddingBatch": "jaxalign.embedding.batch",
    "EmbeddingStore": "jaxalign.store.reader",
    "Encoders": "jaxalign.encoders.encoders",
    "FullDiskError": "jaxalign.store.disk_errors",
    "Job": "jaxalign.evaluate.held_out",
    "LinearSolution": "jaxalign.solve.linear",
    "MapChoice": "jaxalign.evaluate.select",
    "MlpSolution": "jaxalign.solve.mlp",
    "Moments": "jaxalign.moments",
    "PairBatch": "jaxalign.moments.passes",
    "PairedSet": "jaxalign.evaluate.paired_set",
    "PassCheckpoints": "jaxalign.moments.checkpoint",
    "PlantedPairs": "jaxalign.data.planted",
    "PolarFactor": "jaxalign.solve.polar",
    "ProcrustesSolution": "jaxalign.solve.procrustes",
    "Recipe": "jaxalign.evaluate.recipes",
    "Rescored": "jaxalign.evaluate.rescoring",
    "ResultRow": "jaxalign.evaluate.rows",
    "RidgeChoice": "jaxalign.solve.ridge_choice",
    "RobustSolution": "jaxalign.solve.robust",
    "Run": "jaxalign.evaluate.protocol",
    "Searcher": "jaxalign.evaluate.recipes",
    "Share": "jaxalign.embedding.shares",
    "SolveError": "jaxalign.status",
    "Status": "jaxalign.status",
    "StoreWriter": "jaxalign.store.writer",
    "StoredBatch": "jaxalign.store.reader",
    "Trust": "jaxalign.trust.result",
    "accumulate_moments": "jaxalign.moments.passes",
    "append_offsets": "jaxalign.evaluate.hubness",
    "append_one": "jaxalign.evaluate.hubness",
    "array_pairs": "jaxalign.anchors.arrays",
    "assess_map": "jaxalign.trust.assess",
    "average_over_seeds": "jaxalign.evaluate.rows",
    "average_prompts": "jaxalign.evaluate.zeroshot",
    "block_of_rows": "jaxalign.trust.blocks",
    "bootstrap_interval": "jaxalign.evaluate.intervals",
    "carry_rows": "jaxalign.maps.carry",
    "centred_cosine": "jaxalign.evaluate.cosine",
    "choose_map": "jaxalign.evaluate.select",
    "choose_ridge": "jaxalign.solve.ridge_choice",
    "class_top1": "jaxalign.evaluate.retrieval",
    "data_mesh": "jaxalign.sharding",
    "dataset_info": "jaxalign.data.catalog",
    "decay_moments": "jaxalign.moments",
    "delta_intervals": "jaxalign.trust.delta",
    "describe_trust": "jaxalign.report.trust",
    "embed": "jaxalign.embedding.stream",
    "embed_into_stores": "jaxalign.embedding.into_stores",
    "embedding_batches": "jaxalign.embedding.inputs",
    "encoded_pairs": "jaxalign.anchors.encoded",
    "evaluate_map": "jaxalign.evaluate.protocol",
    "evaluate_native": "jaxalign.evaluate.protocol",
    "exact_recall": "jaxalign.evaluate.retrieval",
    "fetch": "jaxalign.embedding.fetch",
    "fit_map": "jaxalign.maps.fit",
    "fit_methods": "jaxalign.evaluate.methods",
    "fit_mlp": "jaxalign.solve.mlp",
    "format_table": "jaxalign.report.table",
    "gather": "jaxalign.embedding.fetch",
    "hubness_offsets": "jaxalign.evaluate.hubness",
    "image_text_batches": "jaxalign.data.pipeline",
    "init_moments": "jaxalign.moments",
    "leave_one_out": "jaxalign.solve.leave_one_out",
    "load_dataset": "jaxalign.data.catalog",
    "load_encoders": "jaxalign.encoders.pretrained",
    "load_offsets": "jaxalign.evaluate.offsets_file",
    "map_from_moments": "jaxalign.maps.from_moments",
    "map_from_rotation": "jaxalign.maps.from_rotation",
    "maps_of_subsets": "jaxalign.maps.subsets",
    "match_stores": "jaxalign.anchors.stores",
    "mean_cosine": "jaxalign.evaluate.cosine",
    "merge_moments": "jaxalign.moments",
    "mismatched_cosine": "jaxalign.evaluate.cosine",
    "ordered_batches": "jaxalign.data.ordered",
    "pad_rows": "jaxalign.sharding",
    "planted_pairs": "jaxalign.data.planted",
    "polar_factor": "jaxalign.solve.polar",
    "process_rows": "jaxalign.anchors.arrays",
    "random_rotation": "jaxalign.data.planted",
    "read_results": "jaxalign.report.results",
    "reduce_groups": "jaxalign.moments",
    "rescore": "jaxalign.evaluate.rescoring",
    "rescore_recall": "jaxalign.evaluate.rescoring",
    "rotation_interval": "jaxalign.trust.functional",
    "row_sharding": "jaxalign.sharding",
    "save_offsets": "jaxalign.evaluate.offsets_file",
    "solve_consensus": "jaxalign.solve.consensus",
    "solve_linear": "jaxalign.solve.linear",
    "solve_procrustes": "jaxalign.solve.procrustes",
    "solve_robust": "jaxalign.solve.robust",
    "split_classes": "jaxalign.data.catalog",
    "stiefel": "jaxalign",
    "store_pairs": "jaxalign.anchors.stores",
    "subtract_moments": "jaxalign.moments",
    "top_k": "jaxalign.evaluate.retrieval",
    "untrained_encoders": "jaxalign.encoders.pretrained",
    "update_moments": "jaxalign.moments",
    "write_report": "jaxalign.report.page",
    "write_results": "jaxalign.report.results",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxalign' has no attribute {name!r}")
    if _HOMES[name] == __name__:
        # A room that is public as a whole, `ja.stiefel`.
        return importlib.import_module(f"{__name__}.{name}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
