# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks shared by every encoder family.

All blocks are pre-norm residual ones. Activations flow as `(batch, tokens, width)`;
every dense layer sees them as `(batch * tokens, width)`, because the backward pass of
a three-dimensional product is about three times slower on CPU.

Activations have the dtype of the parameters. Products of bfloat16 sum in float32, and
are rounded once bias and activation function are done: that is exact where it can be,
and on CPU the only way that reaches the fast instructions.
"""

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxalign.encoders.configs import StackConfig
from jaxalign.errors import ArgumentError, check_option

Activation: TypeAlias = Callable[[Array], Array]


def quick_gelu(x: Array) -> Array:
    """Return `x * sigmoid(1.702 x)`, the activation of OpenAI's CLIP weights."""
    # sigmoid(z) is (1 + tanh(z / 2)) / 2, which costs half as much on CPU.
    return x * (0.5 + 0.5 * jnp.tanh(0.851 * x))


ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": quick_gelu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


def find_activation(name: str) -> Activation:
    """Return the activation that a checkpoint's `hidden_act` names.

    Args:
      name: one of `ACTIVATIONS`.

    Returns:
      The elementwise function.

    Raises:
      ValueError: if the name is unknown; the known ones are listed.
    """
    remedy = "this checkpoint's architecture is not one that jaxalign reads"
    check_option("config.json", "hidden_act", name, ACTIVATIONS, remedy=remedy)
    return ACTIVATIONS[name]


class Dense(nnx.Module):
    """Affine map of the last axis, computed on a two-dimensional view.

    Attributes:
      kernel: (in_width, out_width).
      bias: (out_width,), or None.
    """

    def __init__(
        self, in_width: int, out_width: int, *, use_bias: bool = True, rngs: nnx.Rngs
    ):
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (in_width, out_width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_width,))) if use_bias else None

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the products' operands, and of the result."""
        return self.kernel[...].dtype

    def __call__(
        self,
        x: Float[Array, "*lead d_in"],
        activation: Activation | None = None,
    ) -> Float[Array, "*lead d_out"]:
        """Return `x @ kernel + bias` in the kernel's dtype.

        Args:
          x: (..., in_width).
          activation: static; applied to the sums before they are rounded.
        """
        kernel = self.kernel[...]
        flat = x.reshape(-1, x.shape[-1]).astype(kernel.dtype)
        # HIGHEST keeps float32 rows exact where the default is a faster format.
        out = jnp.matmul(
            flat,
            kernel,
            precision=jax.lax.Precision.HIGHEST,
            preferred_element_type=jnp.float32,
        )
        if self.bias is not None:
            out = out + self.bias[...].astype(jnp.float32)[None]
        if activation is not None:
            out = activation(out)
        return out.astype(kernel.dtype).reshape(*x.shape[:-1], kernel.shape[-1])


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis, in float32 whatever the input.

    Attributes:
      scale: (width,).
      bias: (width,).
    """

    def __init__(self, width: int, *, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((width,)))
        self.bias = nnx.Param(jnp.zeros((width,)))

    def __call__(self, x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
        """Return the normalised, rescaled activations in the dtype of `x`."""
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        unit = centred * jax.lax.rsqrt(variance + self.epsilon)
        row = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale, bias = (
            parameter[...].astype(jnp.float32).reshape(row)
            for parameter in (self.scale, self.bias)
        )
        return (unit * scale + bias).astype(x.dtype)


class Embedding(nnx.Module):
    """A table of learnt rows, one for each token or position.

    Attributes:
      table: (rows, width).
    """

    def __init__(self, rows: int, width: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.02)
        self.table = nnx.Param(init(rngs.params(), (rows, width), jnp.float32))

    def __call__(self, ids: Int[Array, "*lead"]) -> Float[Array, "*lead d"]:
        """Return the row of each id; ids outside the table are clipped to it."""
        return jnp.take(self.table[...], ids, axis=0, mode="clip")


class PatchEmbedding(nnx.Module):
    """Cut a picture into square patches and map each to one token.

    Equal to a convolution whose stride is its size, done as one matrix product. Pixels
    beyond the last whole patch are left out, as the convolution does.

    Attributes:
      kernel: (patch * patch * 3, width), rows in (row, column, channel) order.
      bias: (width,), or None.
    """

    def __init__(self, patch: int, width: int, *, use_bias: bool, rngs: nnx.Rngs):
        self.patch = patch
        self.project = Dense(3 * patch * patch, width, use_bias=use_bias, rngs=rngs)

    def __call__(self, pixels: Float[Array, "n h w 3"]) -> Float[Array, "n patches d"]:
        """Return the patch tokens in row-major order."""
        n, height, width, channels = pixels.shape
        rows, columns, p = height // self.patch, width // self.patch, self.patch
        grid = pixels[:, : rows * p, : columns * p].astype(self.project.dtype)
        grid = grid.reshape(n, rows, p, columns, p, channels)
        grid = grid.transpose(0, 1, 3, 2, 4, 5)  # (n, rows, columns, p, p, channels)
        return self.project(grid.reshape(n, rows * columns, p * p * channels))


def attend(
    query: Float[Array, "n q d"],
    key: Float[Array, "n k d"],
    value: Float[Array, "n k d"],
    *,
    heads: int,
    mask: Bool[Array, "#n #q k"] | None = None,
) -> Float[Array, "n q d"]:
    """Multi-head scaled dot-product attention, with a softmax in float32.

    Args:
      query: (n, q, d).
      key: (n, k, d).
      value: (n, k, d).
      heads: static; divides d.
      mask: (n or 1, q or 1, k), True where a query may look.

    Returns:
      (n, q, d), the heads side by side.
    """
    n, q, d = query.shape
    product = functools.partial(
        jnp.einsum,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    query, key, value = (
        x.reshape(n, x.shape[1], heads, d // heads) for x in (query, key, value)
    )
    scores = product("nqhe,nkhe->nhqk", query, key) / math.sqrt(d // heads)
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    peak = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.exp(scores - peak)
    # Dividing after the product touches d / heads columns instead of k.
    mixed = product("nhqk,nkhe->nhqe", weights.astype(value.dtype), value)
    mixed = (mixed / weights.sum(-1, keepdims=True)).astype(value.dtype)
    return mixed.transpose(0, 2, 1, 3).reshape(n, q, d)


class SelfAttention(nnx.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, config: StackConfig, *, rngs: nnx.Rngs):
        width, bias = config.width, config.qkv_bias
        if width % config.heads:
            raise ArgumentError(
                f"config.json(num_attention_heads={config.heads})",
                f"a divisor of the width {width}",
                remedy="check the checkpoint's config",
            )
        self.heads = config.heads
        self.query = Dense(width, width, use_bias=bias, rngs=rngs)
        self.key = Dense(width, width, use_bias=bias, rngs=rngs)
        self.value = Dense(width, width, use_bias=bias, rngs=rngs)
        self.out = Dense(width, width, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "n t d"],
        mask: Bool[Array, "#n #t t"] | None = None,
    ) -> Float[Array, "n t d"]:
        """Return the mixed tokens."""
        mixed = attend(
            self.query(x), self.key(x), self.value(x), heads=self.heads, mask=mask
        )
        return self.out(mixed)


class Mlp(nnx.Module):
    """Two dense layers with an activation between them."""

    def __init__(self, config: StackConfig, *, rngs: nnx.Rngs):
        self.activation = find_activation(config.activation)
        self.expand = Dense(config.width, config.hidden, rngs=rngs)
        self.contract = Dense(config.hidden, config.width, rngs=rngs)

    def __call__(self, x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
        """Return `contract(activation(expand(x)))`."""
        return self.contract(self.expand(x, self.activation))


class Block(nnx.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: StackConfig, *, rngs: nnx.Rngs):
        self.norm_attention = LayerNorm(config.width, epsilon=config.epsilon)
        self.attention = SelfAttention(config, rngs=rngs)
        self.norm_mlp = LayerNorm(config.width, epsilon=config.epsilon)
        self.mlp = Mlp(config, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "n t d"],
        mask: Bool[Array, "#n #t t"] | None = None,
    ) -> Float[Array, "n t d"]:
        """Return the tokens after attention and MLP, each added to its input."""
        x = x + self.attention(self.norm_attention(x), mask)
        return x + self.mlp(self.norm_mlp(x))


class Stack(nnx.Module):
    """A stack of equal blocks, sized by a tower's config.

    Attributes:
      blocks: the blocks, first to last.
    """

    def __init__(self, config: StackConfig, *, rngs: nnx.Rngs):
        self.blocks = nnx.List(Block(config, rngs=rngs) for _ in range(config.depth))

    def __call__(
        self,
        x: Float[Array, "n t d"],
        mask: Bool[Array, "#n #t t"] | None = None,
    ) -> Float[Array, "n t d"]:
        """Apply every block in order."""
        for block in self.blocks:
            x = block(x, mask)
        return x
