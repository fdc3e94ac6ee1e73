# SPDX-License-Identifier: Apache-2.0
"""Public names: each loads, each is declared for type checkers, and none is heavy."""

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxalign as ja


def declared_names() -> dict[str, str]:
    """Read the TYPE_CHECKING imports: name to module."""
    tree = ast.parse(Path(ja.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    for node in imports:
        assert [alias.name for alias in node.names] == [
            alias.asname for alias in node.names
        ]
    return {alias.name: node.module for node in imports for alias in node.names}


def test_homes_and_type_checking_imports_agree():
    assert declared_names() == ja._HOMES


@pytest.mark.parametrize("name", sorted(ja._HOMES))
def test_name_loads(name):
    # A module of the same name would hide the function once it is imported; only a
    # room that is public as a whole may be one.
    is_module = isinstance(getattr(ja, name), types.ModuleType)
    assert is_module == (ja._HOMES[name] == "jaxalign")
    assert name in dir(ja)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        ja.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["solve_procrustes", "fit_map"])
def test_a_solver_loads_no_image_or_text_library(name):
    code = (
        f"import sys, jaxalign as ja; ja.{name}; "
        "heavy = {'transformers', 'PIL', 'tokenizers', 'grain', 'tensorflow', 'torch', "
        "'tensorflow_datasets', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
