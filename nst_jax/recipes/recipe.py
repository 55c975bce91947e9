"""The class `Recipe`: every choice and every number of a style transfer, as data.

Its parts `Pictures`, `Terms` and `Descent` have modules of their own.

A recipe is a pytree. Its numbers are leaves, except a few that determine the program, such as the tile
size. These are static, and so are taps (the layers that losses read) and functions. Recipes that differ
only in leaves run the same compiled program. An array in place of a leaf makes a sweep: one picture is
painted for each of the array's values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, vgg
from nst_jax._types import Shape
from nst_jax.images.resizing import enlarge
from nst_jax.recipes import sizes, walk
from nst_jax.recipes.descent import Descent
from nst_jax.recipes.fields import static
from nst_jax.recipes.pictures import Pictures
from nst_jax.recipes.schedules import OneScale
from nst_jax.recipes.terms import SecondStyle as SecondStyle
from nst_jax.recipes.terms import StylePart as StylePart
from nst_jax.recipes.terms import Terms
from nst_jax.vgg.precision import Auto

# Pickles written before the parts of a recipe had modules of their own name all their classes by this
# module. `SecondStyle` and `StylePart` are imported only so that such pickles can be loaded.

# Name of a preset -> the preset, for `Recipe.__repr__`. The module `presets` fills this dictionary,
# since this module cannot import `presets`, which imports this module.
PUBLISHED: dict[str, "Recipe"] = {}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """All choices and numbers of a style transfer, as data; the method `replace` makes variants.

    Attributes:
      name: a preset's name, or one of your own. Static.
      source: where the recipe's constants come from: a paper or a program. Static.
      family: name of the set of network weights that the source uses, such as "vgg19-caffe". With other
        weights, results differ from the source's. Static.
      pictures: how the pictures are prepared before painting, and how results are finished.
      network: how VGG-19 is computed. Static.
      terms: the losses that are minimised, and their weights.
      descent: the optimiser, the number of updates, and the sizes of the canvas at which they are made.

    Example:
      >>> from nst_jax import recipes
      >>> softer = recipes.TF.replace(style_weight=1e-3)
      >>> softer.terms.style_weight, recipes.TF.terms.style_weight
      (0.001, 0.01)
    """

    name: str = static("")
    source: str = static("")
    family: str = static("vgg19-caffe")
    pictures: Pictures = Pictures()
    network: vgg.Network = static(vgg.Network())
    terms: Terms = Terms()
    descent: Descent = Descent()

    def bare(self) -> "Recipe":
        """Return the recipe with fixed values in all fields that compiled programs do not use.

        Compiled programs are called with the result of this method in place of the recipe itself, so
        that they are not compiled anew for a recipe with another name, size rule or schedule.
        """
        descent = replace(self.descent, schedule=OneScale(), steps=0, enlarge=enlarge)
        bare = replace(self, name="", source="", family="", pictures=Pictures(), descent=descent)
        if isinstance(self.network.precision, Auto):
            return bare
        unused = vgg.Network().accelerator_precision
        return replace(bare, network=replace(self.network, accelerator_precision=unused))

    def at(self, scale: int, shapes: Sequence[Shape]) -> "Recipe":
        """Return the recipe for one scale of a run, with the values that hold only at that scale.

        Args:
          scale: index of the scale; 0 is the coarsest.
          shapes: (height, width) of the canvas at each scale.

        Returns:
          A recipe that does at every scale what this recipe does at the given one. Each of the
          following four fields is applied, unless it has its default value, and is then reset to it:

          * `terms.last_style_loss` becomes the style loss if the scale is the last one;
          * `descent.last_learning_rate` becomes the optimiser's rate if the scale is the last one;
          * `descent.one_pyramid` sets `descent.pyramid_levels` to the number for this scale;
          * `terms.content_against_style` changes the weights to those for this scale.

          If all four have their defaults in this recipe, the recipe itself is returned.
        """
        terms, descent = self.terms.at(scale), self.descent
        if terms.last_style_loss is not None:
            last = scale == len(shapes) - 1
            loss = terms.last_style_loss if last else terms.style_loss
            terms = replace(terms, style_loss=loss, last_style_loss=None)
        if descent.one_pyramid:
            halvings = round(math.log2(max(shapes[-1]) / max(shapes[scale])))
            levels = max(1, descent.pyramid_levels - halvings) if descent.pyramid_levels else 0
            descent = replace(descent, pyramid_levels=levels, one_pyramid=False)
        if (rate := descent.last_learning_rate) is not None:
            if scale == len(shapes) - 1:
                rule: Any = descent.optimizer
                descent = replace(descent, optimizer=replace(rule, learning_rate=rate))
            descent = replace(descent, last_learning_rate=None)
        if terms is self.terms and descent is self.descent:
            return self
        return replace(self, terms=terms, descent=descent)

    def resolved(self, platform: str | None = None) -> "Recipe":
        """Return the recipe with a fixed precision of computation in place of an automatic one.

        If `network.precision` is `AUTO`, it becomes the precision in which the recipe is computed on
        the given platform; this precision differs between CPUs and accelerators.

        Args:
          platform: JAX's name of the platform, such as "gpu"; None means that of JAX's default device.

        Returns:
          The changed recipe, or the recipe itself if its precision is not `AUTO`.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.TF.resolved("gpu")
          Recipe('tf', network.precision=tensorfloat32)
        """
        if not isinstance(self.network.precision, Auto):
            return self
        precision = self.network.precision_on(platform)
        return replace(self, network=replace(self.network, precision=precision))

    def replace(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> "Recipe":
        """Return a variant of the recipe in which some values are replaced by others.

        A field is named by its name alone, such as `style_weight`, or, where several fields have that
        name, by its full key: `pictures__size__pixels=256` or `{"pictures.size.pixels": 256}`. A value
        is a number, an array (for a sweep), a function or a dataclass; a size rule may also be given as
        a number or text, as for the argument `size` of `stylize`, such as 256. Values that are
        dataclasses (an optimiser, a size rule) are replaced before all others, so that
        `replace(optimizer=Adam(), learning_rate=0.1)` sets the new optimiser's rate.

        Args:
          values: a dictionary from names of fields to values. It is needed for full keys with dots,
            which cannot be keywords.
          **more: values by names of fields, as keywords. They replace values with the same names in
            `values`.

        Returns:
          The variant. Its values are not checked here, but by `nst_jax.recipes.check` and by every
          function that runs a recipe.

        Raises:
          TypeError: for a size that is True or False, and if `values` is no dictionary from text.
          ValueError: for an unknown name, and for a name that several fields have; the message suggests
            the nearest known name, or lists the full keys. Also for two different names of one
            field; and for a size, given as a whole number or as text, that
            `nst_jax.recipes.sizes.with_size` refuses.

        Example:
          >>> from nst_jax import optimizers, recipes
          >>> recipes.TF.replace(style_weight=3, steps=200)
          Recipe('tf', terms.style_weight=3, descent.steps=200)
          >>> recipes.TF.replace(size=256, optimizer=optimizers.Adam()).descent.optimizer.learning_rate
          0.02
        """
        values = {} if values is None else values
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise TypeError(
                "`replace`: expected a dictionary from names of fields to values, got "
                f"{_checks.shown(values)}; or give the values by name, as in "
                "`recipe.replace(steps=200)`"
            )
        recipe = self
        given = {**values, **more}.items()
        named: dict[str, str] = {}  # full key of a field -> the name by which it was given
        for name, value in sorted(given, key=lambda pair: not is_dataclass(pair[1])):
            key = walk.full_key(recipe, name)
            if key in named:
                raise ValueError(f"`{name}`: is the field of `{named[key]}`, too; give it once")
            named[key] = name
            if key in SIZES and isinstance(value, (int, np.integer, str)):
                rule = SIZES[key](recipe.pictures)
                value = sizes.with_size(rule, value, argument=name)
            recipe = walk.with_field(recipe, key, value)
        return recipe

    def __repr__(self) -> str:
        """Show the values that differ from those of the preset with the same name.

        If there is no such preset, show the values that differ from the defaults. Of more than
        `MOST_DIFFERENCES` values, show the first ones, and say how many more there are.
        """
        base = PUBLISHED.get(self.name) or replace(Recipe(), name=self.name)
        found = [f"{item.key}={walk.short_value(item)}" for item in walk.differences(self, base)]
        if len(found) > MOST_DIFFERENCES:
            found = [*found[:MOST_DIFFERENCES], f"... {len(found) - MOST_DIFFERENCES} more"]
        return f"Recipe({', '.join([repr(self.name)] * bool(self.name) + found)})"


MOST_DIFFERENCES = 12  # largest number of values that `Recipe.__repr__` shows

# The fields for which `Recipe.replace` accepts a size such as 256 in place of a size rule: full key ->
# a function that returns the recipe's present rule, which `sizes.with_size` then changes.
SIZES: Mapping[str, Callable[[Pictures], sizes.SizeRule]] = {
    "pictures.size": lambda pictures: pictures.size,
    "pictures.style_size": lambda pictures: pictures.style_size or pictures.size,
}


def with_numbers(recipe: Recipe, convert: Callable[[Any], Any]) -> Recipe:
    """Return the recipe with each number that is a leaf replaced by `convert(number)`.

    The static numbers, such as the tile size, are no leaves and stay as they are.
    """
    return jax.tree.map(convert, recipe)


def as_arrays(recipe: Recipe, dtype: Any = jnp.float32) -> Recipe:
    """Return the recipe with its leaves as arrays of `dtype`, for calls of compiled programs.

    The leaves are all numbers of the recipe but the static ones, such as the tile size.

    Without this cast, `jit` would compile a program anew for a 3 in place of 3.0, and for a NumPy
    number in place of a Python number, since these have different types. Sizes and numbers of updates
    become floats, too, so whole numbers have to be read from the recipe before the cast.
    """

    def convert(number: Any) -> jax.Array:
        # Numbers are cast by NumPy on the host where possible, since a cast by JAX on the device is
        # one more program to compile.
        if isinstance(number, jax.core.Tracer):
            return number.astype(dtype)
        return jnp.asarray(np.asarray(number).astype(dtype))

    return with_numbers(recipe, convert)
