"""What a run will need: `plan`, lines before a run, refusals, and running out of memory."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import canvas, planned_batches, planned_painting, recipes, run_scales
from nst_jax.app import cache, chosen_options, cli, declarations, formatting, rates, timing
from nst_jax.app import plan_report as words_of
from nst_jax.app.options import shared
from nst_jax.recipes import sizes
from nst_jax.scaling import capacity, plan, sharding, tile_choice
from nst_jax.scaling.operations import scale_operations, update_operations
from tests import small

TINY = replace(
    small.shallow(recipes.TF, steps=3),
    name="tiny",
    pictures=recipes.Pictures(size=sizes.LongEdge(40)),
)
PAIR = ("photo.png", "art.png")
RUN = ("stylize", *PAIR, "--recipe", "tiny", "-o", "out.png")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, "tiny", TINY)
    rng = np.random.default_rng(0)
    for name, shape in {"photo": (45, 60, 3), "art": (50, 50, 3)}.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(f"{name}.png")


@pytest.fixture
def call(capsys):
    """Run the command line in this process; return exit code, standard output, standard error."""

    def run(*argv):
        code = cli.main([str(word) for word in argv])
        return code, *capsys.readouterr()

    return run


def child(script, *words, **environment):
    """Run a script in another process, whose environment says nothing of a GPU's memory or of logs."""
    ours = ("XLA_PYTHON_CLIENT_", shared.XLA_LOGS)  # jax sets the latter in this process
    clean = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    clean["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    argv = [sys.executable, "-c", script, *words]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env=clean | environment
    )


@pytest.fixture
def little(monkeypatch):
    """Return a function that sets how many bytes of memory are available."""

    def limit(there):
        monkeypatch.setattr(capacity, "available", lambda device=None: there)

    return limit


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keep what runs leave for the next start in a folder of the test's."""
    monkeypatch.setattr(cache, "programs_folder", lambda: tmp_path / "programs")
    monkeypatch.setattr(rates, "LEAST_SECONDS", 0.0)


# --- The command `plan` ---------------------------------------------------------------------------


def test_a_plan_adds_up_and_paints_nothing(call, compilations):
    before, files = compilations(), sorted(os.listdir())
    code, out, err = call("plan", *PAIR, "--recipe", "tiny")
    assert code == 0 and err == ""
    assert compilations() == before and sorted(os.listdir()) == files
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["size"] == "40x30 px" and lines["styles"] == "40x40 px"
    assert lines["updates"] == "3" and lines["computed"] == "all at once"
    parts = [float(lines[part].split()[0]) for part in words_of.PARTS]
    assert float(lines["total"].split()[0]) == pytest.approx(sum(parts), abs=0.3)
    assert "is available" in lines["total"]


def test_a_plan_as_json_is_what_the_estimate_says(call):
    words = ("--shape", "640x400", "--recipe", "tf", "--steps", 7, "--tile", "off", "--json")
    code, out, _ = call("plan", *words)
    assert code == 0
    told, footprint = json.loads(out), nst.estimate_memory((400, 640), recipe=recipes.TF)
    assert told["memory"]["total"] == footprint.total
    assert told["memory"]["activations"] == footprint.activations
    assert told["scales"] == [{"size": [640, 400], "style_sizes": [[640, 400]], "steps": 7}]
    assert told["updates"] == 7 and told["seconds"] is None and told["runs_timed"] == 0
    assert told["tile"] == 0 and told["memory"]["fits"] is True


def test_tiles_are_picked_for_the_memory_that_is_named(call):
    code, out, _ = call("plan", "--shape", "4096x3072", "--memory", "10GB")
    assert code == 0
    found = re.search(
        r"^computed +in tiles of (\d+) px \((.+) GB otherwise, and 8\.3 GB", out, re.M
    )
    plain = nst.estimate_memory((3072, 4096), platform="cpu").total
    assert float(found[2]) == pytest.approx(plain / 1e9, abs=0.06)
    cut = replace(recipes.DEFAULT.network, tile=int(found[1]))
    taken = nst.estimate_memory(
        (3072, 4096), recipe=replace(recipes.DEFAULT, network=cut), platform="cpu"
    )
    assert taken.total * capacity.MARGIN <= 10e9


def test_another_device_is_planned_for_as_far_as_it_is_known(call):
    words = ("--shape", "4096x3072", "--platform", "gpu", "--precision", "auto", "--json")
    told = json.loads(call("plan", *words)[1])
    assert told["precision"] == "bfloat16" and told["device"]["platform"] == "gpu"
    assert told["memory"]["available"] is None and told["memory"]["fits"] is None
    told = json.loads(call("plan", *words, "--memory", "12GiB")[1])
    assert told["remat"] is True and told["memory"]["available"] == 12 * 2**30
    assert told["seconds"] is None


@pytest.mark.parametrize(
    ("words", "start", "more"),
    [
        ((*PAIR, "--size", "40000"), "`--size`: 40000x", "up to"),
        ((*PAIR, "--style-scale", "2000"), "`--style-scale`: 2000 makes ", "up to"),
        ((*PAIR, "--style-size", "60000"), "`--style-size`: ", "long:"),
        ((*PAIR, "--size", "40000", "--tile", "512"), "`--size`: resizing", "a smaller one"),
        (("--shape", "60000x60000"), "`--shape`: 60000x60000 px takes", "up to"),
        (("--shape", "2048x2048", "--bucket", "2048"), "`--bucket`: ", "bucket and `--shape`"),
    ],
)
def test_what_is_too_large_is_named_by_what_makes_it_large(call, words, start, more):
    memory = ("--memory", "4GB", "--platform", "cpu")
    code, _, told = call("plan", *words, *memory)
    assert code == 2 and told.startswith(f"nst-jax: error: {start}") and more in told
    assert told.count("\n") == 1 and "with another program" not in told


def test_a_size_that_fits_by_the_message_can_be_planned(call):
    memory = ("--memory", "4GB", "--platform", "cpu")
    told = call("plan", *PAIR, "--size", "40000", *memory)[2]
    longer = max(map(int, re.search(r"up to (\d+)x(\d+) px fits", told).groups()))
    assert call("plan", *PAIR, "--size", longer, *memory)[0] == 0


REFUSED = {
    "nothing": ([], "`CONTENT`", "--shape"),
    "no style": (["photo.png"], "`STYLE`", "is missing"),
    "both": ([*PAIR, "--shape", "64x64"], "`--shape`", "omit one"),
    "no shape": (["--shape", "512"], "`--shape`", "WIDTHxHEIGHT", "'512'"),
    "small": (["--shape", "8x64"], "16 px"),
    "size too": (["--shape", "64x64", "--size", "32"], "`--size`", "omit this one"),
    "bare memory": (["--shape", "64x64", "--memory", "24"], "`--memory`", "24GB", "'24'"),
    "no memory": (["--shape", "64x64", "--memory", "0GB"], "`--memory`", "0GB"),
    "recipe": ([*PAIR, "--recipe", "tini"], "`--recipe`", "tiny"),
    "no file": (["none.png", "art.png"], "`CONTENT`", "none.png"),
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_plan_is_refused(call, words):
    argv, *told = words
    code, out, err = call("plan", *argv)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert all(word in err for word in told), err


def test_what_fits_in_no_way_is_refused_in_the_words_of_the_run(call, little):
    little(2 * 10**6)
    planned, run = call("plan", *RUN[1:5]), call(*RUN)
    # `plan` has not read the pictures yet, so that less is available for the run itself.
    assert re.sub(r"[\d.]+", "N", planned[2]) == re.sub(r"[\d.]+", "N", run[2])
    assert planned[:2] == run[:2]
    assert planned[0] == 2 and "up to" in planned[2] and "`--tile`" in planned[2]


@pytest.mark.parametrize(
    ("text", "number"),
    [("24GB", 24e9), ("1.5 gib", 1.5 * 2**30), ("512MB", 512e6), ("100b", 100), ("2TB", 2e12)],
)
def test_memory_is_read_with_its_unit(call, text, number):
    told = json.loads(
        call("plan", "--shape", "16x16", "--memory", text, "--tile", "off", "--json")[1]
    )
    assert told["memory"]["available"] == number


# --- Estimated seconds ----------------------------------------------------------------------------


def test_a_run_tells_how_long_the_next_will_take(call, kept):
    code, _, err = call(*RUN, "--steps", 4)
    assert code == 0 and re.search(r"^time +not known yet for runs of this kind", err, re.M), err
    told = json.loads(call("plan", *RUN[1:5], "--json")[1])
    planned = nst.plan((45, 60), (50, 50), recipe=TINY)
    found = rates.expected(planned)
    assert told["runs_timed"] == 1 and told["seconds"] == found.likely
    assert told["seconds_range"] == [found.least, found.most]
    assert told["measuring_operations"] == sum(planned.measuring_operations)
    code, _, err = call(*RUN, "--steps", 4)
    assert re.search(r"^time +about .+ s(, of which .+)?, by the last run here$", err, re.M), err
    assert rates.expected(planned).runs == 2
    assert "the last 2 runs" in call("plan", *RUN[1:5])[1]


def test_twice_the_updates_are_twice_the_seconds(monkeypatch):
    monkeypatch.setattr(rates, "_read", lambda: {rates._key(small.plan_of(TINY, (16, 16))): [1e12]})

    def planned(steps):
        return small.plan_of(TINY.replace(steps=steps), (512, 512))

    def seconds(steps):
        return rates.expected(planned(steps)).likely - measuring

    measuring = sum(planned(3).measuring_operations) / 1e12
    assert seconds(6) == pytest.approx(2 * seconds(3))
    one = update_operations((512, 512), TINY, "cpu")
    assert seconds(3) == pytest.approx(3 * one / 1e12)


def test_without_a_cache_no_time_is_promised(call):
    code, _, err = call(*RUN)
    assert code == 0 and not re.search("^time", err, re.M)


def test_time_left_knows_that_tiles_cost_more():
    shapes = (512, 512), (1024, 1024)
    scales = [run_scales.Scale(shape, (shape,), 4) for shape in shapes]
    cut = replace(recipes.DEFAULT, network=replace(recipes.DEFAULT.network, tile=512))

    def left(recipe):
        found = timing.IntervalChooser(scales, costs=scale_operations(scales, recipe, "cpu"))
        found.advance(0, 0.0)
        found.advance(1, 1.0)
        return found.range_left().most

    assert left(cut) > 1.5 * left(recipes.DEFAULT)


# --- Proposals that fit into memory ---------------------------------------------------------------


def fit(recipe, there, *, shape=(6144, 8192), platform="cpu", yielding=False):
    return plan.plan_scales(
        recipe,
        [run_scales.Scale(shape, (shape,), 1)],
        memory=there,
        platform=platform,
        may_shorten_history=yielding,
    )


def test_our_own_recipe_gives_up_pairs_last_and_as_few_as_needed():
    least = fit(recipes.DEFAULT, 10**12).untiled
    found = fit(recipes.DEFAULT, 16 * 10**9, yielding=True)
    history = tile_choice.history_of(found.recipe)
    assert found.shortens_history and tile_choice.LEAST_HISTORY <= history < 10
    assert capacity.fits(found.footprint, 16 * 10**9) and found.footprint.total < least.total
    optimizer = replace(found.recipe.descent.optimizer, history=history + 1)
    more = replace(found.recipe, descent=replace(found.recipe.descent, optimizer=optimizer))
    assert not capacity.fits(nst.estimate_memory((6144, 8192), recipe=more), 16 * 10**9)
    exact = fit(recipes.DEFAULT, 24 * 10**9, yielding=True)
    assert not exact.shortens_history and exact.recipe.network.tile > 0


@pytest.mark.parametrize(
    ("recipe", "yielding"),
    [
        (recipes.DEFAULT, False),
        (recipes.GATYS_2016, True),
        pytest.param(replace(recipes.DEFAULT, name="own"), True, marks=pytest.mark.long),
    ],
    ids=["python", "gatys-2016", "own"],
)
def test_elsewhere_pairs_are_only_proposed(recipe, yielding):
    with pytest.raises(ValueError, match=r"`size`: 8192x6144 px takes .* is available") as error:
        fit(recipe, 16 * 10**9, yielding=yielding)
    history = int(re.search(r"`descent\.optimizer\.history=(\d+)`", str(error.value))[1])
    assert "or Adam (`optimizer`)" in str(error.value)
    optimizer = replace(recipe.descent.optimizer, history=history)
    shorter = replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))
    assert fit(shorter, 16 * 10**9).recipe.network.tile > 0


def test_fewer_bits_are_proposed_where_they_would_do():
    shape = (2048, 2048)
    whole = fit(recipes.TF, 10**12, shape=shape, platform="gpu")
    least = min(
        nst.estimate_memory(shape, recipe=way, platform="gpu").total
        for way in tile_choice.memory_savers(recipes.TF, 2048, "gpu")
    )
    assert least < whole.footprint.total
    with pytest.raises(ValueError, match=r"change the result: bfloat16 \(`precision`\); to try"):
        fit(recipes.TF, round(least * capacity.MARGIN * 0.95), shape=shape, platform="gpu")


@pytest.mark.long
def test_what_was_given_up_is_said_and_kept_with_the_picture(call, little):
    shape, cut = (150, 200), replace(recipes.DEFAULT.network, tile=128)
    terms = replace(TINY.terms)
    ours = replace(recipes.DEFAULT, terms=terms, network=cut)
    short = replace(ours.descent.optimizer, history=5)
    five = replace(ours, descent=replace(ours.descent, optimizer=short, steps=1))
    little(round(capacity.MARGIN * 1.001 * nst.estimate_memory(shape, recipe=five).total))
    layers = [f"--style-layer={tap}" for tap in terms.style_taps]
    words = ("--content-layer=relu2_1", *layers, "--size", "200", "--steps", 1, "-o", "out.png")
    Image.new("RGB", (200, 150), "grey").save("photo.png")
    Image.new("RGB", (200, 150), "red").save("art.png")
    code, _, err = call("stylize", *PAIR, *words)
    assert code == 0, err
    assert "in tiles of 128 px, with a history of 5 pairs" in err
    assert "L-BFGS keeps 5 instead of 10 past updates, so the result will differ" in err
    assert nst.images.read_metadata("out.png")["settings"]["descent.optimizer.history"] == 5
    code, _, err = call("stylize", *PAIR, *words, "--checkpoint", "run.h5")
    assert code == 2 and "`--set descent.optimizer.history=5`" in err


# --- Batches and sweeps ---------------------------------------------------------------------------


@pytest.mark.long
def test_batch_and_sweep_say_what_they_take(call):
    batch = ("batch", "photo.png", "art.png", "--styles", "art.png", "-o", "out")
    code, _, err = call(*batch, "--recipe", "tiny", "--steps", 1)
    assert code == 0 and re.search(r"^memory +about [\d.]+ MB( at most)?$", err, re.M), err
    sweep = ("sweep", *PAIR, "--recipe", "tiny", "--size", 32, "--steps", 1)
    code, _, err = call(*sweep, "--tv-weight", "1,2")
    assert code == 0 and re.search(r"^memory +about [\d.]+ MB, 2 pictures at once$", err, re.M), err


def test_batch_and_sweep_refuse_what_fits_in_no_way_before_any_work(call, little):
    little(2 * 10**6)
    named = call("batch", "photo.png", "--styles", "art.png", "-o", "out", "--recipe", "tiny")
    swept = call("sweep", *PAIR, "--recipe", "tiny", "--tv-weight", "1,2")
    for code, out, err in (named, swept):
        assert code == 2 and out == "" and "`--size`" in err and "is available" in err, err
    assert not Path("out").exists()


def test_a_row_that_fits_in_no_way_fails_alone(call, little):
    rows = ["content,style,overrides", "photo.png,art.png,", "photo.png,art.png,pictures.size=AsIs"]
    Path("jobs.csv").write_text("\n".join(rows))
    Image.new("RGB", (4000, 3000)).save("photo.png")
    tile = replace(TINY, network=replace(TINY.network, tile=0))
    little(round(2 * nst.estimate_memory((50, 50), recipe=tile).total))
    code, *_ = call("batch", "jobs.csv", "-o", "out", "--recipe", "tiny", "--steps", 1, "-q")
    records = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    status = {record["row"]: record["status"] for record in records}
    assert code == 1 and sorted(status.values()) == ["done", "failed"], records
    (failed,) = [record for record in records if record["status"] == "failed"]
    assert "4000x3000 px takes" in failed["error"] and "is available" in failed["error"]


FIRST = """
import contextlib, sys
import jax
from jax._src import xla_bridge
from nst_jax.app import cli
from nst_jax.app.batch import on_ray
@contextlib.contextmanager
def joined():
    print("initialised", xla_bridge.backends_are_initialized())
    yield
on_ray.check_installed, on_ray.connected = lambda: None, joined
on_ray.platform = lambda: "gpu"
def paint(params, weights, album, display, tell):
    print("painted in", {entry.recipe.network.precision.name for entry in album.entries})
on_ray.paint_on_ray = paint
cli.main(sys.argv[1:])
"""


def test_a_leader_of_others_joins_them_before_jax_looks_at_its_own_devices():
    words = ("photo.png", "--styles", "art.png", "-o", "out", "--runner", "ray", "-q")
    done = child(FIRST, "batch", *words, "--precision", "auto")
    told = done.stdout.splitlines()
    assert told[0] == "initialised False" and told[-1] == "painted in {'bfloat16'}", done.stderr


def test_a_chunk_is_no_larger_than_memory():
    shape, options = (64, 64), {"pictures": 8, "platform": "cpu", "size": "as-is"}
    three = nst.estimate_memory(shape, pictures=3, platform="cpu").total
    memory = int(1.001 * capacity.MARGIN * three)
    found = nst.plan(shape, shape, memory=memory, chunk=8, **options)
    assert found.chunk == nst.plan(shape, shape, memory=memory, **options).chunk == 2
    assert found.fits and found.unfit_chunk == 8
    whole = found.footprint_of(8).total
    assert whole == nst.estimate_memory(shape, pictures=8, platform="cpu").total
    larger, there = formatting.amount(whole), formatting.amount(found.usable)
    said = f"2 at once (8 would take {larger}, and {there} is available)"
    assert said in words_of.memory_line(found)
    for chunk, there in ((2, memory), (8, 10**12), (None, memory)):
        found = nst.plan(shape, shape, memory=there, chunk=chunk, **options)
        assert found.chunk == (chunk or 2) and found.unfit_chunk is None
        assert f"{found.chunk} pictures at once" in words_of.memory_line(found)


# --- Running out of memory ------------------------------------------------------------------------


def exhaust(*args, **options):
    """Ask the device for four terabytes, which raises its real out-of-memory error."""
    jax.block_until_ready(jax.jit(lambda: jnp.ones(2**40, jnp.float32) * 2)())


def test_a_device_out_of_memory_says_so_in_our_words(params, content, style, monkeypatch):
    programs = planned_painting.PROGRAMS._replace(run=exhaust)
    monkeypatch.setattr(planned_painting, "PROGRAMS", programs)
    with pytest.raises(nst.OutOfMemory, match="32x24 px takes .* by estimate") as error:
        nst.stylize(params, content, style, recipe=TINY, size="as-is")
    assert isinstance(error.value, MemoryError)
    assert "RESOURCE_EXHAUSTED" in str(error.value.__cause__)


def test_many_pictures_out_of_memory_may_be_fewer(params, content, style, monkeypatch):
    monkeypatch.setattr(planned_batches, "_painted_chunk", exhaust)
    contents = jnp.stack([content, content])
    with pytest.raises(nst.OutOfMemory, match="2 pictures of 32x24 px .* `chunk` of less than 2"):
        nst.stylize_many(params, contents, style, recipe=TINY, size="as-is")


def test_an_unfinished_run_may_be_dropped_when_python_ends(params, content, style, monkeypatch):
    shots = nst.paint(params, content, style, recipe=TINY, size="as-is", every=1)
    next(shots)
    monkeypatch.setattr(capacity, "jax", None)  # as at the end of a process
    shots._snapshots.close()
    with pytest.raises(StopIteration):
        next(shots)


def test_other_errors_of_the_device_stay_what_they_are(params, content, style, monkeypatch):
    def broken(*args, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(
        planned_painting, "PROGRAMS", planned_painting.PROGRAMS._replace(run=broken)
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        nst.stylize(params, content, style, recipe=TINY, size="as-is")


def test_the_command_line_says_it_in_one_line_and_what_to_do(call, monkeypatch):
    monkeypatch.setattr(canvas, "PROGRAMS", canvas.PROGRAMS._replace(run=exhaust))
    code, _, err = call(*RUN, "-q")
    assert code == 1 and err.count("\n") == 1 and "Traceback" not in err
    assert err.startswith("nst-jax: error: `--size`: the device ran out of memory: 40x30 px takes")
    assert "choose a smaller size, a `--tile`" in err


# --- A GPU that is shared -------------------------------------------------------------------------

LISTEN = """
import os, sys, builtins
from nst_jax.app import cli
assert "jax" not in sys.modules
before, found = builtins.__import__, []
def importing(name, *rest, **options):
    if name.split(".")[0] == "jax" and not found:
        found.append({k: v for k, v in os.environ.items() if k.startswith("PREFIX")})
    return before(name, *rest, **options)
builtins.__import__ = importing
def say(code):
    builtins.print(found)
    before_exit(code)
before_exit, cli.interrupts.exit_at_once = cli.interrupts.exit_at_once, say
code = cli.main(ARGV)
builtins.print(found)
"""


def heard(argv, *words, prefix="XLA_PYTHON_CLIENT_", **environment):
    """Return what jax finds in its environment when a process of the command line imports it."""
    script = LISTEN.replace("ARGV", repr(argv)).replace("PREFIX", prefix)
    done = child(script, *(words or ("recipes", "show", "tf")), **environment)
    return done.stdout.splitlines()[-1]


def test_the_command_line_reserves_no_gpu_memory_before_jax_is_imported():
    assert heard(None) == "[{'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}]"


def test_a_users_own_setting_of_gpu_memory_takes_precedence():
    own = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".5"}
    assert heard(None, **own) == "[{'XLA_PYTHON_CLIENT_MEM_FRACTION': '.5'}]"


def test_python_callers_are_left_alone():
    assert heard(["recipes", "show", "tf"]) == "[{}]"


# --- XLA's messages -------------------------------------------------------------------------------

SHAPE = ("plan", "--shape", "32x32", "--no-cache")


@pytest.mark.parametrize(
    ("words", "own", "level"),
    [
        (SHAPE, {}, "3"),
        pytest.param(
            (*SHAPE, "--xla-logs"), {}, "0", marks=pytest.mark.long
        ),  # the last case has this flag, too
        (SHAPE, {shared.XLA_LOGS: "1"}, "1"),
        ((*SHAPE, "--xla-logs"), {shared.XLA_LOGS: "1"}, "0"),
    ],
    ids=["neither", "flag", "environment", "both"],
)
def test_the_command_line_keeps_what_xla_says_to_itself(words, own, level):
    assert (
        heard(None, *words, prefix=shared.XLA_LOGS, **own)
        == f"[{{'{shared.XLA_LOGS}': '{level}'}}]"
    )


def test_what_xla_says_to_python_callers_is_theirs_to_set():
    assert heard([*SHAPE], prefix=shared.XLA_LOGS) == "[{}]"


def test_every_command_that_compiles_can_show_what_xla_says():
    for name in ("demo", "stylize", "batch", "sweep", "plan"):
        assert "--xla-logs" in {
            word for one in declarations.cli.commands[name].params for word in one.opts
        }


def test_a_plan_for_devices_that_are_not_here(call):
    words = ("plan", "--shape", "2048x2048", "--platform", "gpu", "--json")
    one, eight = (json.loads(call(*words, "--devices", count)[1]) for count in ("1", "8"))
    assert eight["memory"]["state"] == pytest.approx(one["memory"]["state"] / 8, rel=1e-3)
    assert one["memory"]["activations"] / 8 < eight["memory"]["activations"]
    assert eight["memory"]["activations"] < one["memory"]["activations"] / 3
    # The halo is computed as well.
    assert one["operations"] / 8 < eight["operations"] < one["operations"] / 3
    code, _, told = call("plan", "--shape", "64x64", "--devices", "5")
    assert code == 2
    assert "`--devices`: 5 are too many for a picture 64 px high" in told


def test_the_command_shares_a_picture_between_devices(call):
    code, _, told = call(*RUN, "--devices", "2")
    assert code == 0, told
    assert "2 devices, 16 rows each or fewer" in told
    assert "on each" in told
    with Image.open("out.png") as split:
        split = np.asarray(split, int)
    assert call(*RUN, "--overwrite")[0] == 0
    with Image.open("out.png") as one:
        assert np.abs(np.asarray(one, int) - split).max() <= 1


@pytest.mark.slow
def test_devices_of_a_batch_are_grouped_by_bands(call):
    words = ("batch", "photo.png", "--styles", "art.png", "-o", "out", "--recipe", "tiny")
    code, _, told = call(*words, "--devices", "2", "--bands", "2")
    assert code == 0, told
    assert Path("out/photo_art.png").exists()
    code, _, told = call(*words, "--bands", "2")
    assert code == 2
    assert (
        "`--bands`: 1 device cannot be divided into groups of 2; set `--devices` to a mul" in told
    )


def test_a_picture_too_low_for_the_devices_of_its_rows_fails_alone(call):
    Path("photos").mkdir()
    Path("photo.png").rename("photos/high.png")
    Image.fromarray(np.zeros((16, 60, 3), np.uint8)).save("photos/low.png")
    words = ("batch", "photos", "--styles", "art.png", "-o", "out", "--recipe", "tiny")
    words += ("--size", "as-is", "--devices", "2", "--bands", "2")
    code, _, told = call(*words)
    assert code == 1, told
    assert "low_art.png: `--bands`: 2 are too many for a picture 16 px high" in told
    assert [path.name for path in Path("out").glob("*.png")] == ["high_art.png"]


def test_what_only_several_devices_hold_is_not_refused(little, monkeypatch):
    scale = run_scales.Scale((64, 48), ((32, 32),), 3)
    one = capacity.footprint_at(TINY, scale, "gpu")
    mesh = sharding.mesh_of_batch(2, 2)
    shared = capacity.footprint_at(TINY, scale, "gpu", devices=2)
    assert shared.total < one.total
    recipe = replace(TINY, network=replace(TINY.network, tile=None))
    monkeypatch.setattr(capacity, "platform_of", lambda device=None: "gpu")
    whole = replace(TINY, network=replace(TINY.network, tile=0))
    monkeypatch.setattr(tile_choice, "memory_savers", lambda recipe, *rest: [whole])
    little(round((one.total + shared.total) * capacity.MARGIN / 2))
    plan.plan_scales(recipe, [scale], mesh=mesh)
    with pytest.raises(ValueError, match="is available"):
        plan.plan_scales(recipe, [scale])


def test_a_plan_over_devices_is_what_each_has(call):
    words = ("plan", "--shape", "512x512", "--recipe", "tf", "--tile", "off")
    (_, one, _), (_, shared, _) = (call(*words, *more, "--json") for more in ((), ("--devices", 4)))
    one, shared = json.loads(one), json.loads(shared)
    assert (one["devices"], shared["devices"]) == (1, 4)
    assert shared["memory"]["total"] < one["memory"]["total"]
    # A processor's devices share what there is.
    assert shared["memory"]["available"] == pytest.approx(one["memory"]["available"] / 4, rel=0.2)
    _, told, _ = call(*words, "--devices", 4)
    assert re.search(r"^bands +on 4 devices; what follows is of each$", told, re.M)


def test_ray_takes_neither_devices_nor_bands():
    for name, value in (("devices", 2), ("bands", 2)):
        with pytest.raises(ValueError, match=f"`{name}`: Ray gives each device"):
            chosen_options.check_devices(
                {"runner": "ray", "devices": None, "bands": 1} | {name: value}
            )
