"""Textures on the command line: pictures that are painted from a style alone, without a content.

A grey picture takes the content's place. Values of a recipe that have no effect on a texture are
refused if the user gives them.
"""

import hashlib
from collections.abc import Mapping

from nst_jax import images, texturing
from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.toml import STRENGTH
from nst_jax.recipes.walk import walk

# What messages call the option `--set` ("values" or "--set") and the column "overrides" of a manifest,
# the table that lists the pictures of a batch. Each of the two can change any value of a recipe, so a
# message also names the key of the value.
OF_ANY_VALUE = ("values", "--set", "overrides")

# Keys that have no effect on a texture, whatever their values. Other values may be those that each
# texture has, such as a content weight of 0. The layers of the content loss may be those of the recipe
# of a texture as well, but only because this recipe needs some, and its content loss has the weight 0.
WITHOUT_EFFECT = (STRENGTH, "terms.content_taps")


def blank_glance(shape: Shape) -> images.Glance:
    """Return size, name and digest of the grey picture that takes the place of a texture's content.

    A texture has no content, but the functions that paint require one.

    Args:
      shape: (height, width) of the texture.
    """
    name = f"blank {shape[1]}x{shape[0]}"
    return images.Glance(shape, name, hashlib.sha256(name.encode()).hexdigest())


def blank_picture(shape: Shape) -> images.Picture:
    """Return the grey picture that `blank_glance` describes, as if it were read from a file."""
    seen = blank_glance(shape)
    return images.Picture(texturing.blank(shape), None, (), seen.name, seen.digest)


def recipe_of_texture(
    recipe: Recipe, *, seamless: bool, given: Mapping[str, str], instead: str = ""
) -> Recipe:
    """Return the variant of a recipe that paints a texture; refuse values that a texture cannot use.

    A recipe's own content loss, colours, realism, matting, and start (unless the start is noise) are
    left out silently, so that the recipe can be used nevertheless. But a user who gives such a value
    expects an effect, so it is refused.

    Args:
      recipe: the recipe with the given values.
      seamless: whether opposite borders of the texture fit together.
      given: key of a value in recipe files, such as "pictures.colors" -> the name of the option or
        column by which the user gave it, for messages.
      instead: what else the user can do, for the end of messages.

    Raises:
      ValueError: if a given value has no effect on a texture, or if the recipe cannot be run, at all or
        with `seamless`.
    """
    found = texturing.of_texture(recipe, seamless=seamless)
    before, after = ({item.key: item.value for item in walk(one)} for one in (recipe, found))
    for key, name in given.items():
        if key in WITHOUT_EFFECT or (key in before and before[key] != after.get(key)):
            about = f" {key}" if name in OF_ANY_VALUE else ""
            raise ValueError(
                f"`{name}`:{about} has no effect on a texture, which has no content and starts from "
                f"noise; leave it out{instead}"
            )
    return found
