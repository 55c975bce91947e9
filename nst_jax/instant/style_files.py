"""Style files: the network that `nst_jax.train` made, with what it was trained on.

A style file is HDF5, as `_hdf5` reads and writes it, with the attributes `format` ("nst-jax style"),
`version` (1) and `digest`. Its datasets are:

* `facts`: what the file says of itself, as JSON in UTF-8: the names of the styles, and what
  `nst_jax.train` records of recipe, paintings, photos and losses;
* `layers/...`: the parameters of `instant.johnson.Johnson` by name, float32.

The digest is that of `weights.digests`, with `["nst-jax style",1]` as its head. It covers all datasets.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import _checks, _files, _hdf5
from nst_jax._files import PathLike, check_destination
from nst_jax.checkpoints import named_leaves
from nst_jax.instant.johnson import (
    BLOCK,
    ENCODER,
    LayerParams,
    StyleNetwork,
    expected_shapes,
)
from nst_jax.weights.digests import digest_of

STYLE_FORMAT = _hdf5.Format(
    name="nst-jax style",
    version=1,
    noun="style file",
    if_damaged="train it again, or name another",
    if_foreign="`nst-jax train PAINTING --photos FOLDER -o {name}` makes one",
    if_other_version="update nst-jax",
)

SUFFIX = ".h5"
FACTS, LAYERS = "facts", "layers/"  # the dataset of the JSON; the prefix of the parameters' names
STYLES = "styles"  # the fact that has the names of the styles


class ReadStyle(NamedTuple):
    """A style file as read."""

    network: StyleNetwork
    facts: Mapping[str, Any]  # JSON values, see `training.facts_of`
    digest: str


def load_network(path: PathLike, *, argument: str = "path") -> StyleNetwork:
    """Read and verify a trained network.

    Args:
      path: a file that `nst-jax train` or `save_network` wrote.
      argument: the caller's name for `path`, used in messages.

    Returns:
      The network, for `stylize_trained`.

    Raises:
      ValueError: if the file is missing, damaged, no style file, of another version, or if its arrays
        are not those of the network.

    Example:
      >>> import nst_jax as nst
      >>> nst.instant.load_network("never_trained.h5")
      Traceback (most recent call last):
      ValueError: `path`: 'never_trained.h5' does not exist; check the path
    """
    return read_style_file(path, argument=argument).network


def read_style_file(path: PathLike, *, argument: str = "path") -> ReadStyle:
    """Read and verify a trained network, and what its file says of it.

    Args:
      path: as in `load_network`.
      argument: as in `load_network`.

    Returns:
      A `ReadStyle`.

    Raises:
      ValueError: as in `load_network`.
    """
    source = _hdf5.Source(Path(path), argument, STYLE_FORMAT)
    with _hdf5.opened(source) as file:
        arrays = _hdf5.arrays_in(source, file)
        stated = _hdf5.attribute(file, "digest")
    found = _digest(arrays)
    if found != stated:
        raise source.error(f"has digest {found} but states {stated}; {STYLE_FORMAT.if_damaged}")
    facts = _facts(source, arrays.pop(FACTS, None))
    layers = _nested({name.removeprefix(LAYERS): array for name, array in arrays.items()})
    _check_fits(source, layers, len(facts[STYLES]))
    return ReadStyle(StyleNetwork(jax.device_put(layers), tuple(facts[STYLES])), facts, found)


def save_network(
    path: PathLike, network: StyleNetwork, *, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a style file; an existing file is replaced only once the new one is complete.

    Equal networks and facts give equal bytes.

    Args:
      path: where to write.
      network: the network.
      facts: JSON values that the file shall say of itself, beside the names of the styles.

    Raises:
      ValueError: if `path` cannot be written to, or if a parameter is not finite.
      OSError: if the disk fails or is full; an existing file is then unchanged.

    Example:
      >>> import pathlib, tempfile
      >>> import jax
      >>> from nst_jax.instant import johnson
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "style.h5"
      >>> params = johnson.fresh_params(jax.random.key(0), 1, width=0.25)
      >>> save_network(path, johnson.StyleNetwork(params, ("wave",)))
      >>> load_network(path).styles
      ('wave',)
    """
    check_destination(path)
    arrays = {
        f"{LAYERS}{name}": np.asarray(leaf, np.dtype("<f4"))
        for name, leaf in named_leaves(dict(network.params)).items()
    }
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"`network`: {name} has values that are not finite; train it again")
    said = {STYLES: list(network.styles), **(facts or {})}
    arrays[FACTS] = np.frombuffer(json.dumps(said, ensure_ascii=False).encode(), np.uint8)
    try:
        with _hdf5.created(Path(path)) as file:
            _hdf5.store(file, arrays)
            file.attrs.update(
                {
                    "format": STYLE_FORMAT.name,
                    "version": STYLE_FORMAT.version,
                    "digest": _digest(arrays),
                }
            )
    except (OSError, RuntimeError) as error:  # HDF5 may raise either if the disk is full
        raise OSError(f"cannot write '{path}': {_files.reason_of(error)}") from error


def style_shares(names: Sequence[str], styles: Any) -> np.ndarray:
    """Return the shares of a network's styles that a name, or a mapping of names to shares, asks for.

    Args:
      names: the names of the network's styles.
      styles: the name of a style, names with shares such as `{"wave": 0.7, "mosaic": 0.3}`, or None
        for equal shares of all.

    Returns:
      float32 [styles], whose sum is 1.

    Raises:
      ValueError: for a name that is not among them, a negative share, and shares that are all 0.

    Example:
      >>> style_shares(("wave", "mosaic"), {"wave": 3, "mosaic": 1}).tolist()
      [0.75, 0.25]
    """
    wanted = dict.fromkeys(names, 1.0) if styles is None else styles
    wanted = {wanted: 1.0} if isinstance(wanted, str) else wanted
    for name, share in wanted.items():
        if name not in names:
            raise _checks.unknown("style", name, names, "style in this file")
        _checks.number("style", share, least=0)
    total = sum(wanted.values())
    if not total > 0:
        raise ValueError("`style`: all shares are 0; give one style more than that")
    return np.asarray([wanted.get(name, 0.0) / total for name in names], np.float32)


# --- Checks ---------------------------------------------------------------------------------------


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return digest_of([STYLE_FORMAT.name, STYLE_FORMAT.version], arrays)


def _facts(source: _hdf5.Source, array: np.ndarray | None) -> dict[str, Any]:
    try:
        facts = json.loads(b"" if array is None else array.tobytes())
    except (ValueError, RecursionError) as error:
        raise source.damaged(error) from error
    names = facts.get(STYLES) if isinstance(facts, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise source.damaged("it does not name its styles")
    return facts


def _nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays named "encode1/conv/kernel" as dictionaries in dictionaries."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = array
    return tree


def _check_fits(source: _hdf5.Source, params: LayerParams, styles: int) -> None:
    """Refuse arrays that are not those of `Johnson` at the sizes that the first layers have."""
    found = _hdf5.layout_of(named_leaves(dict(params)))
    sizes = [found.get(f"{name}/gamma", ((), ""))[0] for name in ENCODER]
    if any(len(size) != 2 for size in sizes) or f"{BLOCK}1" not in params:
        raise source.error(
            "has the arrays of another network, not of Johnson's; name a file that `nst-jax train` made"
        )
    if sizes[0][0] != styles:
        raise source.damaged(f"it names {styles} styles and has the norms of {sizes[0][0]}")
    expected = _hdf5.layout_of(named_leaves(expected_shapes(params)))
    if differences := _hdf5.layout_differences(expected, found):
        raise source.error(f"does not fit its network: {differences}; {STYLE_FORMAT.if_damaged}")
