"""Files of StableHLO programs: NumPy archives (.npz), for which JAX and NumPy are enough.

An archive has the members

* `<program>.jax`, for each program of the model: StableHLO, as `jax.export` serialises it;
* `weights/<name>.npy`: the arrays that each program takes as its first argument, a dictionary by name;
* `metadata.json`: the metadata, such as inputs, outputs and licences.

`numpy.load` reads all members. It needs neither pickles nor this package.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from nst_jax.export.encodings import decoded_weights
from nst_jax.export.models import Program, Specs

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # on which the programs run, as jax.export names them

PROGRAM_SUFFIX, METADATA, WEIGHTS = ".jax", "metadata.json", "weights/"


def write_stablehlo(
    path: Path,
    programs: Mapping[str, tuple[Program, Specs]],
    stored: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> None:
    """Write programs with their weights.

    Args:
      path: the file to write.
      programs: programs, and the shapes of their inputs, by name.
      stored: the weights as `encodings.encoded_weights` returns them.
      metadata: JSON values.
    """
    with zipfile.ZipFile(path, "w") as archive:
        _add(archive, METADATA, json.dumps(metadata, indent=1, ensure_ascii=False).encode())
        for name, (program, inputs) in programs.items():
            _add(archive, f"{name}{PROGRAM_SUFFIX}", _exported(name, program, inputs, stored))
        for name, array in stored.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            _add(archive, f"{WEIGHTS}{name}.npy", file.getvalue(), zipfile.ZIP_STORED)


def _exported(
    name: str, program: Program, inputs: Specs, stored: Mapping[str, np.ndarray]
) -> bytes:
    def call(stored: Mapping[str, Any], *inputs: Any) -> Any:
        found = program.call(decoded_weights(stored), *inputs)
        # A single output is returned without its name, instead of in a dictionary of one.
        return next(iter(found.values())) if len(found) == 1 else found

    call.__name__ = name
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in stored.items()}
    exported = export.export(jax.jit(call), platforms=PLATFORMS)(shapes, *inputs.values())
    return bytes(exported.serialize())


def _add(
    archive: zipfile.ZipFile, name: str, data: bytes, compression: int = zipfile.ZIP_DEFLATED
) -> None:
    # `ZipInfo` has a fixed date, so that equal models give equal files.
    archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
