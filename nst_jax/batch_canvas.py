"""Several canvases of a batch, optimised at once by a `vmap` of the loop for one canvas."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from nst_jax import correspondence, optimize, prepare, recipes
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import Image, Losses, Params, Resized, Shape, State, Targets
from nst_jax.descent import has_stalled
from nst_jax.feed_forward import instant_painter
from nst_jax.images import on_host
from nst_jax.images.resizing import finest_detail
from nst_jax.losses import MatchingLoss
from nst_jax.measuring import Measuring, Watch
from nst_jax.optimize import Handover
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding, tiles
from nst_jax.scaling.bands import Bands, distribute, with_padding
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import AnyMesh, band_mesh
from nst_jax.targets import blend, stacked_targets, style_targets
from nst_jax.vgg.network import with_forms

# `vmap` axis of each leaf of the recipe; None: the leaf is one number, the same for all pictures.
Axes: TypeAlias = tuple[int | None, ...]

RealSizes: TypeAlias = Int[np.ndarray, "n 2"]  # the real (height, width) of each canvas in a bucket


class Member(NamedTuple):
    """One picture of a batch."""

    place: int  # index of the picture in the result
    content: int  # index of its content picture; members with the same index share its features
    style: int  # index of its style picture, or of its list of blended style pictures
    prepared: prepare.Prepared  # its resized pictures and its scales
    key: Array  # random key of its start


class BatchWeights(NamedTuple):
    """The weights in the two versions that a batch needs: to compute targets, and for the loop."""

    measuring: Params  # as loaded, to compute features of contents and statistics of styles
    loop: Params  # with the forms that `with_forms` adds, copied to all devices of the plan

    @classmethod
    def of(cls, params: Params, plan: Plan) -> "BatchWeights":
        """Return both versions of the weights, each copied to the devices of a plan that use it."""
        network, taps = plan.recipe.network, plan.recipe.terms.taps
        shape = tiles.window_of(plan.scales[-1].shape, taps, network, plan.bands())
        formed = with_forms(params, taps, shape=shape, precision=network.precision_on())
        return cls(
            sharding.replicate(params, band_mesh(plan.mesh)), sharding.replicate(formed, plan.mesh)
        )


class BatchCanvas:
    """The canvases of a chunk (pictures painted at once); implements `descent.Canvas`."""

    def __init__(
        self,
        weights: BatchWeights,
        plan: Plan,
        members: list[Member],
        init: Any,
        watch: Watch | None = None,
    ) -> None:
        self.plan, self._weights, self._init = plan, weights, init
        self._watch = Watch() if watch is None else watch
        self._count = len(members)
        # The devices must get equally many members, so the last member is repeated as often as needed.
        extra = sharding.round_up(self._count, plan.mesh) - self._count
        self._members = members + members[-1:] * extra
        indices = [member.place for member in self._members]
        here = _numbers_of(plan.recipe, indices)
        self._recipe = sharding.replicate(here, plan.mesh)
        # The recipe on the devices that compute targets: on all devices of the plan if several share
        # each picture, else on one.
        self._measuring_recipe = here if band_mesh(plan.mesh) is None else self._recipe
        self._shapes = [scale.shape for scale in plan.scales]
        self._broke_at = np.full(len(self._members), -1)
        self._totals: list[np.ndarray] = []  # total losses, [members, steps] of each `run`
        self._image: Image | None = None  # the images with which the current scale started

    def _at(self, scale: int, recipe: Recipe | None = None) -> Recipe:
        """Return what `recipe`, by default the one on the devices that paint, is at a scale."""
        return (self._recipe if recipe is None else recipe).at(scale, self._shapes)

    def measure(self, scale: int) -> Targets:
        """Compute the targets of a scale and return those of all members, stacked.

        Each content and each style is measured once, however many members share it.
        """
        mesh, bands = band_mesh(self.plan.mesh), self.plan.bands(scale)
        recipe, params = self._at(scale, self._measuring_recipe), self._weights.measuring
        pieces = Measuring(params, recipe, bands, watch=self._watch)
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
            # In a bucket, contents of several sizes may need one style in several sizes.
            name = (member.style, here.style_shapes) if self.plan.in_bucket else member.style
            if name not in styles and self.plan.in_bucket:
                styles[name] = self._statistics_in_bucket(scale, member, pieces)
            if name not in styles:
                pictures = sharding.replicate(prepare.styles_at(member.prepared, here), mesh)
                if isinstance(recipe.terms.style_loss, MatchingLoss):
                    styles[name] = pieces.styles(pictures)
                    continue
                styles[name] = [pieces.statistics(picture) for picture in pictures]
        # Measuring needs no `vmap` over the members: of the numbers that a sweep may vary, only the
        # style shares change the targets, and they are applied here, after the measuring.
        targets: dict[Any, Any] = {}
        of_members = []
        for place, member in enumerate(self._members):
            name = member.style
            if self.plan.in_bucket:
                name = (name, member.prepared.scales[scale].style_shapes)
            found = styles[name]
            if isinstance(recipe.terms.style_loss, MatchingLoss):  # no shares, so nothing to blend
                of_members.append(found)
                continue
            # The target of a single style does not depend on its share, so all its members share it.
            known = (name,) if len(found) == 1 else (name, place)
            if known not in targets:
                targets[known] = _style_targets(
                    blend(found, _shares(recipe, place), recipe.terms), recipe
                )
            of_members.append(targets[known])
        stacked = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
        content = stacked(*(contents[member.content] for member in self._members))
        photo = stacked(*(photos[member.content] for member in self._members))
        return Targets(
            sharding.split(content, self.plan.mesh, bands=bands is not None),
            sharding.split(stacked_targets(of_members), self.plan.mesh),
            sharding.split(photo, self.plan.mesh),
            size=sharding.split(self._real_sizes(scale), self.plan.mesh),
        )

    def _at_scale(
        self, picture: Image, shape: Shape, array: Shape
    ) -> tuple[Resized, dict[str, Any]]:
        """Return a picture at a scale and, if it lies in a bucket, the argument `size` of `Measuring`.

        Args:
          picture: [h, w, 3] at its final size.
          shape: its (height, width) at the scale.
          array: (height, width) of the bucket.
        """
        if not self.plan.in_bucket:
            return prepare.at_scale(picture, shape), {}
        found = padded(on_host.at_scale_on_host(picture, shape), array)
        return jnp.asarray(found), {"size": jnp.asarray(shape, jnp.int32)}

    def _statistics_in_bucket(self, scale: int, member: Member, pieces: Measuring) -> list[Any]:
        """Return the statistics of each of a member's styles, which lie in arrays of one size."""
        shapes, (array,) = (
            member.prepared.scales[scale].style_shapes,
            self.plan.scales[scale].style_shapes,
        )
        found = []
        for style, shape in zip(member.prepared.styles, shapes, strict=True):
            picture, real = self._at_scale(style, shape, array)
            picture = sharding.replicate(picture, band_mesh(self.plan.mesh))
            found.append(pieces.statistics(picture, **real))
        return found

    def _real_sizes(self, scale: int) -> RealSizes | None:
        """Return the real size of each member's canvas; None if they fill their arrays."""
        if not self.plan.in_bucket:
            return None
        shapes = [member.prepared.scales[scale].shape for member in self._members]
        return np.asarray(shapes, np.int32)

    def _measure_controlled(self, scale: int, pieces: Measuring) -> Targets:
        """Compute the targets of members with regions, protected or transparent parts, stacked."""
        mesh, found = band_mesh(self.plan.mesh), []
        for place, member in enumerate(self._members):
            prepared, here = member.prepared, member.prepared.scales[scale]
            assert prepared.controls is not None
            content = prepare.at_scale(prepared.content, here.shape)
            styles, controls = (
                prepare.styles_at(prepared, here),
                prepare.controls_at(prepared, here),
            )
            arrays = sharding.replicate((content, styles, controls), mesh)
            pictures = (*prepared.styles, *prepared.region_styles)
            pairs = zip(pictures, prepared.controls.style_masks, strict=True)
            # Pictures and masks are named by the identities of their arrays. Members that share a
            # picture have the same array, so it is measured once.
            names = member.content, [(id(picture), id(mask)) for picture, mask in pairs]
            shares = _shares(self._measuring_recipe, place)
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
        )

    def start(self, scale: int, measured: Targets, before: Handover | None) -> State:
        mesh, bands, exact = self.plan.mesh, self.plan.bands(scale), None
        shape, descent = self.plan.scales[scale].shape, self.plan.recipe.descent
        if before is None:
            image, exact = self._starts()
            if not self.plan.in_bucket:
                image = _enlarge(image, shape, descent.enlarge, False)
            self._image = image
        elif self.plan.in_bucket:
            self._image = self._enlarged_in_bucket(scale, before.image)
        else:
            self._image = _enlarge(before.image, shape, descent.enlarge, descent.clip)
            if descent.content_detail and scale < len(self._shapes) - 1:
                self._image = self._image + jax.vmap(finest_detail)(self._contents(scale))
        split = sharding.split(self._image, mesh)
        recipe = self._at(scale)
        state = _init_many(split, recipe, bands, axes=_axes_of(recipe), mesh=mesh)
        if correspondence.number_of_matches(shape, recipe) is not None:
            state = _match_many(
                self._weights.loop,
                state,
                measured,
                sharding.split(self._contents(scale), mesh),
                recipe,
                first=scale == 0,
                axes=_axes_of(recipe),
                mesh=mesh,
            )
        if before is not None and before.opt_state is not None:
            state = _take_over_many(
                state,
                before.opt_state,
                recipe,
                bands,
                self.plan.bands(scale - 1),
                axes=_axes_of(recipe),
                mesh=mesh,
            )
        if exact is None:
            return state
        # A copy for each field: the loop donates the state, and no buffer can be donated twice.
        names = ("canvas", "pending", *(["average"] if state.average is not None else []))
        return state._replace(**{name: _distributed(exact, bands, mesh) for name in names})

    def _enlarged_in_bucket(self, scale: int, images: Image) -> Resized:
        """Return the images of a coarser scale, each resized from its real size to the next one.

        It is done on the host: nothing is compiled for the sizes of the pictures.
        """
        descent, array = self.plan.recipe.descent, self.plan.scales[scale].shape
        found = []
        coarse = sharding.to_host(images, self.plan.mesh)
        for member, image in zip(self._members, coarse, strict=True):
            (height, width), larger = (
                member.prepared.scales[scale - 1].shape,
                member.prepared.scales[scale].shape,
            )
            one = on_host.resized_on_host(image[:height, :width], larger, descent.enlarge)
            found.append(padded(np.clip(one, 0, 1) if descent.clip else one, array))
        return jnp.asarray(np.stack(found))

    def _contents(self, scale: int) -> Image:
        """Return the contents of all members at a scale."""
        shape = self.plan.scales[scale].shape
        pictures = {
            member.content: prepare.at_scale(member.prepared.content, shape)
            for member in self._members
        }
        return jnp.stack([pictures[member.content] for member in self._members])

    def _starts(self) -> tuple[Image, np.ndarray | None]:
        """Return the members' starting images and their exact canvases; see `prepare.exact_canvas`.

        Instead of canvases, None is returned if the start is not defined in the canvas' coordinates.
        """
        images: list[Any] = []
        canvases: list[np.ndarray] = []
        recipe = self.plan.recipe
        for place, member in enumerate(self._members):
            scale = member.prepared.scales[0]
            at_scale: Any = on_host.at_scale_on_host if self.plan.in_bucket else prepare.at_scale
            content = at_scale(member.prepared.content, scale.shape)
            style = at_scale(member.prepared.styles[0], scale.style_shapes[0])
            if self.plan.in_bucket:  # `jnp.asarray` would compile a copy of each shape
                content, style = jax.device_put((content, style))
            shares = _shares(self._recipe, place)
            init = instant_painter.resolved_start(member.prepared, recipe, self._init, shares)
            images.append(prepare.starting_image(content, style, recipe, init, member.key))
            canvas = prepare.exact_canvas(content, recipe, self._init)
            if canvas is not None:
                canvases.append(canvas)
        if self.plan.in_bucket:
            array = self.plan.scales[0].shape
            images = [padded(image, array) for image in images]
            canvases = [padded(canvas, array) for canvas in canvases]
            return jnp.asarray(np.stack(images)), np.stack(canvases) if canvases else None
        return jnp.stack(images), np.stack(canvases) if canvases else None

    def run(self, scale: int, state: State, measured: Targets, steps: int) -> tuple[State, None]:
        recipe = self._at(scale)
        state, losses = _run_many(
            self._weights.loop,
            state,
            measured,
            recipe,
            steps,
            self.plan.bands(scale),
            axes=_axes_of(recipe),
            mesh=self.plan.mesh,
        )
        totals = sharding.to_host(losses.total, self.plan.mesh)
        self._totals.append(totals[:, :steps].copy())
        return state, None

    def stalled(self) -> list[bool]:
        """Return for each picture of a finished run whether nothing was painted; see `has_stalled`."""
        totals = np.concatenate(self._totals, axis=1)[: self._count]
        return [has_stalled(one, self.plan.scales) for one in totals]

    def is_broken(self, state: State) -> bool:
        del state
        return False  # a chunk never ends early, since its other pictures continue

    def hand_over(self, scale: int, state: State) -> Handover:
        image = self._images(scale, state, clipped=False)
        return optimize.hand_over(image, state, self._at(scale))

    def _images(self, scale: int, state: State, *, clipped: bool) -> Image:
        """Return the canvases of a finished scale as images, and record which of them diverged."""
        bands = self.plan.bands(scale)
        recipe = self._at(scale)
        found = _picture_many(state, recipe, bands, axes=_axes_of(recipe), clipped=clipped)
        whole = self._broke_at < 0
        # A picture that diverged at a coarser scale keeps its canvas of that scale, enlarged.
        image = found if whole.all() else _choose(whole, found, self._image)
        broken = sharding.to_host(state.broke_at, self.plan.mesh)
        before = sum(one.steps for one in self.plan.scales[:scale])
        self._broke_at = np.where(whole & (broken >= 0), broken + before, self._broke_at)
        return image

    def results(self, state: State) -> tuple[list[Image], list[Losses], list[int]]:
        """Return the images, their losses, and the update at which each diverged (-1 if it did not)."""
        self._watch.wait(state.step)
        mesh, count = self.plan.mesh, self._count
        last = len(self.plan.scales) - 1
        images = self._images(last, state, clipped=True)
        measured = sharding.to_host(state.losses, mesh)
        losses = [jax.tree.map(lambda of, i=i: of[i], measured) for i in range(count)]
        if self.plan.in_bucket:
            arrays = sharding.to_host(images, mesh)[:count]
            shapes = self._real_sizes(last)
            assert shapes is not None
            cropped = zip(arrays, shapes, strict=False)
            whole = [jax.device_put(image[:height, :width]) for image, (height, width) in cropped]
        else:
            whole = list(sharding.gather(images, mesh))[:count]
        finished = [self._finished(place, image) for place, image in enumerate(whole)]
        return finished, losses, self._broke_at.tolist()[:count]

    def _finished(self, place: int, image: Image) -> Image:
        """Return the picture of one member as it is returned; see `prepare.Finisher`."""
        member, recipe = self._members[place], self.plan.recipe
        realism = np.asarray(recipe.pictures.realism)
        if realism.ndim:  # of a sweep; an array of length one is shared by all members
            realism = realism[member.place % len(realism)]
        shares = _shares(self._measuring_recipe, place)
        terms = replace(recipe.terms, style_shares=shares)
        finish = prepare.Finisher(member.prepared, replace(recipe, terms=terms), realism)
        return finish(image, member.prepared.scales[-1])


def _numbers_of(recipe: Recipe, indices: list[int]) -> Recipe:
    """Return the recipe for the pictures at `indices`, with every number an array.

    In the recipe of a sweep, a number may be an array with one entry for each picture. Of such an array
    the entries at `indices` are taken.
    """
    take = np.asarray(indices)
    return recipes.with_numbers(
        # An array of length one is shared by all members.
        recipes.as_arrays(recipe.bare()),
        lambda leaf: leaf[take % leaf.shape[0]] if leaf.ndim else leaf,
    )


def _axes_of(recipe: Recipe) -> Axes:
    """Return the `vmap` axis of each number of a recipe: 0 for an array with an entry for each picture.

    The recipe is that of one scale, which may have other numbers than that of the run.
    """
    return tuple(0 if leaf.ndim else None for leaf in jax.tree.leaves(recipe))


def _shares(recipe: Recipe, place: int) -> tuple[Any, ...]:
    """Return one member's style shares: the weights by which its styles are blended."""
    return jax.tree.map(
        lambda share: share[place] if share.ndim else share, recipe.terms.style_shares
    )


def _tree(axes: Axes, recipe: Recipe) -> Recipe:
    return jax.tree.unflatten(jax.tree.structure(recipe), axes)


# --- Compiled functions ---------------------------------------------------------------------------

_enlarge = Jitted(optimize.enlarged, static_argnums=(1, 2, 3))
_style_targets = Jitted(style_targets)


@Jitted
def _choose(whole: Bool[Array, " n"], found: Image, before: Image) -> Image:
    return jnp.where(whole[:, None, None, None], found, jnp.clip(before, 0.0, 1.0))


def _distributed(canvases: np.ndarray, bands: Bands | None, mesh: AnyMesh | None) -> Array:
    """Copy canvases from the host to the devices that share the batch."""
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
    # Each device makes the states of its own pictures, since one device may lack memory for all.
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


@partial(Jitted, static_argnames=("first", "axes", "mesh"))
def _match_many(
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
    match = partial(optimize.match, first=first)
    in_axes = (None, 0, 0, 0, _tree(axes, recipe))
    mapped = sharding.vmap_over_devices(match, mesh, in_axes)
    return mapped(params, state, targets, contents, recipe)


@partial(Jitted, static_argnames=("axes", "mesh"), donate_argnames="state")
def _run_many(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    bands: Bands | None,
    *,
    axes: Axes,
    mesh: AnyMesh | None,
) -> tuple[State, Losses]:
    in_axes = (None, 0, 0, _tree(axes, recipe), None)
    run = sharding.vmap_over_devices(partial(optimize.run, bands=bands), mesh, in_axes)
    return run(params, state, targets, recipe, steps)


@partial(Jitted, static_argnames=("axes", "clipped"))
def _picture_many(
    state: State, recipe: Recipe, bands: Bands | None, *, axes: Axes, clipped: bool
) -> Image:
    take = partial(optimize.picture if clipped else optimize.canvas_image, bands=bands)
    return jax.vmap(take, in_axes=(0, _tree(axes, recipe)))(state, recipe)
