"""The canvases of a batch: pictures that are optimised together.

The updates are those of a single picture, mapped over the pictures by `jax.vmap`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import correspondence, optimize
from nst_jax._real_size import committed_to
from nst_jax._types import Image, Losses, Params, Resized, State, Targets
from nst_jax.batch_members import Member
from nst_jax.batch_numbers import axes_of, recipe_of_pictures, shares_of_picture
from nst_jax.batch_programs import (
    PROGRAMS,
    BatchPrograms,
    chosen_images,
    distributed,
    init_many,
    picture_many,
    take_over_many,
)
from nst_jax.batch_starts import contents_at, starting_images
from nst_jax.batch_targets import targets_of_members
from nst_jax.descent import Begin, Rest, has_stalled, rest_of
from nst_jax.finisher import Finisher
from nst_jax.measuring import Measuring, Watch
from nst_jax.optimize import Handover
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding, tile_grid
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import band_mesh
from nst_jax.vgg.kernel_forms import with_forms


class BatchWeights(NamedTuple):
    """The weights in the two versions that a batch needs: one for the targets, one for the updates."""

    measuring: Params  # as loaded; for the features of contents and the statistics of styles
    # With the kernels that `with_forms` adds to make the updates faster: transposed kernels and, on a
    # CPU, those for Winograd convolution. Copied to all devices of the run.
    loop: Params

    @classmethod
    def of(cls, params: Params, plan: Plan) -> "BatchWeights":
        """Return both versions of the weights, each copied to those devices of the run that use it."""
        network, taps = plan.recipe.network, plan.recipe.terms.taps
        shape = tile_grid.window_of(plan.scales[-1].shape, taps, network, plan.bands())
        formed = with_forms(params, taps, shape=shape, precision=network.precision_on())
        return cls(
            sharding.replicate(params, band_mesh(plan.mesh)), sharding.replicate(formed, plan.mesh)
        )


class BatchCanvas:
    """The canvases of a chunk: the pictures that are painted at once.

    The class implements `descent.Canvas`: `descent.descend`, the loop over the resolutions, calls its
    methods. Arrays of the chunk have the pictures as their first axis.
    """

    def __init__(
        self,
        weights: BatchWeights,
        plan: Plan,
        members: list[Member],
        init: Any,
        watch: Watch | None = None,
        programs: BatchPrograms | None = None,
    ) -> None:
        self.plan, self._weights, self._init = plan, weights, init
        self._programs = PROGRAMS if programs is None else programs
        self._watch = Watch() if watch is None else watch
        self._count = len(members)
        # All devices must get the same number of members (pictures), so the last member is repeated as
        # often as needed. The results of these copies are dropped at the end.
        extra = sharding.round_up(self._count, plan.mesh) - self._count
        self._members = members + members[-1:] * extra
        indices = [member.place for member in self._members]
        # The recipe of these members, with its numbers not yet on the devices of the run.
        self._finishing_recipe = here = recipe_of_pictures(plan.recipe, indices)
        self._recipe = sharding.replicate(here, plan.mesh)
        # The recipe, with its numbers (such as loss weights) as arrays on the devices that compute
        # features of contents and statistics of styles: all devices of the run if several devices share
        # each picture, else one device.
        self._measuring_recipe = here if band_mesh(plan.mesh) is None else self._recipe
        self._shapes = [scale.shape for scale in plan.scales]
        # For each member (picture) the number of the update, over all scales, at which its losses
        # stopped being finite; -1 as long as they are finite.
        self._broke_at = np.full(len(self._members), -1)
        # For each call of `run`: the members' total losses in each step, an array [members, steps].
        self._totals: list[np.ndarray] = []
        # The images with which the current scale (resolution) started, [members, h, w, 3]; None before
        # the first scale. The image of a picture that diverged at a coarser scale is also its result at
        # the current scale.
        self._image: Image | None = None

    def _at(self, scale: int, recipe: Recipe | None = None) -> Recipe:
        """Return `recipe` with the values that hold at one scale (resolution), such as its style loss.

        If `recipe` is None, `self._recipe` is used: the recipe whose numbers (such as loss weights)
        were copied to all devices of the run.
        """
        return (self._recipe if recipe is None else recipe).at(scale, self._shapes)

    def measure(self, scale: int) -> Targets:
        """Compute what the losses compare the canvases with at a scale (resolution): their targets."""
        recipe = self._at(scale, self._measuring_recipe)
        pieces = Measuring(
            self._weights.measuring,
            recipe,
            self.plan.bands(scale),
            programs=self._programs.measuring,
            watch=self._watch,
        )
        return targets_of_members(self._members, self.plan, scale, recipe, pieces)

    def start(self, scale: int, measured: Targets, before: Handover | None) -> State:
        self._image, exact = starting_images(
            self._members, self.plan, scale, before, self._init, self._recipe
        )
        state = self._unmatched(scale, self._image, before)
        shape, recipe = self.plan.scales[scale].shape, self._at(scale)
        if correspondence.number_of_matches(shape, recipe) is not None:
            state = self._programs.match(
                self._weights.loop,
                state,
                measured,
                sharding.split(contents_at(self._members, shape), self.plan.mesh),
                recipe,
                first=scale == 0,
                axes=axes_of(recipe),
                mesh=self.plan.mesh,
            )
        if exact is None:
            return state
        # `exact` has the first canvases in the pixel convention in which the optimiser works. They
        # replace the canvases that were converted from images, since the conversion has rounded these.
        # Each field of the state gets a separate copy: the state's buffers are donated to the compiled
        # loop, and no buffer can be donated twice.
        bands, mesh = self.plan.bands(scale), self.plan.mesh
        names = ("canvas", "pending", *(["average"] if state.average is not None else []))
        copies: dict[str, Any] = {name: distributed(exact, bands, mesh) for name in names}
        return state._replace(**copies)

    def _unmatched(self, scale: int, image: Image, before: Handover | None) -> State:
        """Return the states with which a scale (resolution) starts, without the matches.

        Only a `MatchingLoss` needs matches: for each position of a canvas, the most similar position of
        the style. `start` finds them. `image` has the images with which the scale starts,
        [pictures, h, w, 3]. `before` has the results of the coarser scale; it is None for the first.
        """
        mesh, bands, recipe = self.plan.mesh, self.plan.bands(scale), self._at(scale)
        axes = axes_of(recipe)
        state = init_many(sharding.split(image, mesh), recipe, bands, axes=axes, mesh=mesh)
        if before is None or before.opt_state is None:
            return state
        coarse = self.plan.bands(scale - 1)
        return take_over_many(state, before.opt_state, recipe, bands, coarse, axes=axes, mesh=mesh)

    def begin_next(self, begin: Begin, scale: int, state: State) -> Callable[[], Any] | None:
        """Begin the work for the next scale (resolution) while the current one is painted.

        This work is to compute the targets, which the losses compare the canvases with, and to compile
        the programs.

        Args:
          begin: a function that starts the work, possibly in another thread; see `Begin`.
          scale: index of the scale that is being painted.
          state: the current state at this scale.

        Returns:
          A function that waits until the work is done, and returns the result of `measure` at the next
          scale. None if no work was begun, because there is no next scale or because memory cannot hold
          both scales at once.
        """
        if not self.plan.fits_beside_next(scale):
            return None
        recipe, bands = self._at(scale), self.plan.bands(scale)
        image = picture_many(state, recipe, bands, axes=axes_of(recipe), clipped=False)
        # The compiled loop of updates donates the buffers of the optimiser's state: further updates
        # overwrite them, while the thread that does the work for the next scale may still read them. So
        # the optimiser's state is copied.
        before = optimize.hand_over(image, state, recipe)
        before = before._replace(opt_state=jax.tree.map(jnp.array, before.opt_state))
        return begin(partial(self._compile_ahead, scale + 1, before))

    def _compile_ahead(self, scale: int, before: Handover) -> Targets:
        """Return the targets of a scale (resolution), and compile its programs, before it begins.

        The programs are compiled by calling them, with a loop of 0 steps. `before` is what the coarser
        scale would pass on in its present, unfinished state. Its values do not matter, since compiling
        needs only shapes and types.
        """
        measured, recipe = self.measure(scale), self._at(scale)
        image, _ = starting_images(
            self._members, self.plan, scale, before, self._init, self._recipe
        )
        state = self._unmatched(scale, image, before)
        count = correspondence.number_of_matches(self.plan.scales[scale].shape, recipe)
        if count is not None:
            # A match is the position of the style that is most similar to a position of the canvas.
            # Compiling needs only the shape of the matches, so zeros take their place: searching for
            # the matches of an unfinished canvas would take long and be of no use.
            state = state._replace(matches=jnp.zeros((len(self._members), count), jnp.int32))
        state, _ = self._run(scale, state, measured, 0)
        bands, axes = self.plan.bands(scale), axes_of(recipe)
        last = scale == len(self.plan.scales) - 1
        picture_many(state, recipe, bands, axes=axes, clipped=last)
        return measured

    def run(self, scale: int, state: State, measured: Targets, steps: int) -> tuple[State, None]:
        state, losses = self._run(scale, state, measured, steps)
        totals = sharding.to_host(losses.total, self.plan.mesh)
        self._totals.append(totals[:, :steps].copy())
        return state, None

    def _run(self, scale: int, state: State, measured: Targets, steps: int) -> tuple[State, Losses]:
        recipe = self._at(scale)
        return self._programs.run(
            self._weights.loop,
            state,
            measured,
            recipe,
            steps,
            bands=self.plan.bands(scale),
            axes=axes_of(recipe),
            mesh=self.plan.mesh,
        )

    def stalled(self) -> list[bool]:
        """Return for each picture, after its last update, whether the updates had no effect on it.

        That is so if at every scale (resolution) the last total loss equals the first, and is not 0.
        `descent.has_stalled` has the exact condition.
        """
        return [has_stalled(one, self.plan.scales) for one in self._totals_of_pictures()]

    def rests(self) -> list[Rest | None]:
        """Return, for each picture, when its loss stopped changing while still high; None if never.

        The pictures must be finished. `descent.rest_of` has the exact condition.
        """
        return [rest_of(one, self.plan.scales) for one in self._totals_of_pictures()]

    def _totals_of_pictures(self) -> np.ndarray:
        """Return each picture's total losses: of the first canvas, and after each update so far.

        The shape is [pictures, updates + 1].
        """
        return np.concatenate(self._totals, axis=1)[: self._count]

    def is_broken(self, state: State) -> bool:
        del state
        return False  # if a picture diverges, the run goes on for the other pictures

    def hand_over(self, scale: int, state: State) -> Handover:
        image = self._images(scale, state, clipped=False)
        return optimize.hand_over(image, state, self._at(scale))

    def _images(self, scale: int, state: State, *, clipped: bool) -> Image:
        """Return the canvases at the end of a scale as images, and record which of them diverged.

        If `clipped`, these are the results, in [0, 1]. If not, the next scale (resolution) starts from
        them, see `optimize.canvas_image`.
        """
        bands = self.plan.bands(scale)
        recipe = self._at(scale)
        found = picture_many(state, recipe, bands, axes=axes_of(recipe), clipped=clipped)
        whole = self._broke_at < 0
        # A picture that diverged at a coarser scale keeps the last finite canvas of that scale, which
        # was enlarged when this scale started.
        image = found if whole.all() else chosen_images(whole, found, self._image)
        broken = sharding.to_host(state.broke_at, self.plan.mesh)
        before = sum(one.steps for one in self.plan.scales[:scale])
        self._broke_at = np.where(whole & (broken >= 0), broken + before, self._broke_at)
        return image

    def results(self, state: State) -> tuple[list[Image], list[Losses], list[int]]:
        """Return the results of a finished run, one entry for each picture.

        Returns:
          The finished images [h, w, 3]; their last losses, as scalars; and the number of the update,
          over all scales (resolutions), at which each picture diverged, -1 for pictures that did not.
        """
        self._watch.wait(state.step)
        mesh, count = self.plan.mesh, self._count
        last = len(self.plan.scales) - 1
        images = self._images(last, state, clipped=True)
        measured = sharding.to_host(state.losses, mesh)
        losses = [jax.tree.map(lambda of, i=i: of[i], measured) for i in range(count)]
        if self.plan.in_bucket:
            # NumPy takes the batch apart, since JAX would compile a program for that. `gather` would
            # leave the pictures on a chosen device, so they are put back there.
            chosen = committed_to(images) if mesh is None else sharding.gathering_device(mesh)
            whole = list(sharding.to_host(images, mesh))[:count]
            whole = whole if chosen is None else jax.device_put(whole, chosen)
        else:
            whole = list(sharding.gather(images, mesh))[:count]
        finished = [self._finished(place, image) for place, image in enumerate(whole)]
        return finished, losses, self._broke_at.tolist()[:count]

    def _finished(self, place: int, image: Any) -> Resized:
        """Return the finished picture that `Finisher` makes of one optimised image.

        Edges and colours are changed as the recipe says, and where the user has protected the content
        by a mask, the content is put back. `place` is the index of the picture among those that are
        painted together.
        """
        member, recipe, plan = self._members[place], self.plan.recipe, self.plan
        realism = np.asarray(recipe.pictures.realism)
        if realism.ndim:  # [n] for the n pictures of the batch, or [1] for all of them
            realism = realism[member.place % len(realism)]
        shares = shares_of_picture(self._finishing_recipe, place)
        terms = replace(recipe.terms, style_shares=shares)
        finish = Finisher(member.prepared, replace(recipe, terms=terms), realism)
        last = member.prepared.scales[-1]
        return (
            finish.in_arrays(image, last, plan.scales[-1])
            if plan.in_bucket
            else finish(image, last)
        )
