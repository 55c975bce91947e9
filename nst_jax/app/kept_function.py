"""A function whose programs are traced once and stored on disk.

JAX's compilation cache finds a compiled program by its lowered form. So every start of the command line
would have to trace and lower the program first, which for large pictures takes longer than loading the
compiled program. Therefore the traced program is stored, too, as `jax.export` writes it (StableHLO,
without pickles). `app.program_keys` makes the key by which it is found. A program depends on the
devices of its arguments, too. So it is stored only if all arguments are on the default device.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.sharding import SingleDeviceSharding

from nst_jax import _compile, descent
from nst_jax._compile import Jitted, RecentPrograms
from nst_jax._types import Targets
from nst_jax.app.cache import TRACED, EntriesOf, without
from nst_jax.app.program_keys import Foreign, full_name, program_key
from nst_jax.app.sealed_files import read_sealed, write_sealed
from nst_jax.losses.names import RECORDS
from nst_jax.scaling import capacity
from nst_jax.vgg.precision import default_platform

# Folder, in that of the traced programs, of the notes that say which loop of updates a run needs first.
NOTES = "first"

NOTHING: Mapping[str, Any] = MappingProxyType({})  # an empty dict, as an immutable default argument

Say = Callable[[str], None]


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
        except Foreign:
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
        return program_key(self._function, self._donated, arguments, static)

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
      Foreign: if an array is elsewhere.
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
            raise Foreign(f"{place}")


_known: set[type] = set()  # types of named tuples registered with `jax.export`
# Held while types are registered, since `jax.export` refuses a type that is registered twice.
_registering = threading.Lock()


def _register_records(arguments: tuple[Any, ...]) -> None:
    """Tell `jax.export` how to write the named tuples that a program may take or return."""
    with _registering:
        for kind in {Targets, *RECORDS, *_records(arguments)} - _known:
            _known.add(kind)
            export.register_namedtuple_serialization(kind, serialized_name=full_name(kind))


def _records(value: Any) -> set[type]:
    """Return the types of the named tuples in a pytree."""
    if isinstance(value, Mapping):
        return set().union(*map(_records, value.values()))
    if not isinstance(value, (tuple, list)):
        return set()
    return set().union({type(value)} if hasattr(value, "_fields") else (), *map(_records, value))
