# SPDX-License-Identifier: Apache-2.0
"""Each layer against a plain formula in float64, or against JAX's own operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from jaxalign.encoders import layers
from jaxalign.encoders.configs import StackConfig

EPS = float(np.finfo(np.float32).eps)

# Sums of at most 64 products of numbers of about one, and a division or a root: the
# largest error seen is 8 eps.
SUMS = 32 * EPS


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("height", "width", "use_bias"), [(8, 12, False), (10, 11, True)]
)
def test_patch_embedding_is_a_convolution(height, width, use_bias):
    patch, out = 4, 6
    layer = layers.PatchEmbedding(patch, out, use_bias=use_bias, rngs=nnx.Rngs(0))
    pixels = jnp.asarray(_normal(2, height, width, 3))
    if use_bias:
        layer.project.bias[...] = jnp.asarray(_normal(out))
    expected = jax.lax.conv_general_dilated(
        pixels,
        layer.project.kernel[...].reshape(patch, patch, 3, out),
        (patch, patch),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    ).reshape(2, -1, out)
    if use_bias:
        expected = expected + layer.project.bias[...][None, None]
    np.testing.assert_allclose(layer(pixels), expected, atol=SUMS)


def _attention_by_loops(query, key, value, heads, mask):
    """Softmax attention head by head in float64."""
    query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
    n, q, d = query.shape
    size = d // heads
    out = np.zeros((n, q, d))
    for i in range(n):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            scores = query[i, :, part] @ key[i, :, part].T / np.sqrt(size)
            if mask is not None:
                visible = np.broadcast_to(mask, (n, q, key.shape[1]))[i]
                scores = np.where(visible, scores, -np.inf)
            out[i, :, part] = scipy.special.softmax(scores, axis=-1) @ value[i, :, part]
    return out


def _mask(kind, n, q, k):
    if kind == "causal":
        return np.tril(np.ones((1, q, k), bool))
    if kind == "padding":
        return np.arange(k)[None, None] < np.array([2, k, k - 1])[:n, None, None]
    return None


@pytest.mark.parametrize(
    ("kind", "heads"), [("all", 1), ("all", 3), ("causal", 3), ("padding", 3)]
)
def test_attention_is_a_softmax_over_visible_keys(kind, heads):
    query, key, value = (_normal(3, 5, 12, seed=s) for s in range(3))
    mask = _mask(kind, 3, 5, 5)
    found = layers.attend(
        *map(jnp.asarray, (query, key, value)),
        heads=heads,
        mask=None if mask is None else jnp.asarray(mask),
    )
    expected = _attention_by_loops(query, key, value, heads, mask)
    np.testing.assert_allclose(found, expected, atol=SUMS)


def test_masked_keys_change_nothing():
    query, key, value = (_normal(2, 4, 8, seed=s) for s in range(3))
    mask = jnp.asarray(np.arange(4) < 3)[None, None]
    rows = []
    for other in (1.0, 1e4):
        key[:, 3], value[:, 3] = other, -other
        arrays = map(jnp.asarray, (query, key, value))
        rows.append(np.asarray(layers.attend(*arrays, heads=2, mask=mask)))
    np.testing.assert_array_equal(*rows)


def test_attention_does_not_overflow():
    large = jnp.asarray(_normal(1, 3, 4) * 1e4)
    assert np.isfinite(layers.attend(large, large, large, heads=2)).all()


def _sizes(width):
    """Sizes of one block with three heads."""
    return StackConfig(width, 1, 3, 12, "gelu", 1e-5, qkv_bias=True)


def test_self_attention_projects_mixes_and_projects():
    layer = layers.SelfAttention(_sizes(12), rngs=nnx.Rngs(0))
    x = jnp.asarray(_normal(2, 5, 12))
    query, key, value = (
        np.asarray(x) @ np.asarray(part.kernel[...], np.float64)
        for part in (layer.query, layer.key, layer.value)
    )
    mixed = _attention_by_loops(query, key, value, 3, None)
    expected = mixed @ np.asarray(layer.out.kernel[...], np.float64)
    np.testing.assert_allclose(layer(x), expected, atol=SUMS)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_attention_heads=3"):
        layers.SelfAttention(_sizes(10), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7)])
def test_layer_norm_in_float64(shape):
    layer = layers.LayerNorm(7, epsilon=1e-5)
    layer.scale[...], layer.bias[...] = (
        jnp.asarray(_normal(7, seed=s)) for s in (1, 2)
    )
    # A mean of 30 loses digits if the variance is taken as a difference of squares.
    x = _normal(*shape) + np.float32(30.0)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    expected = unit * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    # The mean's rounding, eps * 30, enters divided by a deviation of one.
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=4 * 30 * EPS)


def test_layer_norm_keeps_the_dtype_and_computes_in_float32():
    layer = layers.LayerNorm(4, epsilon=1e-5)
    # Squares of 300 overflow float16.
    x = jnp.asarray([[-300.0, 300.0, -300.0, 300.0]], jnp.float16)
    assert layer(x).dtype == jnp.float16
    np.testing.assert_array_equal(layer(x), [[-1.0, 1.0, -1.0, 1.0]])


def _tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


FORMULAS = {
    "quick_gelu": lambda x: x * scipy.special.expit(1.702 * x),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": lambda x: np.maximum(x, 0.0),
}


@pytest.mark.parametrize("name", sorted(layers.ACTIVATIONS))
def test_activations_in_float64(name):
    x = np.linspace(-6.0, 6.0, 1001, dtype=np.float32)
    expected = FORMULAS[name](x.astype(np.float64))
    found = layers.find_activation(name)(jnp.asarray(x))
    # In the left tail 1 + tanh cancels: 2 eps of it, times |x| / 2, stay at x = -6.
    np.testing.assert_allclose(found, expected, rtol=4 * EPS, atol=6 * EPS)


def test_unknown_activations_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="hidden_act='swish'.*'quick_gelu'.*'gelu'"):
        layers.find_activation("swish")


def test_dense_is_affine_on_any_leading_axes():
    # The size of the patches' kernel: each size of a draw is a program of its own.
    layer = layers.Dense(48, 6, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(_normal(6))
    x = _normal(2, 4, 48, seed=1)
    kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    expected = x.astype(np.float64) @ kernel + bias
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=SUMS)


def test_embedding_clips_ids_to_its_table():
    layer = layers.Embedding(4, 3, rngs=nnx.Rngs(0))
    table = np.asarray(layer.table[...])
    rows = layer(jnp.asarray([[0, 3], [9, -1]]))
    np.testing.assert_array_equal(rows, table[[[0, 3], [3, 0]]])


def test_block_adds_attention_and_mlp_to_its_input():
    block = layers.Block(_sizes(12), rngs=nnx.Rngs(0))
    x = jnp.asarray(_normal(2, 5, 12))
    for part in (block.attention.out, block.mlp.contract):
        part.kernel[...] = jnp.zeros_like(part.kernel[...])
    np.testing.assert_array_equal(block(x), x)
    block.mlp.contract.bias[...] = jnp.ones((12,))
    np.testing.assert_array_equal(block(x), x + 1.0)
