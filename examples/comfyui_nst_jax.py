"""Nodes for ComfyUI: an image painted in the style of another, or in one of 26 styles.

Install nst-jax into ComfyUI's Python, and copy this file into ComfyUI's folder `custom_nodes`:

    python -m pip install nst_jax/          # the folder of this project
    cp nst_jax/examples/comfyui_nst_jax.py ComfyUI/custom_nodes/

After a restart, the nodes are under "image/style transfer". ComfyUI's images are torch tensors
[batch, height, width, 3] of floats from 0 to 1; the pictures of nst-jax are such arrays. JAX takes its
own memory beside torch's; on a GPU that both share, it takes memory as it needs it.
"""

import os
from typing import Any

# Before jax is imported: by default it reserves three quarters of the GPU that ComfyUI's models need.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import numpy as np

import nst_jax as nst
from nst_jax.feed_forward import style_names

# The input "size": the longer side of the result in pixels; 0 keeps the size of the image.
SIZE = ("INT", {"default": 512, "min": 0, "max": 8192, "step": 8})


def to_arrays(images: Any) -> np.ndarray:
    """Return ComfyUI's images, a tensor [b, h, w, 3] on any device, as an array in [0, 1]."""
    arrays = np.asarray(images.detach().cpu().numpy(), np.float32)
    if arrays.ndim != 4 or arrays.shape[-1] not in (3, 4):
        raise ValueError(f"expected images [batch, height, width, 3], got {list(arrays.shape)}")
    return np.clip(arrays[..., :3], 0, 1)  # nodes before this one may leave the range a little


def to_tensor(pictures: Any) -> Any:
    """Return pictures [h, w, 3] of one size as ComfyUI's images, a tensor [b, h, w, 3] on the CPU."""
    import torch  # ComfyUI brings it; nst-jax does not need it

    return torch.from_numpy(np.stack([np.array(picture, np.float32) for picture in pictures]))


class NstJaxNamedStyle:
    """Paints images in one of the 26 styles of a feed-forward network; an image takes seconds."""

    DESCRIPTION = "Paints images in one of 26 styles, in seconds."
    CATEGORY = "image/style transfer"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    FUNCTION = "paint"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802, the name that ComfyUI calls
        """Return the inputs of the node."""
        return {
            "required": {
                "image": ("IMAGE",),
                "style": (list(style_names.NAMES), {"default": "mosaic"}),
                "size": SIZE,
            }
        }

    def paint(self, image: Any, style: str, size: int) -> tuple[Any]:
        """Return the painted images."""
        return (to_tensor(nst.instant_many(to_arrays(image), style, size=size or "as-is")),)


class NstJaxInstant:
    """Paints images in the style of another image by a feed-forward network; an image takes seconds."""

    DESCRIPTION = "Paints images in the style of another image, in seconds."
    CATEGORY = "image/style transfer"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    FUNCTION = "paint"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the inputs of the node."""
        return {
            "required": {
                "image": ("IMAGE",),
                "style_image": ("IMAGE",),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}),
                "size": SIZE,
            }
        }

    def paint(self, image: Any, style_image: Any, strength: float, size: int) -> tuple[Any]:
        """Return the painted images; of a batch of style images, the first one counts."""
        style = to_arrays(style_image)[0]
        painted = nst.instant_many(to_arrays(image), style, strength=strength, size=size or "as-is")
        return (to_tensor(painted),)


class NstJaxStylize:
    """Paints images by optimising their pixels: better than the other nodes, and minutes on a CPU."""

    DESCRIPTION = "Paints images in the style of another image by optimisation: slower, and better."
    CATEGORY = "image/style transfer"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    FUNCTION = "paint"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the inputs of the node."""
        return {
            "required": {
                "image": ("IMAGE",),
                "style_image": ("IMAGE",),
                "recipe": (list(nst.recipes.PRESETS), {"default": "default"}),
                "strength": ("FLOAT", {"default": 0.85, "min": 0.0, "max": 1.0, "step": 0.05}),
                "size": SIZE,
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32 - 1}),
            },
            # 0 leaves the number of updates to the recipe.
            "optional": {"steps": ("INT", {"default": 0, "min": 0, "max": 10_000})},
        }

    def paint(
        self,
        image: Any,
        style_image: Any,
        recipe: str,
        strength: float,
        size: int,
        seed: int,
        steps: int = 0,
    ) -> tuple[Any]:
        """Return the painted images; of a batch of style images, the first one counts."""
        import jax

        contents, style = to_arrays(image), to_arrays(style_image)[0]
        params = nst.load_params()
        chosen = nst.recipes.changes.with_strength(nst.recipes.named(recipe), strength)
        painted = [
            nst.stylize(
                params,
                content,
                style,
                recipe=chosen,
                size=size or "as-is",
                steps=steps or None,
                key=jax.random.key(seed),
            )
            for content in contents
        ]
        return (to_tensor(painted),)


# ComfyUI finds the nodes of a file by these names.
NODE_CLASS_MAPPINGS = {
    "NstJaxNamedStyle": NstJaxNamedStyle,
    "NstJaxInstant": NstJaxInstant,
    "NstJaxStylize": NstJaxStylize,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "NstJaxNamedStyle": "Style transfer: named style (nst-jax)",
    "NstJaxInstant": "Style transfer: instant (nst-jax)",
    "NstJaxStylize": "Style transfer: optimised (nst-jax)",
}
