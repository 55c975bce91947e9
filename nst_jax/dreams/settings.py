"""The choices and numbers of a dream, checked; its octaves, and what it has in common with a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from nst_jax import _checks, optimizers, prepare, vgg
from nst_jax._types import Shape
from nst_jax.dreams.ascent import Ascent
from nst_jax.prepare import Scale
from nst_jax.recipes import sizes
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.checking import LARGEST_SHARE
from nst_jax.recipes.recipe import Descent, Pictures, Recipe, Terms
from nst_jax.recipes.sizes import Size

Taps: TypeAlias = str | list[str] | tuple[str, ...] | Mapping[str, float]

SOURCE = (
    "google/deepdream @ bbc2ddf, dream.ipynb, and tensorflow/docs @ 252295e, "
    "site/en/tutorials/generative/deepdream.ipynb, on another network"
)

# Constants of `dream.ipynb`: `iter_n`, `octave_n`, `octave_scale`, `jitter`.
STEPS, OCTAVES, OCTAVE_SCALE, JITTER = 10, 4, 1.4, 32
# A step of `dream.ipynb` changes pixels in 0..255 by 1.5 on average. If the changes are normally
# distributed, their standard deviation is about 1.9, or 0.0074 for pixels in [0, 1]. TensorFlow's
# tutorial has 0.005, and five times as many steps.
STEP_SIZE = 0.0075
# The two sources use taps of other networks, GoogLeNet and Inception-v3. Of the taps of VGG-19, this
# one covers a picture with eyes and heads; later taps make larger heads, and leave plain areas as they
# are.
TAP = "relu4_4"
SIZE = sizes.LongEdge(512)
# "The neural network we use was trained on images downscaled to 224x224 size. So high resolution images
# might have to be downscaled" (`dream.ipynb`, on the guide). VGG-19 was trained on this size too.
GUIDE_SIZE = sizes.LongEdge(224)

MOST_OCTAVES = 100  # largest number allowed; an `octave_scale` just above 1 would permit a million
SMALLEST = vgg.SMALLEST  # smallest side of an octave in px


@dataclass(frozen=True, kw_only=True)
class DreamSettings:
    """Every choice and number of a dream; `settings_of` makes and checks them.

    Attributes:
      ascent: taps and their weights, size of a step, and jitter. Its network is not used: `plan_dream`
        derives one from the network of `recipe`, with tiles and a precision that suit memory and
        platform.
      steps: number of steps at each octave.
      octaves: number of octaves (sizes), the last of which is the final size.
      octave_scale: how many times larger an octave is than the one before.
      recipe: the settings that a dream has in common with a style transfer: the size rule and filter of
        the picture, the network, and the taps, which are its content taps. Its size rule for styles is
        that of the guide. The recipe serves to plan memory, tiles and precision, and to compute the
        guide's features, as if the guide were a content.
    """

    ascent: Ascent
    steps: int
    octaves: int
    octave_scale: float
    recipe: Recipe

    @property
    def updates(self) -> int:
        """Number of steps over all octaves."""
        return self.steps * self.octaves

    def scales(self, content: Shape, guide: Shape | None) -> tuple[Scale, ...]:
        """Return the octaves, coarse to fine, as the scales that the loop of `descent` goes through.

        Args:
          content: (height, width) of the picture, before any resizing.
          guide: (height, width) of the guide, or None.

        Raises:
          ValueError: if a picture or an octave is under 16 px on a side.
        """
        # Without a guide, the smallest possible picture takes its place; its memory is negligible.
        beside = guide or (SMALLEST, SMALLEST)
        final, guided = prepare.final_shapes(content, beside, self.recipe, argument="guide")
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
    """Check the options of a dream.

    Args:
      taps: what is excited: a tap, a list of taps, or a dict of tap and weight.
      guided: whether there is a guide.
      size: size of the picture; None is `SIZE`.
      guide_size: size of the guide; None is `GUIDE_SIZE`.
      steps: number of steps at each octave.
      step_size: standard deviation of the change of the pixels by a step; black and white differ by 1.
      octaves: number of octaves.
      octave_scale: how many times larger an octave is than the one before.
      jitter: largest number of pixels by which the picture is shifted, at random, before each step.
      precision: name of the network's precision; None is `"auto"`.
      tile: size in px of the tiles in which the picture is computed, `"off"` or `"auto"`; None is
        `"auto"`.

    Returns:
      The settings.

    Raises:
      TypeError: if an option is of the wrong type.
      ValueError: if an option cannot be used.
    """
    weights = _weights_of(taps)
    names = vgg.resolve_taps(weights)
    _checks.whole("steps", steps, least=1)
    _checks.number("step_size", _scalar("step_size", step_size), above=0)
    _checks.whole("octaves", octaves, least=1)
    _checks.number("octaves", octaves, below=MOST_OCTAVES + 1)
    _checks.number("octave_scale", _scalar("octave_scale", octave_scale), above=1)
    _checks.whole("jitter", jitter, least=0)
    _checks.number("jitter", jitter, below=sizes.LARGEST)
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
            style_taps=names[:1],  # a recipe must have one; the memory for its statistic is small
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


def _scalar(argument: str, value: Any) -> Any:
    """Return a single number; refuse an array of several, which would be a sweep."""
    if np.ndim(value):
        raise TypeError(f"`{argument}`: expected one number, got {value!r}")
    return value


def _weights_of(taps: Any) -> dict[str, float]:
    """Return the weight of each tap, by the name that the caller gave."""
    if isinstance(taps, str):
        taps = [taps]
    if isinstance(taps, Mapping):
        found = dict(taps)
    elif isinstance(taps, (list, tuple)):
        vgg.resolve_taps(taps)  # refuses a name that is given twice, which a dict would hide
        found = dict.fromkeys(taps, 1.0)
    else:
        raise TypeError(
            "`taps`: expected a name such as 'relu4_3', a list of names, or a dict of name and "
            f"weight, got {taps!r}"
        )
    for weight in found.values():
        _checks.number("taps", _scalar("taps", weight), least=0, below=LARGEST_SHARE)
    if found and not sum(found.values()) > 1 / LARGEST_SHARE:
        raise ValueError(
            "`taps`: all weights are 0, so nothing is maximised; give one tap a weight"
        )
    return {name: float(weight) for name, weight in found.items()}
