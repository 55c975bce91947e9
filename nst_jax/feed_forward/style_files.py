"""The files of a training: style files, which hold a trained network, and checkpoints, to resume from.

Both are HDF5 files, which the module `nst_jax._hdf5` reads and writes. They have the attributes
`format`, `version` (1) and `digest`, a hash of the format, the version and all datasets, which
`weights.digests.digest_of` computes. Each has a dataset `facts`, which is a JSON object in UTF-8. What
the facts and the other datasets are depends on the kind of file:

* In a style file (format "nst-jax style"), the datasets `layers/<name>` are the parameters of
  `johnson.Johnson`, the network that is trained, float32. The facts are the names of the styles, and
  further values that the caller of `save_network` gives: for the command `nst-jax train`, the recipe,
  the hashes of paintings and photos, and the losses, as `Training.outcome` returns them.
* In a checkpoint (format "nst-jax training"), the datasets `state/<name>` are the arrays of the
  training's state, and `best/<name>` are the parameters of the network that had the least loss on the
  held-out photos. The facts are the other fields of `TrainingCheckpoint`.

A file from a stranger can be read safely: nothing in it is executed, unlike with Python's pickles.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from nst_jax import _checks, _files, _hdf5
from nst_jax._files import PathLike, check_destination
from nst_jax.checkpoints.files import CHECKPOINT_FORMAT
from nst_jax.checkpoints.leaves import named_leaves
from nst_jax.feed_forward.johnson import (
    BLOCK,
    ENCODER,
    GAMMA,
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
    if_foreign="`nst-jax train PAINTING --photos FOLDER -o STYLE.h5` makes one",
    if_other_version="update nst-jax",
)

TRAINING_FORMAT = CHECKPOINT_FORMAT._replace(
    name="nst-jax training", version=1, noun="checkpoint of a training"
)

FACTS = "facts"  # name of the dataset that is a JSON object
# Beginnings of the names of the other datasets: `LAYERS` in a style file, for the network's layers;
# `STATE` and `BEST` in a checkpoint, for the state of the training and the best network so far.
LAYERS, STATE, BEST = "layers/", "state/", "best/"
STYLES = "styles"  # key of the list of the styles' names in the JSON object of a style file


class ReadStyle(NamedTuple):
    """All that a style file contains, as `read_style_file` returns it."""

    network: StyleNetwork  # the trained network
    facts: Mapping[str, Any]  # JSON values on the training, such as those of `Training.outcome`
    digest: str  # the digest that the file states, which has been verified


def load_network(path: PathLike, *, argument: str = "path") -> StyleNetwork:
    """Read a trained network from a style file, and verify the file.

    Args:
      path: path of a style file, which `nst-jax train` or `save_network` wrote.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      The network; its field `params` is for `stylize_trained`.

    Raises:
      ValueError: if the file is missing, damaged, not a style file, or a style file of another format
        version; or if its arrays are not the parameters of the network that `johnson` describes.

    Example:
      >>> import nst_jax as nst
      >>> nst.feed_forward.load_network("never_trained.h5")
      Traceback (most recent call last):
      ValueError: `path`: 'never_trained.h5' does not exist; check the path
    """
    return read_style_file(path, argument=argument).network


def read_style_file(path: PathLike, *, argument: str = "path") -> ReadStyle:
    """Read all that a style file contains, and verify the file.

    Args:
      path: path of a style file, which `nst-jax train` or `save_network` wrote.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      The trained network, the facts on its training, and the file's digest.

    Raises:
      ValueError: if the file is missing, damaged, not a style file, or a style file of another format
        version; or if its arrays are not the parameters of the network that `johnson` describes.
    """
    source = _hdf5.Source(_files.as_path(path, argument=argument), argument, STYLE_FORMAT)
    arrays, facts, digest = _read(source)
    names = facts.get(STYLES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise source.damaged("it does not name its styles")
    params = unflatten_dict(
        {name.removeprefix(LAYERS): array for name, array in arrays.items()}, sep="/"
    )
    _check_fits(source, params, len(names))
    return ReadStyle(StyleNetwork(jax.device_put(params), tuple(names)), facts, digest)


def save_network(
    path: PathLike, network: StyleNetwork, *, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a trained network to a style file.

    An existing file is replaced only once the new file is complete. Equal networks and facts give files
    with equal bytes.

    Args:
      path: path of the file to write.
      network: the network.
      facts: name -> JSON value, to be written to the file in addition to the names of the styles.
        NumPy's scalars are written as numbers.

    Raises:
      TypeError: if `path` is not a path, `network` not a `StyleNetwork`, a fact no JSON value, or
        `network.styles` no tuple of names.
      ValueError: if `path` cannot be written to; if a parameter is not finite; if the parameters are
        not those of the network that `johnson` describes; or if there is not one name, different from
        the others, for each style.
      OSError: if the disk fails or is full; an existing file stays unchanged.

    Example:
      >>> import pathlib, tempfile
      >>> import jax
      >>> from nst_jax.feed_forward import johnson
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "style.h5"
      >>> params = johnson.fresh_params(jax.random.key(0), 1, width=0.25)
      >>> save_network(path, johnson.StyleNetwork(params, ("wave",)))
      >>> load_network(path).styles
      ('wave',)
    """
    check_destination(path)
    _checks.instance("network", network, StyleNetwork, "`nst_jax.train` returns one")
    check_names_of_styles("network", network)
    arrays = {
        name: np.asarray(leaf, np.dtype("<f4"))
        for name, leaf in named_leaves(dict(network.params)).items()
    }
    expected = _hdf5.layout_of(named_leaves(expected_shapes(network.params)))
    if differences := _hdf5.layout_differences(expected, _hdf5.layout_of(arrays)):
        raise ValueError(f"`network.params`: do not fit their network: {differences}")
    arrays = {f"{LAYERS}{name}": array for name, array in arrays.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"`network`: {name} has values that are not finite; train it again")
    found = {**(facts or {}), STYLES: list(network.styles)}
    _write(Path(path), STYLE_FORMAT, _encoded("facts", found), arrays)


def check_names_of_styles(argument: str, network: StyleNetwork) -> None:
    """Refuse a network unless it has one name, different from the others, for each of its styles.

    Args:
      argument: the caller's name for the network, shown in error messages.
      network: the network.

    Raises:
      TypeError: if `network.styles` is no tuple or list of strings.
      ValueError: if a name is there twice, if there are more or fewer names than styles, or if the
        parameters are not those of a `johnson.Johnson` network.
    """
    names = network.styles
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"`{argument}.styles`: expected a tuple with the name of each style, got "
            f"{_checks.shown(names)}"
        )
    if len(set(names)) < len(names):
        raise ValueError(
            f"`{argument}.styles`: a name is there twice in {_checks.shown(names)}; give each style a "
            "name of its own"
        )
    count = _number_of_styles(network.params)
    if count is None:
        raise ValueError(
            f"`{argument}.params`: are not the parameters of a network that `nst_jax.train` made"
        )
    if count != len(names):
        raise ValueError(
            f"`{argument}.styles`: expected {count}, one name for each style of the parameters, got "
            f"{_checks.shown(names)}"
        )


def style_shares(names: Sequence[str], styles: Any) -> np.ndarray:
    """Return the weights of a network's styles in a mixture whose styles are given by name.

    Args:
      names: the names of the network's styles.
      styles: the name of a single style; a mapping from names to weights, such as `{"wave": 0.7,
        "mosaic": 0.3}`; or None for equal weights of all styles.

    Returns:
      The weights in the order of `names`, float32 [styles], divided by their sum.

    Raises:
      TypeError: if a weight is not a number.
      ValueError: if a name is not in `names`, if a weight is an array of numbers, negative, or 1e30 or
        more, or if all weights are 0.

    Example:
      >>> style_shares(("wave", "mosaic"), {"wave": 3, "mosaic": 1}).tolist()
      [0.75, 0.25]
    """
    wanted = dict.fromkeys(names, 1.0) if styles is None else styles
    wanted = {wanted: 1.0} if isinstance(wanted, str) else wanted
    for name in wanted:
        _checks.one_of("style", name, names, "style in this file")
    return _checks.shares("style", [wanted.get(name, 0.0) for name in names])


# --- Checkpoints ------------------------------------------------------------------------------------


class TrainingCheckpoint(NamedTuple):
    """The state of a training after some update, as plain data from which it can be resumed.

    The held-out loss is the mean loss on photos that are never trained on. It is measured before the
    first update, then at regular intervals, and after the last update.
    """

    arrays: Mapping[str, Any]  # name -> array of the training's state, a `TrainingState`
    best: Mapping[str, Any]  # name -> parameter of the network that had the least held-out loss
    updates: list[int]  # for each measurement of the held-out loss, the number of updates by then
    held_out: list[float]  # for each measurement, the held-out loss
    # For each measurement, the mean training loss of the updates since the previous measurement. Before
    # the first measurement there is no update, so the first value is the held-out loss instead.
    training: list[float]
    recent: list[float]  # the training loss of each update since the latest measurement
    # All settings and inputs that the training depends on, such as hashes of the photos; made by
    # `training_job.identity_of`. A training with other facts cannot be resumed from this checkpoint.
    facts: Mapping[str, Any]
    notes: Mapping[str, Any] = {}  # further JSON values that a caller may add to the file

    @property
    def step(self) -> int:
        """Number of updates that the training had made when this checkpoint was taken."""
        return int(self.arrays["step"])


def save_training(path: PathLike, checkpoint: TrainingCheckpoint) -> None:
    """Write a checkpoint of a training to a file.

    An existing file is replaced only once the new file is complete, so a crash leaves it as it was.

    Args:
      path: path of the file to write.
      checkpoint: the checkpoint, from `Training.checkpoint`.

    Raises:
      TypeError: if `path` is not a path, or `checkpoint` not a `TrainingCheckpoint`, or one of its
        facts and notes no JSON value.
      ValueError: if `path` cannot be written to.
      OSError: if the disk fails or is full; an existing file stays unchanged.
    """
    check_destination(path)
    advice = "`Training.checkpoint()` returns one"
    _checks.instance("checkpoint", checkpoint, TrainingCheckpoint, advice)
    fields = checkpoint._asdict()
    arrays = {f"{STATE}{name}": leaf for name, leaf in fields.pop("arrays").items()}
    arrays |= {f"{BEST}{name}": leaf for name, leaf in fields.pop("best").items()}
    _write(Path(path), TRAINING_FORMAT, _encoded("checkpoint", fields), arrays)


def load_training(path: PathLike, *, argument: str = "path") -> TrainingCheckpoint:
    """Read a checkpoint of a training from a file, and verify the file.

    Args:
      path: path of a file that `save_training` or `nst-jax train` wrote.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      The checkpoint, for the argument `resume` of `Training`.

    Raises:
      ValueError: if the file is missing, damaged, not the checkpoint of a training, or of another
        format version.
    """
    source = _hdf5.Source(_files.as_path(path, argument=argument), argument, TRAINING_FORMAT)
    arrays, fields, _ = _read(source)
    if problem := next(_problems(fields, arrays), ""):
        raise source.damaged(problem)
    return TrainingCheckpoint(_under(arrays, STATE), _under(arrays, BEST), **fields)


def _under(arrays: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {n.removeprefix(group): array for n, array in arrays.items() if n.startswith(group)}


_FIELDS = {
    "updates": list, "held_out": list, "training": list, "recent": list, "facts": dict, "notes": dict,
}  # fmt: skip


def _problems(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield what is wrong in a checkpoint file whose digest is right.

    A file with a problem was not written by a training. Callers take only the first problem and stop,
    since the later checks rely on the success of the earlier ones.

    Args:
      fields: the fields of the checkpoint that are stored as JSON.
      arrays: the arrays of the file by name.
    """
    if {name: type(value) for name, value in fields.items()} != _FIELDS:
        yield f"{FACTS} has other fields than expected"
    step = arrays.get(f"{STATE}step")
    if step is None or step.shape != () or step.dtype.kind != "i" or step < 0:
        yield "it does not say after how many updates it was written"
    lists = [fields[name] for name in ("updates", "held_out", "training")]
    if not lists[0] or len({len(each) for each in lists}) > 1:
        yield "its losses are incomplete"
    if not all(type(number) is int for number in lists[0]):
        yield "updates are not counted by integers"
    if not all(type(number) is float for number in (*lists[1], *lists[2], *fields["recent"])):
        yield "its losses are not numbers"


# --- Reading and writing ----------------------------------------------------------------------------


def _encoded(argument: str, facts: Mapping[str, Any]) -> bytes:
    r"""Return facts as JSON in UTF-8; NumPy's scalars become numbers.

    A file's name may have bytes that are not UTF-8. Python decodes each as a lone surrogate, which is
    written as JSON's escape for it, such as `\udcff`, and read as the same text.

    Args:
      argument: the caller's name for the facts, shown in error messages.
      facts: the facts by name.

    Raises:
      TypeError: if a fact is not a JSON value.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, (np.bool_, np.integer)):
            return value.item()
        if isinstance(value, np.floating):
            return float(value)
        raise TypeError(_checks.shown(value))

    try:
        text = json.dumps(facts, ensure_ascii=False, default=plain)
    except TypeError as error:
        raise TypeError(
            f"`{argument}`: expected JSON values (text, numbers, truth values, None, lists and "
            f"dictionaries from text), got {error}; leave it out or write it as text"
        ) from None
    return text.encode(errors="backslashreplace")


def _write(path: Path, kind: _hdf5.Format, facts: bytes, arrays: Mapping[str, Any]) -> None:
    datasets = {**arrays, FACTS: np.frombuffer(facts, np.uint8)}
    head: dict[str, str | int] = {"format": kind.name, "version": kind.version}
    try:
        with _hdf5.created(path) as file:
            _hdf5.store(file, datasets)
            _hdf5.set_attributes(file, head | {"digest": digest_of([*head.values()], datasets)})
    except (OSError, RuntimeError) as error:  # HDF5 may raise either if the disk is full
        raise OSError(f"cannot write '{path}': {_files.reason_of(error)}") from error


def _read(source: _hdf5.Source) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """Return the datasets of a file by name, without `facts`; the decoded facts; and the file's digest.

    An error is raised if the digest that the file states is not that of its datasets.
    """
    with _hdf5.opened(source) as file:
        arrays = _hdf5.arrays_in(source, file)
        stated = _hdf5.attribute(file, "digest")
    digest = digest_of([source.format.name, source.format.version], arrays)
    if digest != stated:
        raise source.error(f"has digest {digest} but states {stated}; {source.format.if_damaged}")
    array = arrays.pop(FACTS, None)
    try:
        facts = json.loads(b"" if array is None else array.tobytes())
    except (ValueError, RecursionError) as error:
        raise source.damaged(error) from error
    if not isinstance(facts, dict):
        raise source.damaged(f"{FACTS} is no JSON object")
    return arrays, facts, digest


def _number_of_styles(params: LayerParams) -> int | None:
    """Return the number of styles in parameters; None if they are those of another network.

    Only the parameters from which `module_of` finds the numbers of styles, channels and residual blocks
    are considered.
    """
    leaves = named_leaves(dict(params))
    shapes = [np.shape(leaves.get(f"{name}/{GAMMA}", 0)) for name in ENCODER]
    if any(len(shape) != 2 for shape in shapes) or f"{BLOCK}1" not in params:
        return None
    return shapes[0][0]


def _check_fits(source: _hdf5.Source, params: LayerParams, styles: int) -> None:
    """Raise an error if the arrays of a style file are not the parameters of a `Johnson` network.

    The network's first three layers show how many styles and channels it has, and the arrays' names
    show how many residual blocks. All arrays must have the names, shapes and dtypes of a network with
    these numbers.

    Args:
      source: the file, for error messages.
      params: the arrays of the file as nested dictionaries.
      styles: the number of styles that the file names, which must be the network's.
    """
    count = _number_of_styles(params)
    if count is None:
        raise source.error(
            "has the arrays of another network, not of Johnson's; name a file that `nst-jax train` made"
        )
    if count != styles:
        raise source.damaged(f"it names {styles} styles and has the norms of {count}")
    found = _hdf5.layout_of(named_leaves(dict(params)))
    expected = _hdf5.layout_of(named_leaves(expected_shapes(params)))
    if differences := _hdf5.layout_differences(expected, found):
        raise source.error(f"does not fit its network: {differences}; {STYLE_FORMAT.if_damaged}")
