"""The settings of a dream: their defaults, their checks, and the octaves that follow from them.

An octave is one of the sizes at which a dream paints its picture, one after another, from the smallest
to the largest. A guide is a second picture, whose activations the dream imitates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nst_jax import _checks, optimizers, run_scales, vgg
from nst_jax._types import Shape
from nst_jax.dreams.ascent import Ascent
from nst_jax.recipes import sizes
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.checking import LARGEST_SHARE
from nst_jax.recipes.descent import Descent
from nst_jax.recipes.pictures import Pictures
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.recipes.terms import Terms
from nst_jax.run_scales import Scale

Taps: TypeAlias = str | list[str] | tuple[str, ...] | Mapping[str, float]

SOURCE = (
    "google/deepdream @ bbc2ddf, dream.ipynb, and tensorflow/docs @ 252295e, "
    "site/en/tutorials/generative/deepdream.ipynb, on another network"
)

# Defaults from google/deepdream's `dream.ipynb`, where they are called `iter_n` (steps at an octave,
# which is one size of the picture), `octave_n` (number of octaves), `octave_scale` (ratio of the sizes
# of neighbouring octaves) and `jitter` (largest random shift of the picture, in px).
STEPS, OCTAVES, OCTAVE_SCALE, JITTER = 10, 4, 1.4, 32
# Default standard deviation of the change of the pixel values, in [0, 1], in one step. It follows
# `dream.ipynb`, where the mean absolute change in a step is 1.5 for pixel values in 0..255. If these
# changes are normally distributed, their standard deviation is about 1.9, which is 0.0074 for pixel
# values in [0, 1]. For comparison: TensorFlow's tutorial has 0.01 for pixel values in [-1, 1], which is
# 0.005 for pixel values in [0, 1], and makes 50 or 100 steps at each octave.
STEP_SIZE = 0.0075
# Default tap (layer) whose activations are maximised. `dream.ipynb` and TensorFlow's tutorial use taps
# of other networks, GoogLeNet and Inception-v3. With this tap of VGG-19, eyes and heads appear all over
# a picture. With later taps, heads are larger, and areas without detail stay as they are.
TAP = "relu4_4"
SIZE = sizes.LongEdge(512)  # default size of the picture: longer side 512 px
# Default size of the guide, the second picture, whose activations a dream imitates: longer side 224 px.
# "The neural network we use was trained on images downscaled to 224x224 size. So high resolution images
# might have to be downscaled" (`dream.ipynb`, on the guide). VGG-19 was trained on pictures of
# 224 x 224 px, too.
GUIDE_SIZE = sizes.LongEdge(224)

# Largest number of octaves allowed. `SMALLEST`, the least side at any octave, also limits their number.
# But this limit alone would allow a million octaves if `octave_scale` is just above 1.
MOST_OCTAVES = 100
SMALLEST = vgg.SMALLEST  # smallest side in px that the picture may have at any octave


@dataclass(frozen=True, kw_only=True)
class DreamSettings:
    """All settings of a dream; `settings_of` makes them from checked options.

    Attributes:
      ascent: taps (layers) and their weights, size of a step, and largest random shift in px. The field
        `network` of `ascent` is not used: the dream uses the network in its plan instead.
        `nst_jax.dreaming.plan_dream` makes the plan from `recipe`, with tiles that fit in memory and a
        precision that suits the platform.
      steps: number of steps at each octave.
      octaves: number of octaves, which are the sizes at which the picture is painted, one after
        another. The last octave has the final size.
      octave_scale: ratio of the sides of the picture at an octave to its sides at the octave before.
      recipe: the settings that a dream has in common with a style transfer, as a `Recipe`: the size
        rule and the resizing filter of the picture, and the network. The recipe's content taps are the
        taps of the dream: the features of the guide, the second picture, are computed like those of a
        content. The recipe's size rule for styles is the size rule of the guide. Memory, tiles and
        precision are planned from this recipe.
    """

    ascent: Ascent
    steps: int
    octaves: int
    octave_scale: float
    recipe: Recipe

    @property
    def updates(self) -> int:
        """Number of steps of the whole dream, at all octaves together."""
        return self.steps * self.octaves

    def scales(self, content: Shape, guide: Shape | None) -> tuple[Scale, ...]:
        """Return the octaves of a dream, the smallest first.

        Args:
          content: (height, width) in px of the picture, before any resizing.
          guide: (height, width) in px, before any resizing, of the guide, the second picture whose
            activations the dream imitates; None without a guide.

        Returns:
          A `Scale` for each octave: the (height, width) of the picture there, the final size of the
          guide, and the number of steps. The loop in `nst_jax.descent` takes this tuple.

        Raises:
          ValueError: if a side of the picture or of the guide, or of the picture at an octave, is
            under 16 px.
        """
        # A `Scale` must have the size of a style picture. Here this is the size of the guide. Without a
        # guide it is the smallest possible size, so that the memory planned for it is negligible.
        beside = guide or (SMALLEST, SMALLEST)
        final, guided = run_scales.final_shapes(content, beside, self.recipe, argument="guide")
        shapes = [final]
        for number in range(1, self.octaves):
            ratio = self.octave_scale**-number
            shape = max(1, round(final[0] * ratio)), max(1, round(final[1] * ratio))
            if min(shape) < SMALLEST:
                raise ValueError(
                    f"`octaves`: octave {number + 1} below {final[1]}x{final[0]} px, each "
                    f"{self.octave_scale:g} times smaller, would be {shape[1]}x{shape[0]} px, and the "
                    f"network needs {SMALLEST} px on each side; choose {number} octaves at most, or a "
                    "larger `size`"
                )
            shapes.append(shape)
        return tuple(Scale(shape, (guided,), self.steps) for shape in reversed(shapes))


def settings_of(
    taps: Taps = TAP,
    *,
    guided: bool = False,
    size: Size = None,
    guide_size: Size = None,
    steps: int = STEPS,
    step_size: float = STEP_SIZE,
    octaves: int = OCTAVES,
    octave_scale: float = OCTAVE_SCALE,
    jitter: int = JITTER,
    precision: str | None = None,
    tile: int | str | None = None,
) -> DreamSettings:
    """Check the options of a dream, and return its settings.

    Args:
      taps: the taps (layers) whose activations are maximised: a name such as `"relu4_4"`, a list of
        names, or a dict from names to weights.
      guided: whether the dream has a guide, a second picture whose activations it imitates.
      size: final size of the picture, as in `nst_jax.stylize`; None means `SIZE`, longer side 512 px.
      guide_size: size of the guide, in the same forms as `size`; None means `GUIDE_SIZE`, longer
        side 224 px.
      steps: number of steps at each octave.
      step_size: standard deviation of the change of the pixel values in one step, where black and white
        differ by 1.
      octaves: number of octaves, the sizes at which the picture is painted.
      octave_scale: ratio of the sides of the picture at an octave to its sides at the octave before.
      jitter: largest number of pixels by which the picture is shifted along each axis before a step;
        the shift is random.
      precision: name of the network's precision, such as `"float32"`; None means `"auto"`.
      tile: side in px of the tiles in which the picture is computed. With `"off"`, it is computed as a
        whole; with `"auto"` or None, in tiles only if it does not fit in memory.

    Returns:
      The settings.

    Raises:
      TypeError: if an option is of the wrong type.
      ValueError: if the value of an option cannot be used.
    """
    weights = _weights_of(taps)
    names = vgg.resolve_taps(weights)
    _checks.whole("steps", steps, least=1)
    _checks.one_number("step_size", step_size, above=0)
    _checks.whole("octaves", octaves, least=1, most=MOST_OCTAVES)
    _checks.one_number("octave_scale", octave_scale, above=1)
    _checks.whole("jitter", jitter, least=0, below=sizes.LARGEST)
    if guide_size is not None and not guided:
        raise ValueError("`guide_size`: there is no guide; give one, or omit this option")
    guide_rule = sizes.with_size(GUIDE_SIZE, guide_size, argument="guide_size")
    ascent = Ascent(
        taps=names, weights=tuple(weights.values()), step_size=float(step_size), jitter=int(jitter)
    )
    recipe = Recipe(
        name="dream",
        source=SOURCE,
        pictures=Pictures(size=SIZE, style_size=guide_rule if guided else sizes.AsIs()),
        network=ascent.network,
        terms=Terms(
            content_taps=names,
            content_layer_weights=(1.0,) * len(names),
            # A dream has no style loss, but a recipe must have a style tap. It gets only one, since
            # more would need more memory.
            style_taps=names[:1],
            style_layer_weights=(1.0,),
        ),
        descent=Descent(optimizer=optimizers.DecayedSGD(), steps=steps * octaves),
    )
    own = recipe.pictures.style_size
    return DreamSettings(
        ascent=ascent,
        steps=int(steps),
        octaves=int(octaves),
        octave_scale=float(octave_scale),
        recipe=with_options(recipe, size, own, precision=precision, tile=tile),
    )


def _weights_of(taps: Any) -> dict[str, float]:
    """Return a dictionary: name of a tap (layer) -> its weight; refuse weights that cannot be used.

    `taps` is a name, a list of names, or a dict of names and weights. Without weights, each tap has the
    weight 1. The keys of the result are the names as the caller wrote them.
    """
    if isinstance(taps, str):
        taps = [taps]
    if isinstance(taps, Mapping):
        found = dict(taps)
    elif isinstance(taps, (list, tuple)):
        # This call raises an error for a tap that is given twice. Below, the names become keys of a
        # dict, which would hide the repetition.
        vgg.resolve_taps(taps)
        found = dict.fromkeys(taps, 1.0)
    else:
        raise TypeError(
            "`taps`: expected a name such as 'relu4_3', a list of names, or a dict of name and "
            f"weight, got {_checks.shown(taps)}"
        )
    for weight in found.values():
        _checks.one_number("taps", weight, least=0, below=LARGEST_SHARE)
    if found and not sum(found.values()) > 1 / LARGEST_SHARE:
        raise ValueError(
            "`taps`: all weights are 0, so nothing is maximised; give at least one tap a larger one"
        )
    return {name: float(weight) for name, weight in found.items()}
