"""Files of StableHLO programs: NumPy archives (.npz).

To run the programs, a user needs only JAX and NumPy, not this package. An archive has these members:

* `<program>.jax`, for each program of the model: StableHLO, as `jax.export` serialises it;
* `weights/<name>.npy`, for each array of the weights. Every program takes a dictionary of these arrays,
  by `<name>`, as its first argument;
* `metadata.json`: the metadata, such as the inputs and outputs of the programs, and licences.

`numpy.load` reads all members, without unpickling, which could execute code in the file.
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

# The platforms on which the exported programs run, by the names that `jax.export` uses.
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# Names of an archive's members: the suffix of the programs, the name of the metadata, and the folder of
# the weights.
PROGRAM_SUFFIX, METADATA, WEIGHTS = ".jax", "metadata.json", "weights/"


def write_stablehlo(
    path: Path,
    programs: Mapping[str, tuple[Program, Specs]],
    stored: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> None:
    """Write an archive with programs, their weights, and metadata.

    Args:
      path: the file to write.
      programs: by name, each program and the shapes and dtypes of its inputs.
      stored: the weights as `encodings.encoded_weights` returns them.
      metadata: JSON values by name.
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
        # If a program has only one output, the exported program returns the output itself instead of a
        # dictionary.
        return next(iter(found.values())) if len(found) == 1 else found

    call.__name__ = name
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in stored.items()}
    exported = export.export(jax.jit(call), platforms=PLATFORMS)(shapes, *inputs.values())
    return bytes(exported.serialize())


def _add(
    archive: zipfile.ZipFile, name: str, data: bytes, compression: int = zipfile.ZIP_DEFLATED
) -> None:
    # With a `ZipInfo` the member gets a fixed date instead of the present time, so that exporting the
    # same model twice gives equal files.
    archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
