# SPDX-License-Identifier: Apache-2.0
"""The entry check of rows, and every public call that takes rows going through it."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.float_rows import check_float_rows, float_rows, native_floats

ROWS = np.arange(6.0).reshape(3, 2)


class Tensor:
    """Stands for another library's array, which NumPy can read or cannot."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        if self._values is None:
            raise TypeError("it lies on another device")
        return np.asarray(self._values, dtype)


REFUSED = {
    "list": ROWS.tolist(),
    "None": None,
    "unreadable": Tensor(None),
    "complex": ROWS + 1j,
    "int8": ROWS.astype(np.int8),
    "uint8": ROWS.astype(np.uint8),
    "bool": ROWS > 2,
    "object": ROWS.astype(object),
    "one axis": ROWS[0],
    "three axes": ROWS[None],
    "width": np.zeros((3, 5)),
    "masked": np.ma.masked_array(ROWS, ROWS > 4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_real_floating_rows_is_refused(name, no_shape_hook):
    with pytest.raises(ValueError, match="`top_k\\(queries"):
        float_rows("top_k", "queries", REFUSED[name], width=2)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", "g", "bfloat16"])
def test_every_floating_dtype_keeps_its_values(dtype, no_shape_hook):
    given = ROWS.astype(jnp.bfloat16 if dtype == "bfloat16" else dtype)
    found = float_rows("f", "rows", given)
    assert np.asarray(jnp.asarray(found), np.float32).tolist() == ROWS.tolist()


def test_arrays_that_jax_takes_are_not_copied(no_shape_hook):
    for rows in (ROWS, jnp.asarray(ROWS)):
        assert float_rows("f", "rows", rows) is rows
    swapped = ROWS.astype(">f8")
    assert check_float_rows("f", "rows", swapped) is swapped
    assert native_floats(ROWS) is ROWS


def test_arrays_of_other_libraries_are_read(no_shape_hook):
    assert float_rows("f", "rows", Tensor(ROWS)).tolist() == ROWS.tolist()
