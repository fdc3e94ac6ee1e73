# SPDX-License-Identifier: Apache-2.0
"""Contrastive training of a small image-text model: losses and a resumable loop.

Made for the two shipped pairs: one process, batches that fit one device.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Array, Float, Int
from optax import contrib

from jaxalign.array_types import ArrayLike
from jaxalign.errors import check_option
from jaxalign.unit_rows import unit_rows


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of a training run.

    Attributes:
      loss: "softmax" (CLIP's) or "sigmoid" (SigLIP's).
      steps: optimiser steps, batches that is.
      learning_rate: the peak, reached after the warm-up; cosine to zero after it.
      warmup_steps: steps of linear warm-up.
      weight_decay: of kernels; embedding tables, vectors and scalars are not decayed.
      max_logit_scale: what the factor of the cosines, e^s, starts at or below and is
        kept under; 100 is CLIP's rule.
      logit_bias: where the sigmoid loss's bias starts; about minus the logarithm of
        the batch size, the log odds of a match.
      image_mean: what each channel, in [0, 1], is centred by.
      image_std: what each channel is divided by afterwards.
    """

    loss: str
    steps: int
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    max_logit_scale: float = 100.0
    logit_bias: float = -5.0
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)


class TrainingState(NamedTuple):
    """State of the optimisation, as a checkpoint holds it."""

    step: Int[Array, ""]
    parameters: nnx.State
    optimizer: optax.OptState


@runtime_checkable
class BatchIterator(Protocol):
    """Batches without end, with a position that can be saved."""

    def __next__(self) -> dict[str, np.ndarray]: ...

    def get_state(self) -> Any:
        """Return the position, as JSON values."""
        ...

    def set_state(self, state: Any, /) -> None:
        """Go to a saved position."""
        ...


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
      step: steps done.
      loss: mean since the last report.
    """

    step: int
    loss: float


def softmax_loss(
    images: Float[Array, "n d"],
    texts: Float[Array, "n d"],
    logit_scale: Float[Array, ""],
) -> Float[Array, ""]:
    r"""Return the symmetric softmax contrastive loss, in nats.

    With unit rows :math:`u_i` (images), :math:`v_j` (texts) and logits
    :math:`z_{ij} = e^{s} \langle u_i, v_j \rangle`, the mean over i of the two cross
    entropies of :math:`z_{i \cdot}` and :math:`z_{\cdot i}` against i, halved.

    Args:
      images: :math:`u`, (n, d), unit rows.
      texts: :math:`v`, (n, d), unit rows, row i fitting image i alone.
      logit_scale: :math:`s`.

    References:
      Radford et al., 2021, arXiv 2103.00020.
    """
    logits = jnp.exp(logit_scale) * images @ texts.T  # (n, n)
    labels = jnp.arange(logits.shape[0])
    losses = optax.softmax_cross_entropy_with_integer_labels
    return (losses(logits, labels).mean() + losses(logits.T, labels).mean()) / 2


def sigmoid_loss(
    images: Float[Array, "n d"],
    texts: Float[Array, "n d"],
    logit_scale: Float[Array, ""],
    logit_bias: Float[Array, ""],
) -> Float[Array, ""]:
    r"""Return the pairwise sigmoid loss, summed over texts, mean over images, in nats.

    With :math:`z_{ij} = e^{s} \langle u_i, v_j \rangle + b` and the sign
    :math:`\sigma_{ij}`, 1 on the diagonal and -1 elsewhere:
    :math:`-\frac{1}{n} \sum_{ij} \log \mathrm{sigmoid}(\sigma_{ij} z_{ij})`.

    Args:
      images: :math:`u`, (n, d), unit rows.
      texts: :math:`v`, (n, d), unit rows, row i fitting image i alone.
      logit_scale: :math:`s`.
      logit_bias: :math:`b`, negative at first: nearly all pairs do not match.

    References:
      Zhai et al., 2023, arXiv 2303.15343, algorithm 1.
    """
    logits = jnp.exp(logit_scale) * images @ texts.T + logit_bias  # (n, n)
    signs = 2.0 * jnp.eye(logits.shape[0]) - 1.0
    return -jax.nn.log_sigmoid(signs * logits).sum() / logits.shape[0]


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Return Muon for the kernels, Adam for the rest, on one schedule.

    The schedule is a linear warm-up and a cosine decay; gradients are clipped. Muon's
    updates are scaled to the size of Adam's, so one learning rate serves both.

    References:
      Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".
      Liu et al., 2025, arXiv 2502.16982, for the scaling and the weight decay.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        min(config.warmup_steps, config.steps // 2),
        config.steps,
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        contrib.muon(
            schedule,
            beta=0.9,
            weight_decay=config.weight_decay,
            adam_b2=0.98,
            muon_weight_dimension_numbers=_kernels,
            consistent_rms=0.2,
        ),
    )


def _kernels(parameters: Any) -> Any:
    """Tell Muon which parameters are linear maps: not tables, vectors or scalars."""

    def kind(path, leaf):
        is_kernel = leaf.ndim == 2 and "table" not in jax.tree_util.keystr(path)
        return contrib.MuonDimensionNumbers(0, 1) if is_kernel else None

    return jax.tree_util.tree_map_with_path(kind, parameters)


def make_step(
    graph: Any, optimizer: optax.GradientTransformation, config: TrainingConfig
) -> Callable[[TrainingState, ArrayLike, ArrayLike], tuple[TrainingState, Array]]:
    """Return the jitted training step.

    Returns:
      `step(state, images, ids) -> (state, loss)`, with uint8 images (n, h, w, 3) and
      int ids (n, t); the old state's memory is reused.

    Raises:
      ValueError: for an unknown loss.
    """
    remedy = "CLIP was trained with the first, SigLIP with the second"
    known = ("softmax", "sigmoid")
    check_option("TrainingConfig", "loss", config.loss, known, remedy=remedy)
    mean, std = jnp.asarray(config.image_mean), jnp.asarray(config.image_std)

    def loss_of(parameters, images, ids):
        model = nnx.merge(graph, parameters)
        pixels = (images.astype(jnp.float32) / 255 - mean[None, None, None]) / (
            std[None, None, None]
        )
        image_rows = unit_rows(model.image_features(pixels))
        text_rows = unit_rows(model.text_features(ids))
        scale = model.logit_scale[...]
        if config.loss == "softmax":
            return softmax_loss(image_rows, text_rows, scale)
        return sigmoid_loss(image_rows, text_rows, scale, model.logit_bias[...])

    def step(state, images, ids):
        loss, gradient = jax.value_and_grad(loss_of)(state.parameters, images, ids)
        updates, moments = optimizer.update(gradient, state.optimizer, state.parameters)
        parameters = cast(nnx.State, optax.apply_updates(state.parameters, updates))
        limit_logit_scale(parameters, config)
        return TrainingState(state.step + 1, parameters, moments), loss

    return jax.jit(step, donate_argnums=0)


def limit_logit_scale(parameters: nnx.State, config: TrainingConfig) -> None:
    """Bring the logit scale, in place, under the configured maximum."""
    scale = cast(nnx.Param, parameters["logit_scale"])
    scale[...] = jnp.minimum(scale[...], math.log(config.max_logit_scale))


def train(
    model: nnx.Module,
    batches: BatchIterator,
    config: TrainingConfig,
    *,
    checkpoint_dir: str | os.PathLike,
    checkpoint_every: int = 500,
    report_every: int = 50,
    report: Callable[[Progress], None] = lambda progress: None,
) -> nnx.State:
    """Train a model, from the last checkpoint if there is one.

    Checkpoints hold parameters, optimiser and the position in the data, so that a run
    killed and started again goes through the same batches.

    Args:
      model: a family's model, at its random start.
      batches: dicts with `image`, uint8 (n, h, w, 3), and `ids`, int (n, t).
      config: the hyper-parameters.
      checkpoint_dir: made if needed; the two last checkpoints are kept.
      checkpoint_every: steps between checkpoints.
      report_every: steps between reports.
      report: called with the progress.

    Returns:
      The trained parameters.
    """
    graph, parameters = nnx.split(model)
    limit_logit_scale(parameters, config)
    if config.loss == "sigmoid":
        parameters["logit_bias"][...] = jnp.float32(config.logit_bias)
    optimizer = make_optimizer(config)
    state = TrainingState(
        jnp.zeros((), jnp.int32), parameters, optimizer.init(parameters)
    )
    step = make_step(graph, optimizer, config)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, save_interval_steps=checkpoint_every
    )
    folder = os.path.abspath(checkpoint_dir)
    with ocp.CheckpointManager(folder, options=options) as manager:
        latest = manager.latest_step()
        if latest is not None:
            restored = manager.restore(
                latest,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(state),
                    batches=ocp.args.JsonRestore(),
                ),
            )
            state = restored["state"]
            batches.set_state(restored["batches"])
        losses = []
        while int(state.step) < config.steps:
            batch = next(batches)
            state, loss = step(state, batch["image"], batch["ids"])
            losses.append(loss)
            done = int(state.step)
            if done % report_every == 0:
                report(Progress(done, float(np.mean(losses))))
                losses = []
            last = done == config.steps
            if not (last or manager.should_save(done)):
                continue
            manager.save(
                done,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    batches=ocp.args.JsonSave(batches.get_state()),
                ),
                force=last,
            )
    return state.parameters
