"""The recipe of each row of a batch, changed by the flags of the command and by the row's own values.

A row is one picture to paint, as the command line or a manifest (a table of rows) describes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nst_jax import recipes, texturing
from nst_jax.app import arguments
from nst_jax.app.batch.manifests import ManifestRow, naming_row
from nst_jax.app.recipe_controls import controls_of_recipe
from nst_jax.app.textures import recipe_of_texture
from nst_jax.recipes import toml
from nst_jax.recipes.changes import with_options, with_tap_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.taps import SMALLEST

# A function of the recipe of a row (a picture to paint), and of the row's seed, which may be None. It
# raises ValueError if an option, or this seed, cannot be used with the recipe.
Check = Callable[[Recipe, int | None], Any]


def recipes_of(
    rows: Sequence[ManifestRow],
    changes: arguments.Changes,
    start: Any = None,
    check: Check = lambda recipe, seed: None,
) -> list[tuple[Recipe, float | None]]:
    """Return the recipe of each row (picture to paint), changed by the flags and the row's overrides.

    Beside each recipe is the strength of the style, from 0 to 1, that was applied to it. It is None if
    neither the flags, nor the recipe file, nor the overrides give a strength.

    An override is a change KEY=VALUE of the recipe. The flags are applied first. If a row names no
    recipe, it gets the recipe of the command line. A row without a content gets the variant of its
    recipe that paints a texture. The size of the texture is not set here; the recipe keeps its own rule
    for the size.

    Args:
      rows: the rows of the batch.
      changes: the flags that change recipes.
      start: replaces every recipe's start (initial picture); None keeps the recipes' own.
      check: called with each recipe and the seed of its row, see `Check`.

    Raises:
      ValueError: if a flag or a row's recipe cannot be used. In the second case, the message names the
        row if it came from a manifest.
    """
    for texture in {row.content is None for row in rows if row.recipe is None}:
        # A wrong flag raises an error here. In the loop below, the error message would blame a row.
        flags = _changes_of_textures(changes) if texture else changes
        arguments.recipe_of(_with_layers_of_file(flags), controls=True)
    # `bases` has recipes before the rows' overrides (KEY=VALUE) are applied, and `known` has the final
    # recipes. Beside each is the strength of the style, which is applied after the overrides. Many rows
    # may share a recipe, so each is made only once.
    bases: dict[Any, tuple[Recipe, float | None]] = {}
    known: dict[Any, tuple[Recipe, float | None]] = {}
    found = []
    for row in rows:
        base = row.recipe, tuple(share for _, share in row.styles), row.content is None, row.size
        taps = tuple(tap for tap, _ in row.tap_files)
        wanted = *base, row.overrides, taps, row.tile_seamless, row.seed is None
        if wanted not in known:
            with naming_row(row):
                if base not in bases:
                    bases[base] = _base_of(row, changes, start)
                recipe, strength = _recipe_of(row, *bases[base])
                if row.content is None:
                    recipe = _of_texture(row, recipe, changes)
                check(recipe, row.seed)
                known[wanted] = recipe, strength
        found.append(known[wanted])
    return found


def _base_of(
    row: ManifestRow, changes: arguments.Changes, start: Any
) -> tuple[Recipe, float | None]:
    """Return a row's recipe before the row's overrides (KEY=VALUE), and the strength of the style.

    The recipe is the one that the row names, or else that of the command line. It is changed by the
    flags, by the row's style shares and, unless the row paints a texture, by the row's `size`. The
    strength is the one that the recipe file or the flags give; None if they give none. The recipe does
    not contain it yet, since the row's overrides may give another strength.

    Args:
      row: the row, which is a picture to paint.
      changes: the flags that change recipes.
      start: replaces the recipe's start (initial picture); None keeps it.
    """
    if row.content is None:
        changes = _changes_of_textures(changes)
    elif row.size is not None:
        changes = changes._replace(size=row.size)
    changes = changes._replace(style_shares=arguments.shares_of(row.styles))
    if row.recipe is not None:
        changes = changes._replace(recipe=row.recipe)
    changes = _with_layers_of_file(changes)
    recipe, strength = arguments.recipe_and_strength_of(changes, controls=True)
    if start is not None:
        recipe = replace(recipe, pictures=replace(recipe.pictures, start=start))
    return recipe, strength


def _changes_of_textures(changes: arguments.Changes) -> arguments.Changes:
    """Return the flags for a row that paints a texture, so that they act as in the command `texture`.

    The default recipe is `gatys-texture`. The size is left out, since `--size` of a texture is the size
    of the canvas and does not change the recipe.
    """
    return changes._replace(recipe=changes.recipe or recipes.GATYS_TEXTURE.name, size=None)


def _of_texture(row: ManifestRow, recipe: Recipe, changes: arguments.Changes) -> Recipe:
    """Return the variant of a row's recipe that paints a texture.

    Args:
      row: the row, without a content.
      recipe: the row's recipe, already changed by the command's flags and the row's own `overrides`.
      changes: the flags, to refuse those without effect on a texture, and to check the size.

    Raises:
      ValueError: if a flag or an override has no effect on a texture, or if the size cannot be used.
    """
    given = {
        key: f"--{flag.replace('_', '-')}"
        for flag, key in arguments.KEYS.items()
        if getattr(changes, flag) not in (None, ())
    }
    given |= dict.fromkeys(arguments.by_key(changes.values), "--set")
    given |= {} if changes.strength is None else {toml.STRENGTH: "--strength"}
    given |= {"terms.content_taps": "--content-layer"} if changes.content_layer else {}
    own = dict.fromkeys(arguments.by_key(row.overrides, argument="overrides"), "overrides")
    others = ", or write it into the `overrides` of the rows with a content"
    recipe_of_texture(recipe, seamless=row.tile_seamless, given=given, instead=others)
    recipe = recipe_of_texture(recipe, seamless=row.tile_seamless, given=own)
    if (size := row.size or changes.size) is not None:
        texturing.canvas_shape(size, (SMALLEST, SMALLEST), recipe)
    return recipe


def _with_layers_of_file(changes: arguments.Changes) -> arguments.Changes:
    """Return the flags of the command; if they have no `style_layer`, add that of the recipe file.

    `style_layer` names style pictures for single layers.
    """
    if changes.style_layer:
        return changes
    return changes._replace(style_layer=controls_of_recipe(changes.recipe).get("style_layer", ()))


def _recipe_of(
    row: ManifestRow, recipe: Recipe, strength: float | None
) -> tuple[Recipe, float | None]:
    """Return the final recipe of a row, checked against the row's styles, and the applied strength.

    Args:
      row: the row, which is a picture to paint.
      recipe: the row's recipe, to which the row's overrides (KEY=VALUE) and its style pictures for
        single layers are not yet applied.
      strength: the strength of the style, from 0 to 1, to apply unless the overrides give another;
        None applies none.
    """
    if row.overrides:
        values = arguments.by_key(row.overrides, argument="overrides")
        recipe, own = toml.values_and_strength(recipe, values, argument="overrides")
        strength = strength if own is None else own
    recipe = with_options(recipe, strength=strength)
    if row.tap_files:
        recipe, _ = with_tap_styles(recipe, dict(row.tap_files))
    if not row.location and len(recipe.terms.style_shares) > 1:
        raise ValueError(
            f"`recipe`: {recipe.name!r} blends {len(recipe.terms.style_shares)} styles by its "
            "`style_shares`, but file arguments pair one style with each content; blend with `stylize` "
            "or in a manifest"
        )
    recipes.check_styles(recipe.terms, len(row.style_files))
    return recipe, strength
