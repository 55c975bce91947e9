"""Programs of the command line, traced once and stored on disk.

JAX's compilation cache finds a compiled program by its lowered form. So every start of the command line
would have to trace and lower the program first, which for large pictures takes longer than loading the
compiled program. Therefore the traced program is stored, too, as `jax.export` writes it (StableHLO,
without pickles). The stored program is found by a key, the hash of all that tracing depends on: the
traced function and its static arguments, the code of this package, the versions of Python and of the
packages that it calls, JAX's settings, platform and default device, and the structure, shapes and types
of the other arguments. A program depends on the devices of its arguments, too. So it is stored only if
all arguments are on the default device.
"""

import hashlib
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from jax import export, lax
from jax.sharding import SingleDeviceSharding

import nst_jax
from nst_jax import _compile, batch_programs, canvas, descent, dreaming, optimize
from nst_jax._compile import Jitted, RecentPrograms
from nst_jax._types import Targets
from nst_jax.app.cache import TRACED, EntriesOf, programs_folder, without
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.correspondence import measure_styles
from nst_jax.dreams.ascent import ascend
from nst_jax.feed_forward import arbitrary, instant_painter, johnson, styles26
from nst_jax.losses.names import RECORDS
from nst_jax.scaling import capacity
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import AnyMesh
from nst_jax.style_statistics import add_style_tile, sum_style
from nst_jax.targets import measure_content
from nst_jax.vgg.precision import DEFAULT_DEVICE, default_platform

# A part of the key (hash) by which a stored program is found. Increase it if keys or stored programs
# are made in another way: then all keys change, and older programs are not used.
KEY_FORMAT = 5
PACKAGE = Path(nst_jax.__file__).parent
# Folder, in that of the traced programs, of the notes that say which loop of updates a run needs first.
NOTES = "first"

# A stored program must not be used any more if the code from which it was traced has changed. The key
# changes with the source of `nst_jax`, and with the versions of optax and Python. So a program is
# stored only if the functions and classes in its arguments come from these packages or are built into
# Python.
OURS = ("nst_jax", "optax")


NOTHING: Mapping[str, Any] = MappingProxyType({})  # an empty dict, as an immutable default argument

Say = Callable[[str], None]


def kept_in(place: Path | None, say: Say = lambda line: None) -> canvas.Programs:
    """Return the functions that are compiled to paint one picture, as by `stylize`.

    For those that are slow to trace, the traced programs are stored on disk.

    Args:
      place: the folder for traced programs. Nothing is stored if `place` is None, or if this package is
        imported from an archive, in which its source files cannot be hashed.
      say: called with a line of text for each stored program that is damaged.

    Returns:
      A named tuple like `canvas.PROGRAMS`, whose functions return the same results.
    """
    if place is None or not _has_sources():
        return canvas.PROGRAMS
    measuring = canvas.PROGRAMS.measuring._replace(
        measure_content=Kept(measure_content, place, static=("held",), say=say),
        sum_style=Kept(sum_style, place, say=say),
        add_style_tile=Kept(add_style_tile, place, say=say),
        measure_styles=Kept(measure_styles, place, say=say),
    )
    run = Kept(optimize.run, place, large=True, say=say, donated=1)
    match = Kept(optimize.match, place, static=("first",), say=say)
    return canvas.PROGRAMS._replace(
        measuring=measuring, run=run, match=match, load_ahead=partial(_load_ahead, run)
    )


def _load_ahead(
    run: "Kept", plan: Plan, scale: int, controlled: bool, begin: descent.Begin
) -> None:
    """Begin to load the loop of updates that an earlier start of such a run has stored.

    This is done on a CPU only. On an accelerator, `SingleCanvas.begin_first` does it, or the loop is
    loaded when it is first called.

    Args:
      run: the loop of updates.
      plan: the plan of the run.
      scale: index of the scale (resolution) at which the run begins; not checked yet if it is that of a
        checkpoint.
      controlled: whether the run has regions, or protected or transparent parts.
      begin: starts the loading, possibly in another thread.
    """
    # A thread that loads a program does not know of a default device that another thread has chosen.
    chosen = getattr(jax.config, DEFAULT_DEVICE)
    here = plan.mesh is None and chosen is None and default_platform() == "cpu"
    recipe, sizes = plan.recipe.bare(), [each._replace(steps=0) for each in plan.scales]
    name = surrounded_key(recipe, scale, sizes, plan.in_bucket, controlled) if here else None

    def records() -> Any:
        image = jax.ShapeDtypeStruct((*plan.scales[-1].shape, 3), "float32")
        return jax.eval_shape(lambda image: optimize.init(image, recipe), image)

    run.load_ahead(name, records, begin)


def batch_kept_in(place: Path | None, say: Say = lambda line: None) -> batch_programs.BatchPrograms:
    """Return the functions that `batch` and `sweep` compile.

    For those that are slow to trace, the traced programs are stored on disk. The arguments are those of
    `kept_in`, which does the same for runs of `stylize`.
    """
    if place is None or not _has_sources():
        return batch_programs.PROGRAMS
    return batch_programs.PROGRAMS._replace(
        measuring=kept_in(place, say).measuring,
        run=Kept(
            batch_programs.run_many,
            place,
            static=("axes", "mesh"),
            large=True,
            say=say,
            donated=1,
        ),
        match=Kept(batch_programs.match_many, place, static=("first", "axes", "mesh"), say=say),
    )


class Compiled(NamedTuple):
    """How the programs of a batch are compiled: arguments of `planned_batches.paint_batch`."""

    # The functions that are compiled; None: those of `batch_programs`, which are not stored on disk.
    programs: batch_programs.BatchPrograms | None = None
    # Starts work, such as compiling for the next scale (resolution level), in another thread; None:
    # each program is compiled when it is first needed, by the thread that paints.
    begin: descent.Begin | None = None


def compiled_of_batch(mesh: AnyMesh | None, ahead: Ahead, say: Say) -> Compiled:
    """Return how `batch` and `sweep` compile their programs.

    Traced programs are stored on disk. While the pictures are painted at one scale (resolution level),
    a second thread prepares the next scale: it computes the targets of the losses, and compiles the
    programs.

    Args:
      mesh: the devices that share the batch; None for one device. With several devices, nothing is done
        in a second thread: all devices must start the same programs in the same order, which two
        threads do not guarantee.
      ahead: the second thread.
      say: called with a line of text for each stored program that is damaged.
    """
    kept = batch_kept_in(programs_folder(), say)
    return Compiled(kept, ahead.begin if mesh is None else None)


def instant_kept_in(
    place: Path | None, say: Say = lambda line: None
) -> instant_painter.InstantPrograms:
    """Return the functions that `instant` compiles, with traced programs stored on disk.

    The arguments are those of `kept_in`, which does the same for runs of `stylize`.
    """
    if place is None or not _has_sources():
        return instant_painter.PROGRAMS
    kept = partial(Kept, place=place, static=("precision",), say=say)
    return instant_painter.InstantPrograms(
        kept(arbitrary.style_vector),
        kept(arbitrary.stylize_with),
        kept(styles26.stylize_mixture),
        kept(johnson.stylize_trained),
    )


def kept_dream_in(place: Path | None, say: Say = lambda line: None) -> dreaming.DreamPrograms:
    """Return the functions that `dream` compiles.

    For those that are slow to trace, the traced programs are stored on disk.

    Args:
      place: the folder for traced programs. Nothing is stored if `place` is None, or if this package is
        imported from an archive, in which its source files cannot be hashed.
      say: called with a line of text for each stored program that is damaged.
    """
    if place is None or not _has_sources():
        return dreaming.PROGRAMS
    return dreaming.PROGRAMS._replace(
        measuring=kept_in(place, say).measuring,
        ascend=Kept(ascend, place, large=True, say=say, donated=1),
    )


# --- Programs kept in files -----------------------------------------------------------------------


class _FirstCall(NamedTuple):
    """The first call of a function by a run, for which `Kept.load_ahead` has begun to load a program.

    Attributes:
      thread: the thread that called `load_ahead`, and that will make the call. A thread that still
        works for an earlier run may call the function before.
      note: the file in which the call notes the key of its program.
      noted: the key that an earlier start has noted; None if there is none, or if the program with this
        key is in memory.
      loaded: a function that waits until the program with the noted key is loaded, and returns it.
    """

    thread: int
    note: Path
    noted: str | None = None
    loaded: Callable[[], Any] = lambda: None


class Kept:
    """A function compiled as by `jax.jit`, whose traced programs are stored on disk.

    In memory, only the programs that were used last are kept, as by `Jitted`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        place: Path,
        *,
        donated: int | None = None,
        static: tuple[str, ...] = (),
        large: bool = False,
        say: Say = lambda line: None,
    ) -> None:
        """Wrap a pure function of pytrees.

        Args:
          function: the function to compile.
          place: the folder for its traced programs.
          donated: index of the argument whose memory a call may reuse for its result, as
            `donate_argnums` of `jax.jit`; None if there is none.
          static: names of the arguments that are constants of a program; they are given by keyword.
            All other arguments that are given by keyword are arrays, except `bands`: how several
            devices share a picture; None means one device. Programs for several are not stored, and
            neither are those for arrays that are not on the default device.
          large: whether compiling a program takes seconds; see `Jitted`.
          say: called with a line of text for each stored program that is damaged.
        """
        self._function, self._place, self._donated, self._say = function, place, donated, say
        self._static, self._large = static, large
        self._programs = RecentPrograms()
        # Key of a program -> the names of its files in JAX's cache folder; None if the program is not
        # kept on disk.
        self._files: dict[str, frozenset[str] | None] = {}
        # What the latest call of `load_ahead` has begun; None if the call for which it did so is made.
        self._first: _FirstCall | None = None
        # The files of the programs that were called since `files_in_use` was called last; None stands
        # for a program that is not kept on disk.
        self._used: set[frozenset[str] | None] = set()
        self._jitted = Jitted(
            function,
            donate_argnums=() if donated is None else donated,
            static_argnames=static,
            large=large,
        )

    def __call__(self, *arguments: Any, bands: Any = None, **named: Any) -> Any:
        if bands is not None:  # several devices share the picture; programs for this are not stored
            self._used.add(None)
            return self._jitted(*arguments, bands=bands, **named)
        static = {name: value for name, value in named.items() if name in self._static}
        arrays = {name: value for name, value in named.items() if name not in self._static}
        values = (*arguments, arrays) if arrays else arguments
        first = self._begun_for_this_call()
        try:
            _check_place(jax.tree.leaves(values))
            key = self._key(values, static)
        except _Foreign:
            self._used.add(None)
            return self._jitted(*arguments, **named)
        program = self._programs.get(key)
        if program is None:
            # If loading has failed, the error is raised here, where the program is needed.
            made = first.loaded() if first is not None and first.noted == key else None
            if made is None:
                made = self._program(key, values, static, by_keyword=bool(arrays))
            program = self._programs.add(key, made)
        self._used.add(self._files[key])
        if first is not None:
            note = json.dumps([key, self._donated_leaves(values)]).encode()
            if read_sealed(first.note, first.note.name) != note:
                write_sealed(first.note, first.note.name, note)
        with _compile.nans_allowed():
            return program(*jax.tree.leaves(values))

    def _key(self, arguments: tuple[Any, ...], static: Mapping[str, Any] = NOTHING) -> str:
        constants = [[name, _constant(value)] for name, value in sorted(static.items())]
        facts = [KEY_FORMAT, _name(self._function), self._donated, constants, _surroundings()]
        device = capacity.default_device()
        # The number of the device within this process: its `id` is another one in each process of a
        # cluster, and these may share the stored programs.
        number = device.client.local_devices().index(device)
        text = json.dumps([*facts, device.platform, number, _described(arguments)])
        return hashlib.sha256(text.encode()).hexdigest()

    def _program(
        self,
        key: str,
        arguments: tuple[Any, ...],
        static: Mapping[str, Any],
        *,
        by_keyword: bool = False,
    ) -> Callable[..., Any]:
        """Compile the program with this key, after loading it from its file, or tracing and storing it.

        `static` has the function's static arguments by name. With `by_keyword`, the last of `arguments`
        is a dict of arrays that the function gets by keyword. The compiled program is a function of the
        leaves of `arguments`.
        """
        path = self._path(key)
        _register_records(arguments)
        data = read_sealed(path, key)
        if data is None:
            if path.exists():
                deleted = f"the kept program '{path}' was damaged; it is deleted and made again"
                self._say(f"note: {without(path) or deleted}")
            data = self._exported(arguments, static, by_keyword)
            write_sealed(path, key, data)
        exported = export.deserialize(bytearray(data))
        leaves = _shapes(jax.tree.leaves(arguments))
        return self._compiled(key, exported, leaves, self._donated_leaves(arguments))

    def _path(self, key: str) -> Path:
        return self._place / f"{self._function.__name__}-{key}"

    def _compiled(
        self, key: str, exported: export.Exported, leaves: Sequence[Any], donated: Sequence[int]
    ) -> Callable[..., Any]:
        """Compile a traced program for the default device, or let JAX load it from its cache.

        `leaves` are the shapes and dtypes of the program's arguments; `donated` are the indices of
        those whose memory a call may reuse.
        """

        def program(*leaves: Any) -> Any:
            return exported.call(*leaves)

        program.__name__ = self._function.__name__
        # The program is compiled here, once, for these leaves. If `jitted` itself were called, a later
        # call whose arguments are results of an earlier one would lower the program again: newer
        # versions of JAX regard results as committed to a device.
        jitted = jax.jit(program, donate_argnums=tuple(donated))
        lowered = jitted.lower(*leaves)
        options = _compile.compiler_options(default_platform())
        entries = EntriesOf(self._function.__name__)
        with entries:
            compiled = lowered.compile(compiler_options=dict(options))
        if self._large:
            _compile.return_freed_memory()
        path = self._path(key)
        names = entries.of_program() if path.is_file() else None
        self._files[key] = names and names | {f"{TRACED}/{path.name}"}
        return compiled

    def load_ahead(
        self, name: str | None, records: Callable[[], Any], begin: descent.Begin
    ) -> None:
        """Begin to load the program that this thread will call next, if an earlier start has noted it.

        Loading a large program takes half a second, mostly outside Python. But its key needs all
        arguments of the call. So the call notes its key in a file for later starts. If the call then
        needs another program than the noted one, that is found as without this method.

        Args:
          name: a hash of what is known of the call before its arguments are; the name of the file. With
            None, nothing is loaded and noted, and what an earlier call of this method began is dropped.
          records: a function that returns a pytree with the named tuples that the program returns.
          begin: a function that starts the loading, possibly in another thread.
        """
        self._first = None
        if name is None:
            return
        first = _FirstCall(threading.get_ident(), self._place / NOTES / name)
        data = read_sealed(first.note, name)
        if data is not None:
            key, donated = json.loads(data)
            if self._programs.get(key) is None:
                loaded = begin(partial(self._loaded, key, donated, records))
                first = first._replace(noted=key, loaded=loaded)
        self._first = first

    def _loaded(self, key: str, donated: Sequence[int], records: Callable[[], Any]) -> Any:
        """Return the program with this key; None if it is not stored, or if its file is damaged."""
        data = read_sealed(self._path(key), key)
        if data is None:
            return None
        _register_records((records(),))
        exported = export.deserialize(bytearray(data))
        return self._compiled(key, exported, _shapes(exported.in_avals), donated)

    def _begun_for_this_call(self) -> _FirstCall | None:
        """Return what `load_ahead` has begun for the present call; None if it has begun nothing.

        It is returned once only, so that a program which the call does not need is not kept in memory.
        """
        first = self._first
        if first is None or first.thread != threading.get_ident():
            return None
        self._first = None
        return first

    def files_in_use(self) -> frozenset[str] | None:
        """Return the files of the programs that were called since the last call of this method.

        Returns:
          Names of files, relative to the folder of JAX's cache; None if one of these programs is not
          kept on disk.
        """
        used, self._used = self._used, set()
        return None if None in used else frozenset().union(*filter(None, used))

    def _exported(
        self, arguments: tuple[Any, ...], static: Mapping[str, Any], by_keyword: bool
    ) -> bytes:
        leaves, tree = jax.tree.flatten(arguments)

        def flat(*leaves: Any) -> Any:
            values = jax.tree.unflatten(tree, leaves)
            named = values[-1] if by_keyword else {}
            return self._function(*(values[:-1] if by_keyword else values), **named, **static)

        jitted = jax.jit(flat, donate_argnums=self._donated_leaves(arguments))
        # JAX exports for its default backend. If that is an accelerator, but the default device is a
        # CPU, the platform must be named.
        platforms = ["cpu"] if default_platform() == "cpu" else None
        return bytes(export.export(jitted, platforms=platforms)(*leaves).serialize())

    def _donated_leaves(self, arguments: tuple[Any, ...]) -> tuple[int, ...]:
        if self._donated is None:
            return ()
        before = len(jax.tree.leaves(arguments[: self._donated]))
        return tuple(range(before, before + len(jax.tree.leaves(arguments[self._donated]))))


def _shapes(leaves: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    """Return the shapes and dtypes of leaves.

    JAX lowers a program in another way for an argument that is committed to a device, as results of
    some programs are. It would then not find the compiled program in its cache if that was lowered from
    shapes, as by `load_ahead`. So all programs are lowered from shapes.
    """
    dtypes = [leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf) for leaf in leaves]
    return [
        jax.ShapeDtypeStruct(np.shape(leaf), dtype)
        for leaf, dtype in zip(leaves, dtypes, strict=True)
    ]


def _check_place(leaves: Sequence[Any]) -> None:
    """Refuse arrays for which the program would depend on where they are.

    The programs of `Kept` are traced and compiled for arrays that are on JAX's default device, in its
    default memory, and on no other device.

    Raises:
      _Foreign: if an array is elsewhere.
    """
    device = capacity.default_device()
    memory = device.default_memory().kind
    for leaf in leaves:
        if not isinstance(leaf, jax.Array):  # NumPy's arrays and Python's numbers are on no device
            continue
        place = leaf.sharding
        if (
            not isinstance(place, SingleDeviceSharding)
            or place.device_set != {device}
            or place.memory_kind not in (None, memory)
        ):
            raise _Foreign(f"{place}")


def files_in_use(compiled: batch_programs.BatchPrograms) -> frozenset[str] | None:
    """Return the files of those programs of a batch that ran since the last call of this function.

    `app.batch.kept_groups` records these files together with the group of pictures that was painted.

    Args:
      compiled: the programs, from `batch_kept_in`.

    Returns:
      Names of files, relative to the folder of JAX's cache. Only programs that `Kept` wraps are
      considered. None if there are no such programs, or if one that was called is not stored on disk.
    """
    if not isinstance(compiled.run, Kept):
        return None
    found = [
        program.files_in_use()
        for program in (compiled.run, compiled.match, *compiled.measuring)
        if isinstance(program, Kept)
    ]
    return None if None in found else frozenset().union(*filter(None, found))


# --- What a program depends on --------------------------------------------------------------------

# The key of a program is a hash of JSON values. The functions below turn what the program depends on
# into such values: recipes, weights, targets of the losses and optimiser states. A function becomes its
# full name.


class _Foreign(TypeError):
    """Raised for a value that the key of a program cannot describe, such as a user's own function.

    If the code of such a function changed, the key would stay the same, and a program with the old code
    would be loaded. So a program that uses such a value is not stored. The same holds for an array on
    another device than the default one.
    """


def _has_sources() -> bool:
    """Return whether the source files of `nst_jax` can be hashed: not if they are in an archive."""
    return (PACKAGE / "__init__.py").is_file()


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def _surroundings() -> list[Any]:
    """Return what every traced program depends on, as a list of JSON values.

    The list has a hash of this package's source files, the versions of Python and of the packages that
    tracing calls, JAX's default platform, and JAX's settings except the default device. The list is
    part of a program's key. So a program is traced again after one of these values has changed.
    """
    sha = hashlib.sha256()
    for path in _sources():
        sha.update(
            os.path.relpath(path, PACKAGE).encode()
            + b"\0"
            + hashlib.sha256(path.read_bytes()).digest()
        )
    modules = (jax, jaxlib, flax, optax, np)
    versions = {module.__name__: module.__version__ for module in modules}
    # The default device is left out: each thread may set another one, but the result of this function
    # is cached for all threads. A traced program depends only on the platform of the device, which
    # `_key` adds.
    values = {name: value for name, value in jax.config.values.items() if name != DEFAULT_DEVICE}
    settings = {name: repr(value) for name, value in sorted(values.items())}
    return [sha.hexdigest(), sys.version, versions, jax.default_backend(), settings]


def surrounded_key(value: Any, *facts: Any) -> str | None:
    """Return a hash of the code, versions and settings that tracing depends on, and of given values.

    Args:
      value: a pytree, such as a recipe. The key depends on its structure, static fields, shapes and
        dtypes.
      *facts: further values on which the key depends, of types that JSON can hold.

    Returns:
      The hash (the key). None if `value` has a part that no key can describe, such as a user's own
      function, whose code could change while the key stays the same. For the same reason it is None if
      this package is imported from an archive, in which its source files cannot be hashed.
    """
    if not _has_sources():
        return None
    try:
        described = _described(value)
    except _Foreign:
        return None
    text = json.dumps([KEY_FORMAT, _surroundings(), default_platform(), described, *facts])
    return hashlib.sha256(text.encode()).hexdigest()


def _described(value: Any) -> Any:
    """Return a pytree's structure and static fields, and its leaves' shapes and dtypes, as JSON values.

    Raises:
      _Foreign: if the pytree has a part that cannot be described, such as a user's own function.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = {
            field.name: (_constant if field.metadata.get("static") else _described)(
                getattr(value, field.name)
            )
            for field in fields(value)
        }
        return [_name(type(value)), parts]
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        return [_name(type(value)), [_described(part) for part in value]]
    if isinstance(value, Mapping):
        return [_name(type(value)), [[key, _described(value[key])] for key in sorted(value)]]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return [list(value.shape), value.dtype.name, bool(getattr(value, "weak_type", False))]
    if isinstance(value, (bool, int, float)):
        return type(value).__name__
    raise _Foreign(f"{value!r}")


def _constant(value: Any) -> Any:
    """Return a static value as JSON values: functions by name, dataclasses by their fields."""
    if value is None or isinstance(value, (bool, int, float, str, lax.Precision)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return [_name(type(value)), [_constant(part) for part in value]]
    if hasattr(value, "__qualname__"):
        return _name(value)
    if is_dataclass(value):
        parts = {field.name: _constant(getattr(value, field.name)) for field in fields(value)}
        return [_name(type(value)), parts]
    raise _Foreign(f"{value!r}")


def _name(thing: Any) -> str:
    """Return the full name of a function or class.

    Raise `_Foreign` if it is neither from a package in `OURS` nor built into Python, or if its module
    does not have it under its name, as when it is defined inside a function or a class.
    """
    module, name = thing.__module__, thing.__qualname__
    # In the key of a stored program, the name stands for `thing`, so no two things may share it.
    # Functions that are defined inside other functions may share a name. So a name is accepted only if
    # the module has `thing` itself under it.
    found = getattr(sys.modules.get(module), name, None)
    if found is not thing or module.split(".")[0] not in (*OURS, "builtins"):
        raise _Foreign(f"{module}.{name}")
    return f"{module}.{name}"


_known: set[type] = set()  # types of named tuples registered with `jax.export`
# Held while types are registered, since `jax.export` refuses a type that is registered twice.
_registering = threading.Lock()


def _register_records(arguments: tuple[Any, ...]) -> None:
    """Tell `jax.export` how to write the named tuples that a program may take or return."""
    with _registering:
        for kind in {Targets, *RECORDS, *_records(arguments)} - _known:
            _known.add(kind)
            export.register_namedtuple_serialization(kind, serialized_name=_name(kind))


def _records(value: Any) -> set[type]:
    """Return the types of the named tuples in a pytree."""
    if isinstance(value, Mapping):
        return set().union(*map(_records, value.values()))
    if not isinstance(value, (tuple, list)):
        return set()
    return set().union({type(value)} if hasattr(value, "_fields") else (), *map(_records, value))


# --- Files ----------------------------------------------------------------------------------------


def read_sealed(path: Path, key: str) -> bytes | None:
    """Return the data, such as a traced program, that `write_sealed` has written to a file.

    The result is None if the file is missing, damaged or for another key.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[hashlib.sha256().digest_size :]
    return data if content == _sealed(key, data) else None


def write_sealed(path: Path, key: str, data: bytes) -> None:
    """Write data, such as a traced program, to a file, with a hash of its key and data.

    A failure to write is ignored, since it only makes the next start slower.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(_sealed(key, data))
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _sealed(key: str, data: bytes) -> bytes:
    """Return the content of a file: a hash of the key and the data, then the data.

    By the hash, `read_sealed` recognises a file that is damaged or has another key.
    """
    return hashlib.sha256(key.encode() + data).digest() + data
