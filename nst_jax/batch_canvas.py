"""The canvases of a batch: pictures that are optimised together.

The updates are those of a single picture, mapped over the pictures by `jax.vmap`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from nst_jax import correspondence, measuring, optimize, prepare, recipes
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import Image, Losses, Params, Resized, Shape, State, Targets
from nst_jax.batch_members import Member
from nst_jax.descent import Begin, Rest, has_stalled, rest_of
from nst_jax.feed_forward import instant_start
from nst_jax.finisher import Finisher
from nst_jax.images import on_host
from nst_jax.images.resizing import finest_detail
from nst_jax.losses import MatchingLoss
from nst_jax.measuring import Measuring, MeasuringPrograms, Watch
from nst_jax.optimize import Handover
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.starts_on_host import image_on_host
from nst_jax.scaling import sharding, tile_grid
from nst_jax.scaling.bands import Bands, distribute, with_padding
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import AnyMesh, band_mesh
from nst_jax.targets import blend, stacked_targets, style_targets
from nst_jax.vgg.kernel_forms import with_forms

# The `vmap` axis of each leaf of the recipe, a pytree of numbers: 0 if the leaf is an array with one
# number for each picture; None if the leaf is a single number, which all pictures share.
Axes: TypeAlias = tuple[int | None, ...]

# The (height, width) of each canvas, for canvases that lie at the top left of larger arrays.
RealSizes: TypeAlias = Int[np.ndarray, "n 2"]


class BatchPrograms(NamedTuple):
    """The compiled functions of a batch; the command line replaces some by programs cached on disk.

    `measuring` has the functions that compute what the losses compare the canvases with. `run` is
    `run_many`, which updates the canvases. `match` is `match_many`, which finds, for each position of a
    canvas, the position of the style with the most similar features.
    """

    measuring: MeasuringPrograms
    run: Callable[..., Any]
    match: Callable[..., Any]


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
        here = _numbers_of(plan.recipe, indices)
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
        """Compute the targets of all pictures at a scale (resolution), stacked along a first axis.

        Targets are the features of a content and the statistics of a style. If several pictures have
        the same content or style, its targets are computed only once; those of a style with a mask
        may be computed for each picture. In a bucket (larger arrays, in which pictures of several sizes
        lie), the pictures may need the same style in several sizes. Its statistics are then computed
        once for each size.
        """
        mesh, bands = band_mesh(self.plan.mesh), self.plan.bands(scale)
        recipe, params = self._at(scale, self._measuring_recipe), self._weights.measuring
        programs = self._programs.measuring
        pieces = Measuring(params, recipe, bands, programs=programs, watch=self._watch)
        if self._members[0].prepared.controls is not None:
            return self._measure_controlled(scale, pieces)
        contents: dict[int, Any] = {}
        photos: dict[int, Any] = {}
        styles: dict[Any, Any] = {}
        for member in self._members:
            here = member.prepared.scales[scale]
            if member.content not in contents:
                picture, real = self._at_scale(
                    member.prepared.content, here.shape, self.plan.scales[scale].shape
                )
                picture = sharding.replicate(picture, mesh)
                contents[member.content] = pieces.content(picture, **real)
                photos[member.content] = pieces.photo(picture)
            # In a bucket (larger arrays, in which pictures of several sizes lie), contents differ in
            # size, and for each of them the recipe's size rule may give the same style another size. So
            # in a bucket, a key of `styles` contains the style's sizes.
            name = (member.style, here.style_shapes) if self.plan.in_bucket else member.style
            if name not in styles and self.plan.in_bucket:
                styles[name] = self._statistics_in_bucket(scale, member, pieces)
            if name not in styles:
                pictures = sharding.replicate(prepare.styles_at(member.prepared, here), mesh)
                # A `MatchingLoss` compares the features themselves, so its targets are complete now.
                # For other losses, the statistics of several styles are blended below.
                if isinstance(recipe.terms.style_loss, MatchingLoss):
                    styles[name] = pieces.styles(pictures)
                    continue
                styles[name] = [pieces.statistics(picture) for picture in pictures]
        of_members = self._blended(scale, styles)
        stacked = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
        content = stacked(*(contents[member.content] for member in self._members))
        photo = stacked(*(photos[member.content] for member in self._members))
        return Targets(
            sharding.split(content, self.plan.mesh, bands=bands is not None),
            sharding.split(stacked_targets(of_members), self.plan.mesh),
            sharding.split(photo, self.plan.mesh),
            size=sharding.split(self._real_sizes(scale), self.plan.mesh),
        )

    def _blended(self, scale: int, styles: Mapping[Any, Any]) -> list[Any]:
        """Return for each picture what its style losses compare the canvas with: its style target.

        `scale` is the index of the scale (resolution). `styles` has what `measure` computed for each
        style: its statistics (such as Gram matrices) or, for a `MatchingLoss`, the finished target.
        """
        # `recipe` has arrays for the numbers, such as loss weights, that differ between pictures. Of
        # these numbers, targets depend only on the weights of blended styles, and `_shares` takes those
        # of one picture. So no `vmap` over the arrays is needed.
        recipe = self._at(scale, self._measuring_recipe)
        targets: dict[Any, Any] = {}
        of_members = []
        for place, member in enumerate(self._members):
            name: Any = member.style
            if self.plan.in_bucket:
                name = (name, member.prepared.scales[scale].style_shapes)
            found = styles[name]
            if isinstance(recipe.terms.style_loss, MatchingLoss):  # `found` is the target already
                of_members.append(found)
                continue
            # A single style is not blended, so all pictures with this style use the same target. With
            # several styles, their weights and so the targets may differ between pictures.
            known = (name,) if len(found) == 1 else (name, place)
            if known not in targets:
                targets[known] = _style_targets(
                    blend(found, _shares(recipe, place), recipe.terms), recipe
                )
            of_members.append(targets[known])
        return of_members

    def _at_scale(
        self, picture: Image, shape: Shape, array: Shape
    ) -> tuple[Resized, dict[str, Any]]:
        """Return a picture resized to a scale (resolution), and keyword arguments for its features.

        In a bucket (an array that is larger than its picture, see `scaling.buckets`), the picture lies
        at the top left. The functions that compute its features then need the argument `size`, the
        (height, width) of the picture without the padding. Without a bucket, they do not need it.

        Args:
          picture: [h, w, 3], at the size that it has at the last scale.
          shape: the (height, width) of the picture at the scale.
          array: the (height, width) of the bucket's array at the scale; ignored without a bucket.
        """
        if not self.plan.in_bucket:
            return prepare.at_scale(picture, shape), {}
        found = padded(on_host.at_scale_on_host(picture, shape), array)
        return jnp.asarray(found), {"size": jnp.asarray(shape, jnp.int32)}

    def _statistics_in_bucket(self, scale: int, member: Member, pieces: Measuring) -> list[Any]:
        """Return the statistics (such as Gram matrices) of each style of one picture.

        Each style lies at the top left of a larger array, so that one compiled program serves styles of
        several sizes. The plan has the size of these arrays.
        """
        shapes = member.prepared.scales[scale].style_shapes
        array = self.plan.scales[scale].style_shapes[0]  # all styles have arrays of this size
        found = []
        for style, shape in zip(member.prepared.styles, shapes, strict=True):
            picture, real = self._at_scale(style, shape, array)
            picture = sharding.replicate(picture, band_mesh(self.plan.mesh))
            found.append(pieces.statistics(picture, **real))
        return found

    def _real_sizes(self, scale: int) -> RealSizes | None:
        """Return the (height, width) of each canvas; None if the canvases fill their arrays.

        If `Plan.in_bucket` is True, each canvas lies at the top left of a larger array.
        """
        if not self.plan.in_bucket:
            return None
        shapes = [member.prepared.scales[scale].shape for member in self._members]
        return np.asarray(shapes, np.int32)

    def _measure_controlled(self, scale: int, pieces: Measuring) -> Targets:
        """Compute targets, which the losses compare the canvases with, for pictures that have masks.

        Masks give parts of a picture a style of their own, or protect parts that shall stay as in the
        content; transparent parts of a picture are masked, too. The targets of all pictures of the
        chunk (the pictures that are painted at once) are stacked along a first axis.
        """
        mesh, found = band_mesh(self.plan.mesh), []
        for place, member in enumerate(self._members):
            prepared, here = member.prepared, member.prepared.scales[scale]
            assert prepared.controls is not None
            shares = _shares(self._measuring_recipe, place)
            if self.plan.in_bucket:
                found.append(self._controlled_in_bucket(scale, member, pieces, shares))
                continue
            content = prepare.at_scale(prepared.content, here.shape)
            styles, controls = (
                prepare.styles_at(prepared, here),
                prepare.controls_at(prepared, here),
            )
            arrays = sharding.replicate((content, styles, controls), mesh)
            pictures = (*prepared.styles, *prepared.region_styles)
            pairs = zip(pictures, prepared.controls.style_masks, strict=True)
            # What `pieces` computes is cached under a name, and used again for the same name. The
            # content's name is its number. A style's name is the pair of the `id`s of its array and of
            # its mask: pictures with the same style share its array, and a missing mask is None, whose
            # `id` is always the same.
            names = member.content, [(id(picture), id(mask)) for picture, mask in pairs]
            found.append(pieces.controlled(*arrays, names=names, shares=shares))
        split = partial(sharding.split, mesh=self.plan.mesh)
        stacked = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
        content = stacked(*(targets.content for targets in found))
        return Targets(
            split(content, bands=self.plan.bands(scale) is not None),
            split(stacked_targets([targets.style for targets in found])),
            split(stacked(*(targets.photo for targets in found))),
            split(stacked(*(targets.guides for targets in found))),
            split(stacked(*(targets.kept for targets in found))),
            split(self._real_sizes(scale)),
        )

    def _controlled_in_bucket(
        self, scale: int, member: Member, pieces: Measuring, shares: tuple[Any, ...]
    ) -> Targets:
        """Compute the targets of one picture with masks, which lies at the top left of a larger array.

        Targets are what the losses compare the canvas with.

        Args:
          scale: index of the scale (resolution).
          member: the picture: its content, its styles and its masks.
          pieces: computes the targets.
          shares: the weights by which the picture's styles are blended.
        """
        prepared, here = member.prepared, member.prepared.scales[scale]
        arrays, mesh = self.plan.scales[scale], band_mesh(self.plan.mesh)
        controls = prepare.controls_in_arrays(prepared, here, arrays)
        assert controls is not None and prepared.controls is not None
        content, real = self._at_scale(prepared.content, here.shape, arrays.shape)
        pictures = (*prepared.styles, *prepared.region_styles)
        styles, sizes = [], []
        for picture, shape in zip(pictures, here.style_shapes, strict=True):
            style, own = self._at_scale(picture, shape, arrays.style_shapes[0])
            styles.append(style)
            sizes.append(own["size"])
        masks = prepared.controls.style_masks
        keys = [
            (id(picture), id(mask), shape)
            for picture, mask, shape in zip(pictures, masks, here.style_shapes, strict=True)
        ]
        return pieces.controlled(
            *sharding.replicate((content, styles, controls), mesh),
            names=(member.content, keys),
            shares=shares,
            size=real["size"],
            style_sizes=sizes,
        )

    def start(self, scale: int, measured: Targets, before: Handover | None) -> State:
        self._image, exact = self._images_of_start(scale, before)
        state = self._unmatched(scale, self._image, before)
        shape, recipe = self.plan.scales[scale].shape, self._at(scale)
        if correspondence.number_of_matches(shape, recipe) is not None:
            state = self._programs.match(
                self._weights.loop,
                state,
                measured,
                sharding.split(self._contents(scale), self.plan.mesh),
                recipe,
                first=scale == 0,
                axes=_axes_of(recipe),
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
        copies: dict[str, Any] = {name: _distributed(exact, bands, mesh) for name in names}
        return state._replace(**copies)

    def _images_of_start(
        self, scale: int, before: Handover | None
    ) -> tuple[Image, np.ndarray | None]:
        """Return the images [pictures, h, w, 3] with which a scale starts, and their exact canvases.

        A scale is one of the resolutions, coarse to fine, at which pictures are painted. The exact
        canvases are the same pictures in the optimiser's pixel convention, without rounding errors; see
        `_starts`. They are None for all scales but the first, and also for the first scale if the
        first canvases are defined as images. `before` has the results of the coarser scale; it is None
        for the first scale.
        """
        shape, descent = self.plan.scales[scale].shape, self.plan.recipe.descent
        if before is None:
            image, exact = self._starts()
            if not self.plan.in_bucket:
                image = _enlarge(image, shape, descent.enlarge, False)
            return image, exact
        if self.plan.in_bucket:
            return self._enlarged_in_bucket(scale, before.image), None
        image = _enlarge(before.image, shape, descent.enlarge, descent.clip)
        if descent.content_detail and scale < len(self._shapes) - 1:
            image = image + jax.vmap(finest_detail)(self._contents(scale))
        return image, None

    def _unmatched(self, scale: int, image: Image, before: Handover | None) -> State:
        """Return the states with which a scale (resolution) starts, without the matches.

        Only a `MatchingLoss` needs matches: for each position of a canvas, the most similar position of
        the style. `start` finds them. `image` has the images with which the scale starts,
        [pictures, h, w, 3]. `before` has the results of the coarser scale; it is None for the first.
        """
        mesh, bands, recipe = self.plan.mesh, self.plan.bands(scale), self._at(scale)
        axes = _axes_of(recipe)
        state = _init_many(sharding.split(image, mesh), recipe, bands, axes=axes, mesh=mesh)
        if before is None or before.opt_state is None:
            return state
        coarse = self.plan.bands(scale - 1)
        return _take_over_many(state, before.opt_state, recipe, bands, coarse, axes=axes, mesh=mesh)

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
        image = _picture_many(state, recipe, bands, axes=_axes_of(recipe), clipped=False)
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
        image, _ = self._images_of_start(scale, before)
        state = self._unmatched(scale, image, before)
        count = correspondence.number_of_matches(self.plan.scales[scale].shape, recipe)
        if count is not None:
            # A match is the position of the style that is most similar to a position of the canvas.
            # Compiling needs only the shape of the matches, so zeros take their place: searching for
            # the matches of an unfinished canvas would take long and be of no use.
            state = state._replace(matches=jnp.zeros((len(self._members), count), jnp.int32))
        state, _ = self._run(scale, state, measured, 0)
        bands, axes = self.plan.bands(scale), _axes_of(recipe)
        last = scale == len(self.plan.scales) - 1
        _picture_many(state, recipe, bands, axes=axes, clipped=last)
        return measured

    def _enlarged_in_bucket(self, scale: int, images: Image) -> Resized:
        """Resize images in larger arrays from the previous, coarser scale (resolution) to `scale`.

        Each picture lies at the top left of its array. It is cut out, resized to the size that it has
        at `scale`, and put into a new array. NumPy does that on the host, so that nothing is compiled
        for the sizes of the pictures.
        """
        descent, array = self.plan.recipe.descent, self.plan.scales[scale].shape
        found = []
        coarse = sharding.to_host(images, self.plan.mesh)
        for member, image in zip(self._members, coarse, strict=True):
            (height, width), larger = (
                member.prepared.scales[scale - 1].shape,
                member.prepared.scales[scale].shape,
            )
            one = on_host.resized_on_host(
                image[:height, :width], larger, descent.enlarge, argument="enlarge"
            )
            found.append(padded(np.clip(one, 0, 1) if descent.clip else one, array))
        return jnp.asarray(np.stack(found))

    def _contents(self, scale: int) -> Image:
        """Return the content of each picture, resized to a scale (resolution), [pictures, h, w, 3]."""
        shape = self.plan.scales[scale].shape
        pictures = {
            member.content: prepare.at_scale(member.prepared.content, shape)
            for member in self._members
        }
        return jnp.stack([pictures[member.content] for member in self._members])

    def _starts(self) -> tuple[Image, np.ndarray | None]:
        """Return the images [pictures, h, w, 3] from which the run starts, and their exact canvases.

        Some recipes define their first canvas in the pixel convention in which the optimiser works,
        such as BGR from 0 to 255 minus ImageNet's mean. The exact canvases have these pixels, which a
        conversion from the images would round. They are None if the first canvas is defined as an
        image. See `prepare.exact_canvas`.
        """
        images: list[Any] = []
        canvases: list[np.ndarray] = []
        recipe = self.plan.recipe
        array = self.plan.scales[0].shape if self.plan.in_bucket else None
        at_scale: Any = prepare.at_scale if array is None else on_host.at_scale_on_host
        for place, member in enumerate(self._members):
            scale = member.prepared.scales[0]
            content = at_scale(member.prepared.content, scale.shape)
            style = at_scale(member.prepared.styles[0], scale.style_shapes[0])
            shares = _shares(self._recipe, place)
            init = instant_start.resolved_start(
                member.prepared, recipe, self._init, shares, array=array
            )
            if array is None:
                images.append(prepare.starting_image(content, style, recipe, init, member.key))
            else:
                start = recipe.pictures.start if init is None else init
                images.append(image_on_host(start, content, style, member.key, array))
            canvas = prepare.exact_canvas(content, recipe, self._init)
            if canvas is not None:
                canvases.append(canvas)
        if array is not None:
            images = [padded(image, array) for image in images]
            canvases = [padded(canvas, array) for canvas in canvases]
            return jnp.asarray(np.stack(images)), np.stack(canvases) if canvases else None
        return jnp.stack(images), np.stack(canvases) if canvases else None

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
            axes=_axes_of(recipe),
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
        found = _picture_many(state, recipe, bands, axes=_axes_of(recipe), clipped=clipped)
        whole = self._broke_at < 0
        # A picture that diverged at a coarser scale keeps the last finite canvas of that scale, which
        # was enlarged when this scale started.
        image = found if whole.all() else _choose(whole, found, self._image)
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
            whole = list(sharding.to_host(images, mesh))[:count]
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
        shares = _shares(self._measuring_recipe, place)
        terms = replace(recipe.terms, style_shares=shares)
        finish = Finisher(member.prepared, replace(recipe, terms=terms), realism)
        last = member.prepared.scales[-1]
        return (
            finish.in_arrays(image, last, plan.scales[-1])
            if plan.in_bucket
            else finish(image, last)
        )


def _numbers_of(recipe: Recipe, indices: list[int]) -> Recipe:
    """Return the recipe for some pictures of a batch, with its numbers as JAX arrays.

    If a batch compares several values of a number, such as a loss weight, the number is an array with
    one entry for each picture of the batch. From such an array, the entries of the wanted pictures are
    taken. An array with a single entry holds for all pictures.

    Args:
      recipe: the recipe of the whole batch.
      indices: the wanted pictures, by their indices in the batch.
    """
    take = np.asarray(indices)
    return recipes.with_numbers(
        recipes.as_arrays(recipe.bare()),
        # With the remainder `%`, an array with a single entry serves all pictures.
        lambda leaf: leaf[take % leaf.shape[0]] if leaf.ndim else leaf,
    )


def _axes_of(recipe: Recipe) -> Axes:
    """Return the `vmap` axis of each number of a recipe, such as a loss weight, in pytree order.

    The axis is 0 for an array with an entry for each picture, and None for a single number. `recipe`
    must be the result of `Recipe.at` for one scale (resolution): the recipe of the whole run may have
    other leaves.
    """
    return tuple(0 if leaf.ndim else None for leaf in jax.tree.leaves(recipe))


def _shares(recipe: Recipe, place: int) -> tuple[Any, ...]:
    """Return the weights by which the styles of picture number `place` are blended."""
    return jax.tree.map(
        lambda share: share[place] if share.ndim else share, recipe.terms.style_shares
    )


def _tree(axes: Axes, recipe: Recipe) -> Recipe:
    """Return the `vmap` axes from `_axes_of` as a pytree with the structure of the recipe."""
    return jax.tree.unflatten(jax.tree.structure(recipe), axes)


# --- Compiled functions ---------------------------------------------------------------------------
#
# `_init_many`, `_take_over_many`, `match_many`, `run_many` and `_picture_many` do for all canvases of a
# chunk (the pictures that are painted at once) what the functions of `nst_jax.optimize` do for one.

_enlarge = Jitted(optimize.enlarged, static_argnums=(1, 2, 3))
_style_targets = Jitted(style_targets)


@Jitted
def _choose(whole: Bool[Array, " n"], found: Image, before: Image) -> Image:
    """Return n images after a scale; for pictures that diverged before it, the images before it.

    Args:
      whole: for each picture, False if it diverged at an earlier, coarser scale (resolution).
      found: [n, h, w, 3], the canvases after this scale.
      before: [n, h, w, 3], the images from which this scale started. If `whole` is False, the image in
        `before` is returned, clipped to [0, 1].
    """
    return jnp.where(whole[:, None, None, None], found, jnp.clip(before, 0.0, 1.0))


def _distributed(canvases: np.ndarray, bands: Bands | None, mesh: AnyMesh | None) -> Array:
    """Copy canvases [pictures, h, w, 3] from the host to the devices that share the batch.

    With `bands`, several devices share each canvas: it is padded and cut into horizontal bands, one for
    each of these devices.
    """
    if bands is None:
        return distribute(jnp.array(sharding.split(canvases, mesh)), None)
    return _padded_many(sharding.split(canvases, mesh), bands, mesh=mesh)


@partial(Jitted, static_argnames=("mesh",))
def _padded_many(canvases: Array, bands: Bands, mesh: AnyMesh) -> Array:
    pad = partial(with_padding, bands=bands)
    return sharding.vmap_over_devices(pad, mesh, (0,))(canvases)


@partial(Jitted, static_argnames=("axes", "mesh"))
def _init_many(
    images: Image, recipe: Recipe, bands: Bands | None, *, axes: Axes, mesh: AnyMesh | None
) -> State:
    # Each device makes the states of its own pictures, since one device may not have memory for all.
    init = partial(optimize.init, bands=bands)
    return sharding.vmap_over_devices(init, mesh, (0, _tree(axes, recipe)))(images, recipe)


@partial(Jitted, static_argnames=("axes", "mesh"), donate_argnames="state")
def _take_over_many(
    state: State,
    opt_state: Any,
    recipe: Recipe,
    bands: Bands | None,
    bands_before: Bands | None,
    *,
    axes: Axes,
    mesh: AnyMesh | None,
) -> State:
    take_over = partial(optimize.take_over, bands=bands, bands_before=bands_before)
    in_axes = (0, 0, _tree(axes, recipe))
    return sharding.vmap_over_devices(take_over, mesh, in_axes)(state, opt_state, recipe)


def match_many(
    params: Params,
    state: State,
    targets: Targets,
    contents: Image,
    recipe: Recipe,
    *,
    first: bool,
    axes: Axes,
    mesh: AnyMesh | None,
) -> State:
    """Find the match of each position of several canvases: the most similar position of the style.

    `optimize.match` does this for one canvas.

    Args:
      params: the weights, with the additional kernels of `vgg.with_forms`.
      state: the states of all canvases, along a first axis.
      targets: what the losses compare each canvas with, along a first axis.
      contents: the contents at the size of the canvases, [canvases, h, w, 3].
      recipe: the recipe, with its numbers as arrays.
      first: whether this is the coarsest scale (resolution). At the coarsest scale, the features of the
        contents are matched; at later scales, those of mixtures of the canvases and the contents.
      axes: the `vmap` axis of each number of the recipe, from `_axes_of`.
      mesh: the devices that share the batch; None: one device, which holds the arrays.

    Returns:
      The states with their matches.
    """
    match = partial(optimize.match, first=first)
    in_axes = (None, 0, 0, 0, _tree(axes, recipe))
    mapped = sharding.vmap_over_devices(match, mesh, in_axes)
    return mapped(params, state, targets, contents, recipe)


def run_many(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    *,
    bands: Bands | None = None,
    axes: Axes,
    mesh: AnyMesh | None,
) -> tuple[State, Losses]:
    """Make `steps` steps of several canvases, as `optimize.run` makes them for one canvas.

    A step computes the losses of each canvas, and from these the next canvas.

    Args:
      params: the weights, with the additional kernels of `vgg.with_forms`.
      state: the states of all canvases, along a first axis.
      targets: what the losses compare each canvas with, along a first axis.
      recipe: the recipe, with its numbers (such as loss weights) as arrays.
      steps: number of steps, at most `optimize.CAPACITY`.
      bands: how each canvas is cut into bands, one for each device that shares it; None: each device
        computes whole canvases.
      axes: the `vmap` axis of each number of the recipe, from `_axes_of`.
      mesh: the devices that share the batch; None: one device, which holds the arrays.

    Returns:
      The states after the steps; and the losses of each canvas at each step, arrays
      [canvases, CAPACITY], of which the first `steps` columns are filled.
    """
    in_axes = (None, 0, 0, _tree(axes, recipe), None)
    run = sharding.vmap_over_devices(partial(optimize.run, bands=bands), mesh, in_axes)
    return run(params, state, targets, recipe, steps)


PROGRAMS = BatchPrograms(
    measuring=measuring.PROGRAMS,
    run=Jitted(run_many, static_argnames=("axes", "mesh"), donate_argnames="state", large=True),
    match=Jitted(match_many, static_argnames=("first", "axes", "mesh")),
)


@partial(Jitted, static_argnames=("axes", "clipped"))
def _picture_many(
    state: State, recipe: Recipe, bands: Bands | None, *, axes: Axes, clipped: bool
) -> Image:
    take = partial(optimize.picture if clipped else optimize.canvas_image, bands=bands)
    return jax.vmap(take, in_axes=(0, _tree(axes, recipe)))(state, recipe)
