"""`Finisher` changes the colours and edges of a run's results, and restores protected parts."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._compile import Jitted
from nst_jax._real_size import committed_to, padded
from nst_jax._types import AnyImage, Image, KeptContent
from nst_jax.controls import finishing, regions
from nst_jax.controls.regions import Controls
from nst_jax.images import on_host as on_host_filters
from nst_jax.images.palettes import Palette
from nst_jax.prepare import Prepared, at_scale, controls_at, controls_in_arrays, styles_at
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale


class Finisher:
    """Finishes the results of one run: changes edges and colours, and restores protected parts.

    The recipe says whether and how edges (`realism`) and colours are changed. Where a mask protects a
    part of the content, the content is mixed into the result.
    """

    def __init__(self, prepared: Prepared, recipe: Recipe, realism: Any = None) -> None:
        """Set up the finishing of one run's results.

        Args:
          prepared: the pictures of the run.
          recipe: the recipe of the run.
          realism: how far the result gets the content's edges back, from 0 to 1; None means the value
            of the recipe, `pictures.realism`.
        """
        self._prepared, self._recipe = prepared, recipe
        self._realism = float(recipe.pictures.realism if realism is None else realism)
        self._filters = bool(self._realism) or finishing.colors_after(recipe.pictures.colors)
        # `_use` or `_use_in_arrays` sets these five attributes for one scale (resolution). They are
        # reused for the next picture if it has the same scale, which is usual.
        self._scale: Scale | None = None
        self._content: AnyImage = prepared.photo
        self._opacity: Any = None
        self._palette: Palette | None = None
        self._kept: KeptContent | None = None

    def __call__(self, image: Image, scale: Scale) -> Image:
        """Return the finished picture for a painted image; the same array if nothing is to change.

        Args:
          image: [h, w, 3], the canvas as an image.
          scale: the scale (resolution) at which it was painted.
        """
        controls, pictures = self._prepared.controls, self._recipe.pictures
        if not self._filters and (controls is None or controls.protect is None):
            return image
        if scale is not self._scale:
            self._use(scale)
        if self._filters:
            image = _finished(
                image,
                self._content,
                self._palette,
                jnp.asarray(self._realism, jnp.float32) if self._realism else None,
                colors=pictures.colors,
                space=pictures.chroma_space,
                kept=self._kept,
                opacity=self._opacity if pictures.colors == "palette" else None,
            )
        return image if self._kept is None else _with_kept(image, self._kept)

    def in_arrays(self, image: Any, scale: Scale, arrays: Scale) -> Image:
        """Return the finished picture for a painted image at the top left of a larger array.

        The programs that adjust it are compiled for the size of the array, so that images of several
        sizes can share them.

        Args:
          image: [h, w, 3], the array with the painted image.
          scale: the scale (resolution) at which the image was painted, with the sizes of the pictures.
          arrays: the same scale, but with the sizes of the arrays in which the pictures lie.

        Returns:
          The picture alone, without the rest of the array.
        """
        controls, pictures = self._prepared.controls, self._recipe.pictures
        if self._filters or (controls is not None and controls.protect is not None):
            if scale is not self._scale:
                self._use_in_arrays(scale, arrays)
            size = jnp.asarray(scale.shape, jnp.int32)
            image = jnp.asarray(image)
            if self._filters:
                image = _finished(
                    image,
                    self._content,
                    self._palette,
                    jnp.asarray(self._realism, jnp.float32) if self._realism else None,
                    colors=pictures.colors,
                    space=pictures.chroma_space,
                    kept=self._kept,
                    opacity=self._opacity if pictures.colors == "palette" else None,
                    size=size,
                    radius=(
                        jnp.asarray(finishing.filter_radius(*scale.shape), jnp.int32)
                        if self._realism
                        else None
                    ),
                )
            image = image if self._kept is None else _with_kept(image, self._kept)
        height, width = scale.shape
        # Like a picture that fills its array, the result stays on the device that was chosen for it.
        return jax.device_put(np.asarray(image)[:height, :width], committed_to(image))

    def _use_in_arrays(self, scale: Scale, arrays: Scale) -> None:
        """Set the attributes that `in_arrays` reads, for one scale (resolution).

        Args:
          scale: the scale, with the sizes of the pictures.
          arrays: the sizes of the arrays of that scale; each picture lies at the top left of an array.
        """
        self._scale, prepared = scale, self._prepared
        photo = on_host_filters.at_scale_on_host(prepared.photo, scale.shape)
        self._content = jnp.asarray(padded(photo, arrays.shape))
        controls = controls_in_arrays(prepared, scale, arrays)
        if controls is not None:
            self._opacity = controls.opacity
            self._kept = _kept_of(self._content, controls, jnp.asarray(scale.shape, jnp.int32))
        if self._recipe.pictures.colors != "palette":
            return
        shapes = scale.style_shapes[: len(prepared.styles)]
        masks = [None] * len(shapes) if controls is None else controls.style_masks
        styles, opacities = [], []
        for style, shape, mask in zip(prepared.styles, shapes, masks, strict=False):
            found = on_host_filters.at_scale_on_host(style, shape)
            array = arrays.style_shapes[0]
            styles.append(jnp.asarray(padded(found, array)))
            opaque = padded(np.ones(shape, np.float32), array)
            opacities.append(jnp.asarray(opaque) if mask is None else mask)
        self._palette = self._mixed(styles, opacities)

    def _use(self, scale: Scale) -> None:
        """Set the attributes that `__call__` reads, for one scale (resolution)."""
        self._scale = scale
        self._content = at_scale(self._prepared.photo, scale.shape)
        controls = controls_at(self._prepared, scale)
        if controls is not None:
            self._opacity = controls.opacity
            self._kept = _kept_of(self._content, controls)
        if self._recipe.pictures.colors == "palette":
            self._palette = self._palette_at(scale, controls)

    def _palette_at(self, scale: Scale, controls: Controls | None) -> Palette:
        """Return the mean, covariance and range of the styles' colours at one scale (resolution).

        Several styles are mixed as `_mixed` says. `controls` has their opacity masks; with None, all
        styles are opaque.
        """
        masks = () if controls is None else controls.style_masks
        return self._mixed(styles_at(self._prepared, scale), masks)

    def _mixed(self, styles: Sequence[Any], opacities: Sequence[Any]) -> Palette:
        """Return the palette of all blended styles together, weighted by the recipe's `style_shares`.

        The palette is the mean, covariance and range of the styles' colours. `opacities` has the
        opacity mask of each style, or None for an opaque style; if it is empty, all styles are opaque.
        """
        # Styles for single taps (layers; see `Terms.tap_styles`) have no weight in `style_shares`, so
        # their colours are left out.
        terms = self._recipe.terms
        styles = terms.blended_styles(styles)
        opacities = terms.blended_styles(opacities) if opacities else ()
        shares = terms.style_shares
        if len(shares) == 1:
            shares = shares * len(styles)
        return _mixed_palette(tuple(styles), jnp.asarray(shares, jnp.float32), tuple(opacities))


_finished = Jitted(finishing.finished, static_argnames=("colors", "space"))


_mixed_palette = Jitted(finishing.mixed_palette)


_kept_of, _with_kept = Jitted(regions.kept_of), Jitted(regions.with_kept)
