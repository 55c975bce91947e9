"""Encode and decode kernels as weights files store them: as float32, float16 or 8-bit codes.

Codes either index a table of 256 values (encoding `"codes"`), or are multiplied by a scale, one for
each output channel (encoding `"int8"`). `"int8"` serves only to store, bit for bit, networks that were
published in this form. No function here encodes to `"int8"`, since for kernels of full precision a
table is more accurate.
"""

from collections.abc import Callable, Mapping

import numpy as np

CENTRES = 256  # number of values in a kernel's table, as many as a uint8 code can index


def _as_float32(kernel: np.ndarray) -> dict[str, np.ndarray]:
    return {"kernel": kernel}


def _as_float16(kernel: np.ndarray) -> dict[str, np.ndarray]:
    largest = np.abs(kernel).max()
    if largest > np.finfo(np.float16).max:
        raise ValueError(f"`encoding`: float16 cannot represent {largest:g}; take float32 or codes")
    return {"kernel": kernel.astype("<f2")}


def _as_codes(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """Return uint8 codes, and the table of 256 sorted values, called centres, that the codes index."""
    values, counts = np.unique(kernel, return_counts=True)
    centres = values if values.size <= CENTRES else _lloyd(values.astype(np.float64), counts)
    # If there are fewer than 256 centres, the last one is repeated: all files have tables of one shape.
    centres = np.pad(centres, (0, CENTRES - centres.size), mode="edge").astype("<f4")
    codes = np.searchsorted(_borders(centres), kernel, side="left")
    return {"codes": codes.astype(np.uint8), "centres": centres}


def _borders(centres: np.ndarray) -> np.ndarray:
    """Return the midpoints between neighbouring centres, where another centre becomes the nearest.

    They are float64, since float32 would round them.
    """
    return (centres[1:].astype(np.float64) + centres[:-1]) / 2


def _lloyd(values: np.ndarray, counts: np.ndarray, iterations: int = 200) -> np.ndarray:
    """Return 256 centres of sorted values by one-dimensional k-means.

    `counts` says how often each value occurs. The density of the initial centres is proportional to the
    cube root of the density of the values. In the limit of many centres, such centres have the smallest
    mean squared error (Panter and Dite, 1951).
    """
    # The histogram is coarse: with finer bins, the cube roots of nearly empty bins would give too many
    # centres to the sparse tails of the distribution.
    histogram, edges = np.histogram(values, 2 * CENTRES, weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    centres = np.interp((np.arange(CENTRES) + 0.5) / CENTRES * mass[-1], mass, edges)
    weight = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    moment = np.concatenate([[0.0], np.cumsum(values * counts)])
    for _ in range(iterations):
        cuts = np.searchsorted(values, _borders(centres))
        bounds = np.concatenate([[0], cuts, [values.size]])
        members, total = np.diff(weight[bounds]), np.diff(moment[bounds])
        # A centre that is not the nearest to any value does not move.
        centres = np.where(members > 0, total / np.maximum(members, 1), centres)
    return centres


# Encoding -> function from a float32 kernel to the datasets (arrays by name) that represent it.
ENCODERS: Mapping[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "float32": _as_float32,
    "float16": _as_float16,
    "codes": _as_codes,
}


INT8 = "int8"  # encoding with int8 codes and a scale for each output channel

ENCODINGS = (*ENCODERS, INT8)  # all encodings that weights files may have


def decode_kernel(datasets: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    """Return a layer's kernel as float32; `datasets` maps names such as `"conv1_1/codes"` to arrays."""
    if f"{layer}/scales" in datasets:
        return datasets[f"{layer}/codes"].astype(np.float32) * datasets[f"{layer}/scales"]
    if f"{layer}/codes" in datasets:
        return datasets[f"{layer}/centres"][datasets[f"{layer}/codes"]]
    return datasets[f"{layer}/kernel"].astype(np.float32)
