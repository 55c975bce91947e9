"""Records of the groups whose programs are kept on disk; they are read when buckets are chosen.

A group has the pictures that are painted together; a bucket is an array in which pictures of several
shapes lie. The choice of buckets takes kept programs into account, since they need not be compiled
again. But the key of such a program, from `nst_jax.app.program_keys`, needs all its arguments, and when
buckets are chosen, only the sizes of a group are known. So when a group has been painted and its
programs are kept, a record is written, with the sizes of the group and the names of its programs'
files. The record is valid as long as all these files exist.

The records are in a subfolder of the folder in which `nst_jax.app.kept_function` stores traced
programs. The name of a record begins with a key of all that its programs depend on besides sizes and
number of pictures: the recipe, the code, the versions of the packages, JAX's settings and the device.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from nst_jax import _files
from nst_jax._types import Shape
from nst_jax.app import program_keys, programs
from nst_jax.app.batch import groups
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.groups import Group
from nst_jax.app.cache import programs_folder
from nst_jax.app.rates import device_key
from nst_jax.batch_programs import BatchPrograms
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling import sharding
from nst_jax.scaling.bucket_choice import KeptPrograms

FOLDER = "groups"  # folder of the records, in the folder of the traced programs


def record_group(
    kept: KeptPrograms,
    recipe: Recipe,
    varying: Sequence[bool],
    compiled: BatchPrograms,
    *,
    chunk: int | None = None,
    mesh: sharding.AnyMesh | None = None,
) -> None:
    """Write a record that the programs of a group are kept on disk; write none if they are not.

    Call it after the group is painted. It records the programs' files that were used since the last
    call of `programs.files_in_use`. So call that function before the group is painted; otherwise files
    that only earlier groups used may be recorded too.

    Args:
      kept: the sizes of the group's arrays, whether canvases fill them, and the number of pictures.
      recipe: the recipe of one of the group's pictures.
      varying: for each leaf (number) of a recipe, whether the program takes an array of it,
        with one number for each picture.
      compiled: the programs with which the group was painted, from `programs.batch_kept_in`.
      chunk: largest number of pictures painted at once; None sets no limit.
      mesh: the devices that share the group; None is one device.
    """
    files = programs.files_in_use(compiled)
    folder = _folder()
    family = _family(recipe, varying, chunk, mesh)
    if not files or folder is None or family is None:
        return
    sizes = [[scale.shape, scale.style_shapes] for scale in kept.arrays]
    facts = {"arrays": sizes, "pictures": kept.pictures, "exact": kept.exact}
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    path = folder / f"{family[:32]}.{name}.json"
    # A record whose files still exist is not replaced. If a program was loaded from JAX's cache instead
    # of compiled, JAX does not say from which file, so `files` may also name files of other programs. A
    # new record would become invalid when the files of the other programs are deleted.
    if _read(path) is not None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.atomic(path) as part:
            part.write_text(json.dumps(facts | {"files": sorted(files)}), "utf-8")


def kept_programs(
    entry: Entry,
    varying: Sequence[bool],
    *,
    chunk: int | None = None,
    mesh: sharding.AnyMesh | None = None,
) -> list[KeptPrograms]:
    """Describe the programs on disk that can paint groups of pictures with recipes like a given one.

    Recipes are alike if they differ only in names and in numbers that `groups.VARIABLE` lists.

    Args:
      entry: a picture with the given recipe; any one of the pictures of such a group will do.
      varying: for each leaf (number) of a recipe, whether it differs within the set of pictures that
        is divided into groups.
      chunk: largest number of pictures painted at once; None sets no limit.
      mesh: the devices that share a group; None is one device.

    Returns:
      One `KeptPrograms` for each valid record that `record_group` wrote for such groups, in a fixed
      order. They differ in the sizes of their arrays, in the number of pictures, or in whether the
      canvases fill the arrays. The list is empty if the picture `entry` has regions or a protected
      part.
    """
    folder, family = _folder(), _family(entry.recipe, varying, chunk, mesh)
    # No record describes the programs that paint a picture with masks (of regions or a protected part).
    if folder is None or family is None or entry.controls is not None:
        return []
    found = map(_read, sorted(folder.glob(f"{family[:32]}.*.json")))
    return [one for one in found if one is not None]


def kept_among(
    parts: Iterable[Group], *, chunk: int | None = None, mesh: sharding.AnyMesh | None = None
) -> list[Group]:
    """Return those groups whose programs are all kept on disk.

    Args:
      parts: the groups.
      chunk: largest number of pictures painted at once; None sets no limit.
      mesh: the devices that share a group; None is one device.
    """
    known: dict[Any, Collection[Any]] = {}
    found = []
    for group in parts:
        first = group.entries[0]
        key = groups.structure_of(first.recipe), group.varying, first.controls is None
        if key not in known:
            some = kept_programs(first, group.varying, chunk=chunk, mesh=mesh)
            known[key] = {one.key(first.recipe) for one in some}
        if group.programs.key(first.recipe) in known[key]:
            found.append(group)
    return found


def _folder() -> Path | None:
    place = programs_folder()
    return None if place is None else place / FOLDER


def _family(
    recipe: Recipe, varying: Sequence[bool], chunk: int | None, mesh: sharding.AnyMesh | None
) -> str | None:
    """Return a key of all that a group's programs depend on, except the shapes and number of pictures.

    The arguments are those of `record_group`. The result is None if the recipe cannot be part of a key,
    as when the user wrote one of its functions.
    """
    bare = recipe.bare()
    # `bare` drops the schedule, since no single program depends on it. But the schedule says at which
    # scales a picture is painted, and so which programs its group needs. So it is kept here. The number
    # of updates, and the filter that enlarges the canvas between two scales (`enlarge`), change none of
    # the programs.
    descent = replace(recipe.descent, steps=0, enlarge=bare.descent.enlarge)
    recipe = replace(bare, descent=descent)
    leaves, _ = jax.tree_util.tree_flatten_with_path(recipe)
    numbers = [(jax.tree_util.keystr(path), value) for path, value in leaves]
    fixed = [[path, str(value)] for path, value in numbers if not path.startswith(groups.VARIABLE)]
    devices = 1 if mesh is None else mesh.size
    return program_keys.surrounded_key(recipe, device_key(), fixed, list(varying), chunk, devices)


def _read(path: Path) -> KeptPrograms | None:
    """Read a record; return None if it is missing or damaged, or names a program file that is gone."""
    place = programs_folder()
    try:
        facts = json.loads(path.read_text("utf-8"))
        arrays = tuple(
            Scale(_size(shape), tuple(map(_size, styles)), 0) for shape, styles in facts["arrays"]
        )
        if not arrays:
            raise ValueError("no sizes")
        there = place is not None and all(
            (place.parent / name).is_file() for name in facts["files"]
        )
        found = KeptPrograms(arrays, int(facts["pictures"]), bool(facts["exact"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return found if there else None


def _size(sides: Sequence[int]) -> Shape:
    """Return a (height, width) from a record; raise ValueError or TypeError if it is not a pair."""
    height, width = map(int, sides)
    return height, width
