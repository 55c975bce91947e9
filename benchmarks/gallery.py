"""The pictures that `quality` rates: which pairs, painted by what, and where they are kept.

A painted picture can be kept in a folder, as a PNG, beside a JSON file that says how it came about. A
picture that is kept is not painted again: so a measurement of hours may be stopped, continued later and
extended by further recipes.
"""

import functools
import hashlib
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import nst_jax as nst
from benchmarks import harness, pastiche, pytorch
from benchmarks.problems import Pair

WARM_UP = 4  # updates, or as many as there are scales, if these are more: each needs one at least
INSTANT = "instant"  # the contestant that is not a recipe but the feed-forward network
COMMAND = "pastiche-command"  # the contestant that is the command of another tool, pastiche
SOURCE_LOOP = (
    "crowsonkb-pytorch"  # the contestant that is the loop of crowsonkb's source, in PyTorch
)
RATIO = re.compile(r"(?P<width>[1-9][0-9]*):(?P<height>[1-9][0-9]*)")
IN_TIME = re.compile(r"(?P<own>.+)@(?P<clock>[a-z0-9-]+)-time")
RULE = re.compile(
    r"(?P<recipe>[a-z0-9-]+)(@style(?P<factor>[0-9]+(\.[0-9]+)?))?(@(?P<updates>[1-9][0-9]*))?"
)


class Painted(NamedTuple):
    """A painted picture, and how it came about."""

    image: Any  # [h, w, 3] in [0, 1]
    facts: dict[str, Any]  # updates, final_loss, seconds, device ...; see `Contestant.paint`


class Contestant(NamedTuple):
    """What paints a picture: a recipe, perhaps with another number of updates, or `instant`.

    `PasticheCommand` is another tool, and `SourceLoop` the loop of a source in PyTorch.

    Attributes:
      name: as on the command line, such as `"default"`, `"crowsonkb@500"` (with 500 updates),
        `"default@style3"` (with three times its style weight) or `"crowsonkb@default-time"`.
      recipe: the recipe; None for `instant`.
      clock: the contestant in whose time it paints, with as many updates as fit into it; see the module
        `equal_time`. None: it makes the updates of `recipe`.
    """

    name: str
    recipe: nst.recipes.Recipe | None
    clock: str | None = None

    def with_updates(self, steps: int) -> "Contestant":
        """Return a recipe's contestant with another number of updates."""
        assert self.recipe is not None
        return self._replace(recipe=self.recipe.replace(steps=steps))

    def updates_by_scale(self, content: Any, size: str) -> list[int]:
        """Return the number of updates at each scale of a recipe; arguments as for `paint`."""
        assert self.recipe is not None
        height, width = content.shape[:2]
        shape = canvas(content, size)
        return [updates for _, updates in self.recipe.descent.plan(shape, (height, width))]

    def warm_up(self, params: nst.Params, content: Any, style: Any, size: str) -> None:
        """Paint a few updates, so that all programs of a pair are compiled."""
        each = self
        if self.recipe is not None:
            scales = self.updates_by_scale(content, size)
            each = self.with_updates(min(max(WARM_UP, len(scales)), sum(scales)))
        each.paint(params, content, style, size)

    def paint(self, params: nst.Params, content: Any, style: Any, size: str) -> Painted:
        """Paint a pair of pictures; both have their longer side as `size` says, such as `long:256`.

        The facts say with which updates, by which commit, on which machine and how precisely it was
        painted, and in which time. The processor's seconds, of all its cores together, are those of the
        whole call. They depend less on what else the machine does than the seconds that pass.

        Raises:
          ValueError: if the losses stop being finite.
        """
        begin, before = time.perf_counter(), time.process_time()
        if self.recipe is None:
            image = np.asarray(nst.instant(content, style, size=size))
            updates, loss = 0, None
        else:
            shots = nst.paint(
                params, content, style, recipe=self.recipe, size=size, style_size=size
            )
            last = shots.finish()
            image, updates, loss = np.asarray(last.image), last.step, float(last.losses.total)
            if not math.isfinite(loss):
                raise ValueError(
                    f"the losses of {self.name} stopped being finite within {updates} updates, so "
                    "there is no picture to rate; its settings may be for another size"
                )
        facts = {
            "updates": updates,
            "final_loss": loss,
            "seconds": harness.spread([time.perf_counter() - begin]),
            "processor_seconds": round(time.process_time() - before, 2),
            "precision": self.precision,
        }
        return Painted(image, facts | _machine())

    @property
    def precision(self) -> str:
        """The precision in which the default device computes."""
        # `instant` computes as a network does that leaves the choice to the platform.
        network = nst.vgg.Network() if self.recipe is None else self.recipe.network
        return network.precision_on(jax.default_backend()).name

    @property
    def biased_raters(self) -> dict[str, str]:
        """The raters that favour the contestant, with reasons; see `nst.raters.biased_raters`."""
        if self.recipe is None:
            return {"style_vector": "it paints by the very vector"}
        return nst.raters.biased_raters(self.recipe)


class PasticheCommand(Contestant):
    """The command `pastiche`, with its own settings except for the size and, perhaps, the updates.

    Its recipe is ours of that name, which minimises the same loss.
    """

    def warm_up(self, params: nst.Params, content: Any, style: Any, size: str) -> None:
        """Check that the command is there, and that the device is a CPU; it compiles nothing.

        Raises:
          ValueError: if it is not installed, or for another device, which the command might not use.
        """
        if jax.default_backend() != "cpu":
            raise ValueError(f"`recipe`: {COMMAND} is measured on CPUs only; set JAX_PLATFORMS=cpu")
        if pastiche.command() is None:
            raise ValueError(
                f"`recipe`: {COMMAND} needs the command of pastiche; name it by the environment "
                f"variable {pastiche.VARIABLE}"
            )

    def paint(self, params: nst.Params, content: Any, style: Any, size: str) -> Painted:
        """Let the command paint the pictures, which it gets as PNG files.

        Its seconds are those from the start of its process to the end.
        """
        program = pastiche.command()
        assert program is not None
        steps, side = sum(self.updates_by_scale(content, size)), max(canvas(content, size))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = folder / "content.png", folder / "style.png"
            for file, image in zip(files, (content, style), strict=True):
                nst.images.save(file, image)
            run = pastiche.run(program, files, side, steps, folder)
            image = nst.images.load(run.picture)
        facts = {
            "updates": steps,
            "final_loss": run.printed[-1][-1],
            "seconds": harness.spread([run.seconds]),
            "processor_seconds": round(run.processor_seconds, 2),
            "precision": self.precision,
            "program": run.version,
        }
        return Painted(image, facts | _machine())

    @property
    def precision(self) -> str:
        """The precision in which the command computes on a CPU, the one device that is measured."""
        return "float32"


class SourceLoop(Contestant):
    """The loop of the source of our recipe `crowsonkb`, in PyTorch; see `torch_crowsonkb`.

    Its recipe is ours, whose numbers it takes.
    """

    def warm_up(self, params: nst.Params, content: Any, style: Any, size: str) -> None:
        """Paint one update at each scale.

        Raises:
          ValueError: if torch is not installed.
        """
        if not pytorch.has_torch():
            raise ValueError(f"`recipe`: {SOURCE_LOOP} needs torch, which is not installed")
        scales = self.updates_by_scale(content, size)
        self.with_updates(len(scales)).paint(params, content, style, size)

    def paint(self, params: nst.Params, content: Any, style: Any, size: str) -> Painted:
        """Paint by torch's loop, in float32; arguments, facts and errors as for a recipe."""
        from benchmarks import torch_crowsonkb  # needs torch, an optional dependency

        assert self.recipe is not None
        begin, before = time.perf_counter(), time.process_time()
        shape, resized = canvas(content, size), nst.images.on_host.at_scale_on_host
        scales = torch_crowsonkb.scales_of(
            self.recipe, resized(content, shape), resized(style, canvas(style, size))
        )
        found = torch_crowsonkb.Painter(params, self.recipe).paint(scales)
        loss = float(found.losses[-1])
        if not math.isfinite(loss):
            raise ValueError(f"the losses of {self.name} stopped being finite")
        facts = {
            "updates": len(found.losses) - 1,
            "final_loss": loss,
            "seconds": harness.spread([time.perf_counter() - begin]),
            "processor_seconds": round(time.process_time() - before, 2),
            "precision": self.precision,
        }
        return Painted(found.image, facts | _machine("torch"))

    @property
    def precision(self) -> str:
        """The precision of torch's convolutions on the default device."""
        return "float32" if jax.default_backend() == "cpu" else "tensorfloat32"


@functools.cache
def _machine(*packages: str) -> dict[str, Any]:
    return {
        "commit": harness.source()["commit"],
        "device": harness.device(),
        "versions": harness.versions(packages),
    }


def canvas(content: Any, size: str) -> tuple[int, int]:
    """Return the (height, width) of the canvas for a content; `size` is such as `long:256`."""
    sizes = nst.recipes.sizes
    return sizes.with_size(sizes.LongEdge(), size).shape(*content.shape[:2])


def own_and_clock(name: str) -> tuple[str, str | None]:
    """Return a contestant's plain name, and that of the contestant in whose time it paints, or None.

    Example:
      >>> own_and_clock("crowsonkb@default-time"), own_and_clock("gram@30")
      (('crowsonkb', 'default'), ('gram@30', None))
    """
    match = IN_TIME.fullmatch(name)
    return (match["own"], match["clock"]) if match else (name, None)


def contestant(text: str, steps: int = 0) -> Contestant:
    """Return the contestant of a name; `steps` replaces a recipe's number of updates unless it is 0.

    Raises:
      ValueError: for a name that is neither `instant`, `pastiche-command`, `crowsonkb-pytorch` nor
        that of a recipe; and for one that is to paint in the time of another, if its number of updates
        cannot be chosen.
    """
    own, clock = own_and_clock(text)
    if clock is not None:
        plain = contestant(own)
        if plain.recipe is None or re.search("@[0-9]", own):
            why = "is a single pass" if plain.recipe is None else "has a number of updates already"
            raise ValueError(
                f"`equal_time`: {own} {why}, so none can be chosen that takes the time of {clock}; "
                "leave it out, or name a recipe without a number"
            )
        return plain._replace(name=text, clock=contestant(clock).name)
    if text == INSTANT:
        return Contestant(text, None)
    if text == COMMAND:
        recipe = nst.recipes.named("pastiche").replace(steps=steps or pastiche.STEPS)
        return PasticheCommand(text, recipe)
    if text == SOURCE_LOOP:
        recipe = nst.recipes.named("crowsonkb")
        return SourceLoop(text, recipe.replace(steps=steps) if steps else recipe)
    match = RULE.fullmatch(text)
    if match is None:
        raise ValueError(
            "`recipe`: expected a recipe, perhaps with a factor of its style weight or a number of "
            f"updates, such as gram, gram@style3 or gram@30, or `{INSTANT}`, `{COMMAND}` or "
            f"`{SOURCE_LOOP}`; got {text!r}"
        )
    recipe = nst.recipes.named(match["recipe"])
    if match["factor"]:
        recipe = recipe.replace(style_weight=recipe.terms.style_weight * float(match["factor"]))
    updates = int(match["updates"] or steps)
    return Contestant(text, recipe.replace(steps=updates) if updates else recipe)


def found(name: str, folder: Path | None) -> Any:
    """Return the picture of a name: a sample, or else a file in `folder`, named without its suffix.

    Raises:
      ValueError: if there is no such picture; the message lists those that there are.
    """
    files = nst.images.folders.pictures_in(folder, argument="pictures") if folder else []
    by_name = {path.stem: path for path in files} | nst.images.SAMPLES
    if name not in by_name:
        raise ValueError(f"`pair`: no picture {name!r}; there are {', '.join(sorted(by_name))}")
    return nst.images.load(by_name[name])


def digest(image: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a picture's 8-bit pixels."""
    return hashlib.sha256(nst.images.to_uint8(image).tobytes()).hexdigest()[:16]


def digests(pair: Pair, folder: Path | None) -> dict[str, str]:
    """Return the digests of content and style by their names, as loaded: not cropped, not resized."""
    return {name: digest(found(name, folder)) for name in pair}


def pair_of(text: str) -> Pair:
    """Return the pair that `CONTENT:STYLE` names.

    Raises:
      ValueError: for a text of another form.
    """
    content, colon, style = text.partition(":")
    if not (content and colon and style) or ":" in style:
        raise ValueError(f"`pair`: expected CONTENT:STYLE, such as chelsea:gravel, got {text!r}")
    return content, style


def ratio_of(text: str) -> tuple[int, int]:
    """Return the (width, height) of a ratio such as `4:3`.

    Raises:
      ValueError: for a text of another form.
    """
    match = RATIO.fullmatch(text)
    if match is None:
        raise ValueError(f"`crop`: expected WIDTH:HEIGHT, such as 4:3, got {text!r}")
    return int(match["width"]), int(match["height"])


def prepared(image: Any, size: int, crop: str | None) -> Any:
    """Return a picture as contestants are given it.

    Args:
      image: [h, w, 3] in [0, 1].
      size: longer side of the canvas, in pixels.
      crop: the ratio of sides, such as `4:3`, of the part in the middle that is kept. That part is
        resized to the canvas, in NumPy. So pictures of all shapes have one shape in the end, for which
        programs are compiled once. None leaves the picture as it is.
    """
    if crop is None:
        return image
    width, height = ratio_of(crop)
    shape = nst.recipes.sizes.LongEdge(size).shape(height, width)
    return nst.images.on_host.at_scale_on_host(part(image, shape), shape)


class Gallery:
    """A folder of painted pictures, each with the facts of how it was painted.

    Attributes:
      folder: where they are kept; it is made when the first one is.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, pair: Pair, size: int, name: str) -> Path:
        """Return the path of the picture of a pair by a contestant of this name."""
        content, style = pair
        return self.folder / f"{content}--{style}--{size}--{name}.png"

    def names(self, pair: Pair, size: int) -> list[str]:
        """Return the names of the contestants whose pictures of a pair are kept."""
        start = self.path(pair, size, "").stem
        return sorted(path.stem.removeprefix(start) for path in self.folder.glob(f"{start}*.png"))

    def pairs(self, size: int) -> list[Pair]:
        """Return the pairs of which there are pictures of this size."""
        found = [path.stem.split("--") for path in sorted(self.folder.glob("*--*--*--*.png"))]
        return list(dict.fromkeys((one[0], one[1]) for one in found if one[2] == str(size)))

    def get(self, pair: Pair, size: int, name: str) -> Painted | None:
        """Return a kept picture, or None."""
        path = self.path(pair, size, name)
        facts = path.with_suffix(".json")
        if not facts.exists():  # it is written last
            return None
        return Painted(nst.images.load(path), json.loads(facts.read_text("utf-8")))

    def put(self, pair: Pair, size: int, name: str, painted: Painted) -> None:
        """Keep a picture."""
        path = self.path(pair, size, name)
        self.folder.mkdir(parents=True, exist_ok=True)
        nst.images.save(path, painted.image)
        self.put_facts(pair, size, name, painted.facts)

    def put_facts(self, pair: Pair, size: int, name: str, facts: dict[str, Any]) -> None:
        """Replace the facts of a kept picture. Other processes read the old ones or the new ones."""
        path = self.path(pair, size, name).with_suffix(".json")
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        part.replace(path)


def as_saved(image: Any) -> Any:
    """Return an image rounded to 8 bits, as a picture file has it.

    Raters of artefacts see the rounding, so pictures that are compared are all rounded.
    """
    return np.asarray(np.round(np.asarray(image) * 255) / 255, np.float32)


def anchors(content: Any, style: Any, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the content, and a part of the style with the shape of the canvas, at its size.

    The part is the style itself if that has the shape of the canvas.
    """
    resized = nst.recipes.filters.antialiased
    name = "the style itself" if style.shape[:2] == tuple(shape) else "a part of the style"
    return {
        "the content itself": as_saved(resized(content, shape)),
        name: as_saved(resized(part(style, shape), shape)),
    }


def part(image: Any, shape: Sequence[int]) -> Any:
    """Return the largest part in the middle of an image whose sides have the ratio of `shape`."""
    factor = min(have / want for have, want in zip(image.shape, shape, strict=False))
    height, width = (round(side * factor) for side in shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
