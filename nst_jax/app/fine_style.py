"""The option `--style-fine`: combine a style with the fine structure of a second picture.

Combining is a style transfer of its own, before the run that the user asked for. This run then takes
the result as its style. `nst_jax.combined_style` does the same in Python.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from nst_jax import _checks, images, planned_painting, run_scales
from nst_jax._types import Params, Shape
from nst_jax.app import cache, programs
from nst_jax.app.messages import print_message
from nst_jax.app.parsing import StyleShare
from nst_jax.app.progress import Display, loss_shares
from nst_jax.descent import has_stalled, rest_of
from nst_jax.images.eight_bit import to_uint8
from nst_jax.images.sources import Source
from nst_jax.recipes import GATYS_FINE_STYLE
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import Devices
from nst_jax.vgg.taps import SMALLEST

# In the dict of a run's input files, the picture that has the fine structure has this key.
ROLE = "fine_style"

UPDATES = 10  # number of updates after which the shown progress is refreshed


class NotCombined(RuntimeError):
    """Raised if combining a style fails: the losses are not finite, or never change.

    The message begins with the option, `--style-fine`. It is not a `ValueError`, since the input was
    valid: the command ends with exit code 1, as after any run that diverges.
    """


@dataclass(frozen=True)
class FineStyle:
    """Combines a style with the fine structure of another picture.

    Attributes:
      picture: the picture that has the fine structure.
      params: the weights of the network.
      devices: the devices that share the picture, as in `nst_jax.stylize`.
      display: where progress is shown.
      precision: the value of `--precision`, which applies to combining, too; None means the precision
        of the recipe `GATYS_FINE_STYLE`, by which the pictures are combined.
      tile: the value of `--tile`, which applies to combining, too; None means the tile of this recipe.
    """

    picture: images.Picture
    params: Params
    devices: Devices
    display: Display
    precision: str | None = None
    tile: str | None = None

    def facts(self, shape: Shape) -> dict[str, Any]:
        """Return metadata that say by which recipe, size and number of updates a style was combined.

        Args:
          shape: (height, width) of the combined style.
        """
        return combining_facts(shape)

    def combined(self, style: images.Picture, shape: Shape) -> Float[np.ndarray, "h w 3"]:
        """Return the pixels of the style with the fine structure of `self.picture`, rounded to 8 bits.

        So a run gets the same pixels as if the combined style had first been written as a PNG file.

        Args:
          style: the picture that has the coarse shapes.
          shape: (height, width) of the style at the final resolution of the run that uses it.

        Returns:
          The style at this size, [h, w, 3] in [0, 1].

        Raises:
          ValueError: if the two pictures cannot be combined, for example because they are equal.
          NotCombined: if the losses stop being finite or never change.
        """
        if np.array_equal(style.image, self.picture.image):
            raise ValueError(
                f"`style_fine`: {self.picture.name} is the same picture as the style {style.name}, "
                "which so gets no other structure; choose another picture, or leave it out"
            )
        plan = self._plan(style.image.shape[:2], shape)
        size, steps = f"{shape[1]}x{shape[0]} px", plan.updates
        self.display.say(f"{style.name} gets the structure of {self.picture.name} at {size}")
        shots = self._shots(style.image, plan)
        totals = []
        with self.display.bar(steps, "compiling"):
            for shot in shots:
                if shot.broke_at >= 0:
                    raise NotCombined(
                        "`--style-fine`: the losses, or their gradient, are not finite after "
                        f"{shot.broke_at} updates of the style; choose another picture"
                    )
                totals.append(np.asarray(shot.history.total))
                words = loss_shares(shot.losses)
                self.display.move(shot.step, steps, "step of the style", words)
        if has_stalled(np.concatenate(totals), plan.scales):
            raise NotCombined(
                f"`--style-fine`: the losses after {shot.step} updates of the style are those of the "
                "start, so it got no other structure; choose another picture"
            )
        if (rest := rest_of(np.concatenate(totals), plan.scales)) is not None:
            print_message(
                "warning",
                f"`--style-fine`: {rest.words}, so {style.name} hardly got the structure of "
                f"{self.picture.name}; choose another picture",
            )
        return to_uint8(shot.image).astype(np.float32) / 255

    def compile(self, given: Shape, shape: Shape) -> None:
        """Compile the programs that `combined` runs, and store them on disk.

        To compile them, the method combines a grey style with `self.picture`, and drops the result.

        Args:
          given: (height, width) of the style as it was read.
          shape: (height, width) of the style at the final resolution of the run that uses it.
        """
        plan = self._plan(given, shape, GATYS_FINE_STYLE.replace(steps=1))
        for shot in self._shots(np.full((*given, 3), 0.5, np.float32), plan):
            to_uint8(shot.image)

    def _shots(self, style: Float[np.ndarray, "h w 3"], plan: Plan) -> Iterator[Any]:
        """Combine `style` with `self.picture`; yield snapshots, `UPDATES` updates apart.

        The first snapshot is that before the first update, and the last one that after the last update.
        """
        return planned_painting.paint_planned(
            self.params,
            style,
            self.picture.image,
            plan,
            init=None,
            key=None,
            every=UPDATES,
            programs=programs.kept_in(cache.programs_folder(), self.display.say),
        )

    def _plan(self, given: Shape, shape: Shape, recipe: Recipe | None = None) -> Plan:
        """Return the plan of the run that combines a style with the fine structure of `self.picture`.

        Args:
          given: (height, width) of the style as it was read.
          shape: (height, width) of the style at the final resolution of the run that uses it.
          recipe: the recipe; None is `GATYS_FINE_STYLE`.

        Raises:
          ValueError: if `self.picture`, resized for this combination, is too small (the message names
            `style_fine`); or as in `plan_scales`, for example if there is too little memory.
        """
        tile = self.tile
        recipe = with_options(
            GATYS_FINE_STYLE if recipe is None else recipe,
            f"{shape[1]}x{shape[0]}",
            precision=self.precision,
            tile=int(tile) if tile is not None and tile.isdecimal() else tile,
        )
        device = capacity.device_of(self.params)
        return plan_scales(
            recipe,
            _scales(given, self.picture.name, self.picture.image.shape[:2], recipe),
            mesh=sharding.mesh_of(self.devices, axis=sharding.BANDS, weights_on=device),
            device=device,
        )


def read_fine(path: Source) -> images.Picture:
    """Read the picture with the fine structure, and refuse one that is too small for the network.

    Raises:
      ValueError: if the picture cannot be read or is too small; the message begins with `style_fine`.
    """
    picture = images.read(path, argument="style_fine")
    _check_size(picture.name, picture.image.shape[:2])
    return picture


def _check_size(name: str, shape: Shape) -> None:
    """Refuse the picture with the fine structure if it is too small for the network.

    Args:
      name: the name of the picture's file.
      shape: the picture's (height, width) in px.

    Raises:
      ValueError: if the picture is too small; the message begins with `style_fine`.
    """
    try:
        _checks.image_shape("style", (*shape, 3), smallest=SMALLEST)
    except ValueError as error:
        raise _about_fine(error, name) from None


def check_fine_picture(fine: images.Glance, given: Shape, shape: Shape) -> None:
    """Refuse a picture with the fine structure if it is too small for the network, as given or resized.

    Args:
      fine: the picture that has the fine structure.
      given: (height, width) of the style as it was read.
      shape: (height, width) of the style at the final resolution of the run that uses it.

    Raises:
      ValueError: if the picture is too small, before or after it is resized for combining; the message
        begins with `style_fine`.
    """
    _check_size(fine.name, fine.shape)
    recipe = with_options(GATYS_FINE_STYLE, f"{shape[1]}x{shape[0]}")
    _scales(given, fine.name, fine.shape, recipe)


def _scales(given: Shape, name: str, fine: Shape, recipe: Recipe) -> tuple[run_scales.Scale, ...]:
    """Return the scales (resolution levels) of the run that gives a style its new fine structure.

    Args:
      given: (height, width) of the style as it was read.
      name: the file name of the picture that has the fine structure.
      fine: (height, width) of this picture.
      recipe: the recipe of the run, with the size of its result.
    """
    try:
        return run_scales.scales_of(given, [fine], recipe)
    except ValueError as error:
        raise _about_fine(error, name) from None


def _about_fine(error: ValueError, name: str) -> ValueError:
    """Return an error about `style` as an error about `style_fine`, with the file name of the picture.

    In combining, the picture with the fine structure has the role of the style. So errors about this
    picture name `style`; but users gave it by `--style-fine`. Other errors are returned unchanged.
    """
    message = str(error)
    if not message.startswith("`style`: "):
        return error
    return ValueError(f"`style_fine`: {message.removeprefix('`style`: ')} ('{name}')")


def combining_facts(shape: Shape) -> dict[str, Any]:
    """Return metadata about how a style was combined: the recipe, the size and the number of updates.

    Args:
      shape: (height, width) of the combined style.
    """
    recipe, (height, width) = GATYS_FINE_STYLE, shape
    numbers = {"size": [width, height], "steps": recipe.descent.updates_at(shape)}
    return {ROLE: {"recipe": recipe.name, "source": recipe.source, **numbers}}


@dataclass(frozen=True)
class FineStyles:
    """Combines styles of a batch with the fine structure of other pictures.

    Each style is combined only once with each such picture at each size, and the result is kept.

    Attributes:
      precision: the value of `--precision`; None means the precision of the recipe `GATYS_FINE_STYLE`,
        by which the pictures are combined.
      tile: the value of `--tile`; None means the tile of this recipe.
    """

    precision: str | None = None
    tile: str | None = None
    # Digests of a style and of the picture with the fine structure, and the (height, width) of the
    # result -> the combined style, or the `NotCombined` error that was raised.
    _known: dict[tuple[str, str, Shape], Any] = field(default_factory=dict, compare=False)

    def combined(
        self,
        params: Params,
        fine: images.Picture,
        style: images.Picture,
        shape: Shape,
        say: Callable[[str], None],
    ) -> Float[np.ndarray, "h w 3"]:
        """Return a style with the fine structure of another picture, as `FineStyle.combined` does.

        A later call with the same pictures and size returns the same array.

        Args:
          params: the weights of the network.
          fine: the picture that has the fine structure.
          style: the picture that has the coarse shapes.
          shape: (height, width) of the style at the final resolution of the run that uses it.
          say: a function that prints a line; it is called if the style was not combined before.

        Raises:
          ValueError: if the two pictures cannot be combined, for example because they are equal.
          NotCombined: as in `FineStyle.combined`; a later call with the same pictures and size raises
            it at once.
        """
        key = style.digest, fine.digest, (int(shape[0]), int(shape[1]))
        if key not in self._known:
            say(f"{style.name} gets the structure of {fine.name}")
            try:
                self._known[key] = self._of_one(params, fine).combined(style, shape)
            except NotCombined as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, NotCombined):
            raise found
        return found

    def compile(self, params: Params, fine: Shape, given: Shape, shape: Shape) -> None:
        """Compile the programs that give a style its fine structure, and store them on disk.

        Args:
          params: the weights of the network.
          fine: (height, width) of the picture that has the fine structure.
          given: (height, width) of the style as it was read.
          shape: (height, width) of the style at the final resolution of the run that uses it.
        """
        grey = images.Picture(np.full((*fine, 3), 0.5, np.float32), None, (), "grey", "")
        self._of_one(params, grey).compile(given, shape)

    def _of_one(self, params: Params, fine: images.Picture) -> FineStyle:
        # The progress bar of the batch is shown meanwhile, so combining shows none.
        return FineStyle(fine, params, None, Display(quiet=True), self.precision, self.tile)


def check_fine_style(chosen: Mapping[str, Any], styles: Sequence[StyleShare]) -> None:
    """Refuse `--style-fine` with several styles, `--runner ray`, `--cluster` or `--regions`.

    Without `--style-fine`, nothing is refused.

    Args:
      chosen: the options of the command.
      styles: the styles, each with its share.

    Raises:
      ValueError: if `--style-fine` is used with one of these; the message says with which, and why not.
    """
    if chosen.get("style_fine") is None:
        return
    if len(styles) > 1:
        raise ValueError(
            f"`style_fine`: gives its structure to one style, and {len(styles)} are given; name one"
        )
    if chosen.get("runner") == "ray":
        raise ValueError(
            "`style_fine`: cannot be used with `--runner ray`: each actor would combine a style of its "
            "own; combine the styles first, by `nst_jax.combined_style`, and name the results"
        )
    for name, flag, reason in (
        ("cluster", "--cluster", "each process would combine a style of its own"),
        ("region_maps", "--regions", "the second map is drawn over the style as it is"),
    ):
        if chosen.get(name):
            raise ValueError(
                f"`style_fine`: cannot be used with `{flag}`: {reason}; combine the style first, by "
                "`nst_jax.combined_style`, and name the result"
            )
