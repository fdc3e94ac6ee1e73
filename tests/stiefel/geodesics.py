# SPDX-License-Identifier: Apache-2.0
"""Geodesics in closed form (Edelman, Arias, Smith 1998), by SciPy in float64."""

import numpy as np
import scipy.linalg


def canonical_geodesic(point, tangent):
    """Where the canonical metric's geodesic is at time 1 (their theorem 2.1)."""
    if point.shape[0] < point.shape[1]:
        return canonical_geodesic(point.T, tangent.T).T
    p = point.shape[1]
    turn = point.T @ tangent
    # Orthonormal beside the point even if the tangent has nothing there.
    both = np.concatenate([point, tangent - point @ turn], axis=1)
    frame = scipy.linalg.qr(both, mode="economic")[0]
    frame[:, :p] = point
    beside = frame[:, p:].T @ tangent
    k = len(beside)
    velocity = np.block([[turn, -beside.T], [beside, np.zeros((k, k))]])
    return frame @ scipy.linalg.expm(velocity)[:, :p]


def euclidean_geodesic(point, tangent):
    """Where the Euclidean metric's geodesic is at time 1 (their section 2.2.2)."""
    if point.shape[0] < point.shape[1]:
        return euclidean_geodesic(point.T, tangent.T).T
    p = point.shape[1]
    turn = point.T @ tangent
    velocity = np.block([[turn, -tangent.T @ tangent], [np.eye(p), turn]])
    moved = np.concatenate([point, tangent], axis=1) @ scipy.linalg.expm(velocity)
    return moved[:, :p] @ scipy.linalg.expm(-turn)
