"""Programs that the command line keeps between its starts, or compiles ahead of their use."""

import functools
import json
import threading
import time
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import nst_jax as nst
from nst_jax import (
    _compile,
    batch_canvas,
    batch_members,
    canvas,
    descent,
    losses,
    measuring,
    optimizers,
    planned_painting,
    recipes,
    run_scales,
    style_statistics,
    targets,
)
from nst_jax.app import cache, kept_function, program_keys, programs, sealed_files
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.timing import CompileClock
from nst_jax.controls.color import luminance
from nst_jax.controls.given import BatchControls
from nst_jax.images.oklab import oklab_of_linear
from nst_jax.scaling import bands, capacity
from tests import small
from tests.shell import caller, write_pictures
from tests.test_cli import SCALED

pytestmark = pytest.mark.optimized


def coarse_to_fine(tap):
    """Return a recipe of two scales that needs one convolution."""
    recipe = small.shallow(
        steps=4,
        content_taps=(tap,),
        style_taps=(tap,),
        style_layer_weights=(1.0,),
    )
    descent = replace(
        recipe.descent,
        schedule=recipes.CoarseToFine(smallest=16),
        optimizer=optimizers.KerasAdam(learning_rate=0.01),
    )
    return replace(recipe, descent=descent)


COARSE_TO_FINE = coarse_to_fine("relu1_1")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Foreign(optimizers.Adam):
    """A rule that is not this package's."""


@pytest.fixture(scope="module")
def content():
    return small.picture("chelsea", 32, 40)


def kept(place, say=lambda line: None):
    """Return the programs of a new start."""
    return programs.kept_in(place, say)


def shots(params, content, style, recipe, **how):
    options = {"init": None, "key": None, "every": 2, **how}
    plan = nst.plan(content, style, recipe=recipe)
    return list(planned_painting.paint_planned(params, content, style, plan, **options))


def files(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def count_traces(monkeypatch):
    """Return a list that grows whenever something is measured by being traced."""
    traced = []
    measure = style_statistics.sum_style

    def counted(*arguments):
        traced.append(1)
        return measure(*arguments)

    functools.update_wrapper(counted, measure)
    monkeypatch.setattr(style_statistics, "sum_style", counted)
    monkeypatch.setattr(programs, "sum_style", counted)
    return traced


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


# --- Programs that are kept on disk ---------------------------------------------------------------


def test_a_second_start_traces_nothing_and_gives_the_same_bits(
    params, content, style, tmp_path, monkeypatch
):
    recipe = replace(
        COARSE_TO_FINE, descent=replace(COARSE_TO_FINE.descent, schedule=recipes.OneScale())
    )
    plain = shots(params, content, style, recipe)
    traced = count_traces(monkeypatch)
    first = shots(params, content, style, recipe, programs=kept(tmp_path))
    assert len(traced) == 1
    whole = files(tmp_path)
    assert sorted(name.split("-")[0] for name in whole) == ["measure_content", "run", "sum_style"]
    second = shots(params, content, style, recipe, programs=kept(tmp_path))
    assert len(traced) == 1 and files(tmp_path) == whole
    assert_same(first, plain)
    assert_same(second, plain)


def painted_many(params, contents, style, recipe, begin=None, **how):
    """Return the results of pictures that are painted together, as `BatchCanvas` paints a chunk."""
    members = batch_members.members_of(
        contents, [[style]], recipe, init=None, given=BatchControls(), on_host=False
    )
    plan = nst.plan(contents[0], style, recipe=recipe, pictures=len(contents), chunk=len(contents))
    weights = batch_canvas.BatchWeights.of(params, plan)
    chunk = batch_canvas.BatchCanvas(weights, plan, members, None, **how)
    ahead = None if begin is None else functools.partial(chunk.begin_next, begin)
    positions = list(descent.descend(chunk, plan.scales, descent.intervals_of(2), ahead=ahead))
    return chunk.results(positions[-1].state)


@pytest.mark.long
def test_a_second_start_of_a_batch_traces_nothing_and_gives_the_same_bits(
    params, content, style, tmp_path, monkeypatch
):
    """The kept programs of a second start are found though tracing anything would now fail."""
    contents = [content, content[::-1]]
    plain = painted_many(params, contents, style, COARSE_TO_FINE)
    first = painted_many(
        params, contents, style, COARSE_TO_FINE, programs=programs.batch_kept_in(tmp_path)
    )
    whole = files(tmp_path)
    names = sorted(name.split("-")[0] for name in whole)
    assert names == sorted(["measure_content", "run_many", "sum_style"] * 2)  # two scales
    second = programs.batch_kept_in(tmp_path)

    def refuse(*arguments, **named):
        raise AssertionError("a program was traced again")

    monkeypatch.setattr(kept_function.Kept, "_exported", refuse)
    again = painted_many(params, contents, style, COARSE_TO_FINE, programs=second)
    assert files(tmp_path) == whole
    for found in (first, again):
        assert_same(found[0], plain[0])
        assert_same(found[1], plain[1])


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (("batch", "photo.png", "--styles", "art.png", "-o", "{}"), "{}/photo_art.png"),
        pytest.param(
            ("sweep", "photo.png", "art.png", "--style-weight", "1,2", "-o", "{}.png"),
            "{}.png",
            marks=pytest.mark.long,  # it paints by the programs of a batch
        ),
    ],
    ids=["batch", "sweep"],
)
def test_a_second_batch_or_sweep_traces_nothing_and_prepares_the_next_scale(
    command, result, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, SCALED.name, SCALED)
    write_pictures(photo=(45, 60), art=(50, 50))
    monkeypatch.setattr(programs, "programs_folder", lambda: tmp_path / "programs")
    begun, begin = [], Ahead.begin
    monkeypatch.setattr(Ahead, "begin", lambda self, work: begun.append(work) or begin(self, work))

    def painted(name):
        words = [word.format(name) for word in command]
        code, _, error = caller(capsys)(*words, "--recipe", SCALED.name)
        assert code == 0, error
        return nst.images.load(tmp_path / result.format(name))

    first = painted("one")
    assert begun  # the recipe has two scales

    def refuse(*arguments, **named):
        raise AssertionError("a program was traced again")

    monkeypatch.setattr(kept_function.Kept, "_exported", refuse)
    np.testing.assert_array_equal(painted("two"), first)


@pytest.fixture
def grey():
    return jnp.full((16, 16, 3), 0.5)


@pytest.fixture
def measured(params, grey, tmp_path, monkeypatch):
    """Measure something once, as a first start would; return how to do it again, and the traces."""
    traced = count_traces(monkeypatch)

    def again(recipe=COARSE_TO_FINE, say=pytest.fail):
        core = recipes.as_arrays(recipe.bare())
        return kept(tmp_path, say).measuring.sum_style(params, grey, core)

    again()
    assert len(traced) == 1
    return again, traced


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-9] + b"nonsense!"]
)
def test_a_damaged_file_is_made_again(measured, tmp_path, damage):
    again, traced = measured
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    said: list[str] = []
    again(say=said.append)
    assert said == [f"note: the kept program '{path}' was damaged; it is deleted and made again"]
    assert len(traced) == 2 and path.read_bytes()[-1000:] == whole[-1000:]
    again()
    assert len(traced) == 2


def test_a_file_under_another_name_is_not_believed(measured, tmp_path):
    again, traced = measured
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    again(replace(COARSE_TO_FINE, network=nst.vgg.Network(pool=nst.vgg.layers.average_pool)))
    (other,) = set(tmp_path.iterdir()) - {path}
    other.write_bytes(whole)
    said: list[str] = []
    pooled = replace(COARSE_TO_FINE, network=nst.vgg.Network(pool=nst.vgg.layers.average_pool))
    again(pooled, say=said.append)
    assert len(said) == 1 and len(traced) == 3 and other.read_bytes() != whole


@pytest.mark.parametrize("what", ["code", "jax", "setting"])
def test_another_version_or_setting_finds_nothing(measured, tmp_path, monkeypatch, what):
    again, traced = measured
    program_keys._surroundings.cache_clear()
    if what == "code":
        copy = tmp_path.with_name("elsewhere.py")
        copy.write_text("changed = True\n")
        sources = program_keys._sources()
        monkeypatch.setattr(program_keys, "_sources", lambda: [*sources, copy])
    elif what == "jax":
        monkeypatch.setattr(jax, "__version__", "0.0.1")
    precision = jax.config.jax_default_matmul_precision
    try:
        if what == "setting":
            jax.config.update("jax_default_matmul_precision", "highest")
        again()
    finally:
        jax.config.update("jax_default_matmul_precision", precision)
        program_keys._surroundings.cache_clear()
    assert len(traced) == 2 and len(files(tmp_path)) == 2


def test_functions_of_others_are_not_kept(measured, tmp_path):
    again, traced = measured

    def pool(x, ceil):
        return nst.vgg.layers.average_pool(x, ceil)

    again(replace(COARSE_TO_FINE, network=nst.vgg.Network(pool=pool)))
    assert len(traced) == 2 and len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"pool": functools.partial(nst.vgg.layers.average_pool)},
        {"pool": lambda x, ceil: nst.vgg.layers.average_pool(x, ceil)},
        {"optimizer": optimizers.Optax(optax.adam(0.01))},
        {"optimizer": Foreign()},
    ],
)
def test_what_the_key_does_not_cover_is_refused_by_name(change, grey, tmp_path):
    core = recipes.as_arrays(COARSE_TO_FINE.replace(change).bare())
    with pytest.raises(program_keys.Foreign, match=r"average_pool|<lambda>|adam|optax|Foreign"):
        kept(tmp_path).measuring.sum_style._key((core,))


def test_a_folder_that_cannot_be_written_costs_only_time(params, grey, tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    core = recipes.as_arrays(COARSE_TO_FINE.bare())
    found = kept(place).measuring.measure_content(params, grey, core)
    assert_same([found], [jax.jit(targets.measure_content)(params, grey, core)])
    assert place.read_text() == ""


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_every_preset_can_be_kept(name, grey):
    core = recipes.as_arrays(recipes.PRESETS[name].bare())
    state = jax.eval_shape(nst.init, grey, core)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    assert kept_function.Kept(nst.run, None)._key((state, core))


def test_the_state_of_every_rule_can_be_kept(grey, tmp_path):
    for rule in optimizers.OPTIMIZERS.values():
        core = replace(COARSE_TO_FINE, descent=replace(COARSE_TO_FINE.descent, optimizer=rule()))
        state = nst.init(grey, recipes.as_arrays(core.bare()))
        for _ in range(2):
            again = kept_function.Kept(bands.constrained, tmp_path)(state, None)
            assert_same([again], [state])
    assert len(files(tmp_path)) == len(optimizers.OPTIMIZERS)


def test_a_kept_program_may_return_nan_while_jax_checks_for_it(grey, tmp_path):
    state = nst.init(grey, recipes.as_arrays(COARSE_TO_FINE.bare()))
    with jax.debug_nans(True):
        again = kept_function.Kept(bands.constrained, tmp_path)(state, None)
    assert np.isnan(again.losses.total)


def test_traced_programs_lie_in_jaxs_folder(tmp_path, settings):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert cache.programs_folder() is None  # switched off, as all tests are
    jax.config.update("jax_enable_compilation_cache", True)
    assert cache.programs_folder() == tmp_path / "nst_jax"
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/programs")
    assert cache.programs_folder() is None
    assert programs.kept_in(None) is planned_painting.PROGRAMS


# --- Programs that are compiled ahead of use ------------------------------------------------------


def test_what_is_begun_ahead_compiles_all_that_the_next_scale_needs(
    params, content, style, compilations
):
    recipe = coarse_to_fine("preact1_1")
    between = []

    def begin(work):
        def result():
            made = work()
            between.append(compilations())
            return made

        return result

    ahead = shots(params, content, style, recipe, begin=begin)
    assert compilations() == between[-1]
    assert len(between) == 1
    assert_same(ahead, shots(params, content, style, recipe))


def test_what_a_batch_begins_ahead_compiles_all_that_its_next_scale_needs(
    params, content, style, compilations
):
    recipe, between = coarse_to_fine("preact1_2"), []

    def begin(work):
        def result():
            made = work()
            between.append(compilations())
            return made

        return result

    def last_updates(*arguments):
        # What is made of the results at the end, after all updates, is compiled in its turn.
        between.append(compilations())
        return results(*arguments)

    results = batch_canvas.BatchCanvas.results
    contents = [content, content[::-1]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_canvas.BatchCanvas, "results", last_updates)
        ahead = painted_many(params, contents, style, recipe, begin=begin)
    assert len(between) == 2 and between[0] == between[1]
    plain = painted_many(params, contents, style, recipe)
    assert_same(ahead[0], plain[0])
    assert_same(ahead[1], plain[1])


def test_a_batch_begins_nothing_ahead_where_memory_does_not_hold_both(
    params, content, style, monkeypatch
):
    recipe = replace(COARSE_TO_FINE, network=replace(COARSE_TO_FINE.network, tile=0))
    scales = run_scales.scales_up_to(content.shape[:2], [style.shape[:2]], recipe)
    both = sum(capacity.footprint_at(recipe, one, "cpu", pictures=2).total for one in scales)
    both = round(both * capacity.MARGIN)
    for there, times in ((both - 9, 0), (both + 9, 1)):
        monkeypatch.setattr(capacity, "available", lambda device=None, there=there: there)
        begun: list = []
        painted_many(
            params,
            [content, content[::-1]],
            style,
            recipe,
            begin=lambda w, begun=begun: begun.append(w) or w,
        )
        assert len(begun) == times


def test_nothing_is_begun_ahead_where_memory_does_not_hold_both(
    params, content, style, monkeypatch
):
    recipe = replace(COARSE_TO_FINE, network=replace(COARSE_TO_FINE.network, tile=0))
    scales = run_scales.scales_up_to(content.shape[:2], [style.shape[:2]], recipe)
    both = sum(capacity.footprint_at(recipe, scale, "cpu").total for scale in scales)
    both = round(both * capacity.MARGIN)
    for there, times in ((both - 9, 0), (both + 9, 1)):
        monkeypatch.setattr(capacity, "available", lambda device=None, there=there: there)
        begun: list = []
        shots(params, content, style, recipe, begin=lambda w, begun=begun: begun.append(w) or w)
        assert len(begun) == times


def test_what_fails_ahead_fails_the_run(params, content, style):
    main = threading.get_ident()

    def failing(*arguments, **options):
        if threading.get_ident() != main:
            raise RuntimeError("no memory left")
        return measuring.PROGRAMS.sum_style(*arguments, **options)

    broken = planned_painting.PROGRAMS._replace(
        measuring=measuring.PROGRAMS._replace(sum_style=failing)
    )
    with CompileClock() as clock, Ahead(clock) as ahead:
        how = {"programs": broken, "begin": ahead.begin}
        with pytest.raises(RuntimeError, match="no memory left"):
            shots(params, content, style, COARSE_TO_FINE, **how)


def test_waiting_for_what_is_done_ahead_can_be_ended():
    released = threading.Event()

    def stop():
        raise KeyboardInterrupt

    try:
        with CompileClock() as clock, Ahead(clock) as ahead:
            result = ahead.begin(lambda: released.wait(60))
            ahead.look = stop
            with pytest.raises(KeyboardInterrupt):
                result()
            assert len(clock.waits) == 1
    finally:
        released.set()


def test_leaving_early_does_not_wait():
    released, begun = threading.Event(), threading.Event()
    later = []
    try:
        with CompileClock() as clock, Ahead(clock) as ahead:
            ahead.begin(lambda: (begun.set(), released.wait(60)))
            ahead.begin(lambda: later.append(1))
            assert begun.wait(60)
        assert not released.is_set()  # here before the work is done
    finally:
        released.set()
    ahead._pool.shutdown(wait=True)
    assert not later


# --- The first loop of updates, loaded in another thread ------------------------------------------

ONE_SCALE = replace(
    COARSE_TO_FINE, descent=replace(COARSE_TO_FINE.descent, schedule=recipes.OneScale())
)


def count_loads(monkeypatch):
    """Return a list to which each loop that is compiled or loaded adds whether the main thread did."""
    by_main, compiled = [], kept_function.Kept._compiled

    def counted(self, *arguments):
        if self._function.__name__ == "run":
            by_main.append(threading.current_thread() is threading.main_thread())
        return compiled(self, *arguments)

    monkeypatch.setattr(kept_function.Kept, "_compiled", counted)
    return by_main


def start(params, content, style, place, *, say=lambda line: None, compiled=None):
    """Paint as a new start of the command line, which works ahead; return the snapshots."""
    with CompileClock() as clock, Ahead(clock) as ahead:
        how = {"programs": compiled or kept(place, say), "begin": ahead.begin}
        return shots(params, content, style, ONE_SCALE, **how)


def test_a_second_start_loads_the_loop_in_another_thread(
    params, content, style, tmp_path, monkeypatch
):
    by_main = count_loads(monkeypatch)
    first = start(params, content, style, tmp_path)
    second = start(params, content, style, tmp_path)
    assert by_main == [True, False]
    assert_same(second, first)


def test_a_process_that_goes_on_does_not_load_the_loop_again(
    params, content, style, tmp_path, monkeypatch
):
    by_main, compiled = count_loads(monkeypatch), kept(tmp_path)
    for _ in range(2):
        start(params, content, style, tmp_path, compiled=compiled)
    assert by_main == [True]


def test_a_loop_that_was_noted_wrongly_is_not_used(params, content, style, tmp_path, monkeypatch):
    first = start(params, content, style, tmp_path)
    (note,) = (tmp_path / kept_function.NOTES).iterdir()
    right = note.read_bytes()
    wrong = json.dumps(["0" * 64, [1]]).encode()
    sealed_files.write_sealed(note, note.name, wrong)
    by_main = count_loads(monkeypatch)
    assert_same(start(params, content, style, tmp_path), first)
    assert by_main == [True]
    assert note.read_bytes() == right


def test_a_loop_that_is_damaged_is_made_again_with_one_message(params, content, style, tmp_path):
    first, said = start(params, content, style, tmp_path), []
    (path,) = tmp_path.glob("run-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert_same(start(params, content, style, tmp_path, say=said.append), first)
    assert len(said) == 1 and "was damaged" in said[0]
    assert sealed_files.read_sealed(path, path.name.removeprefix("run-")) is not None


def test_what_fails_while_the_loop_is_loaded_ahead_fails_the_run(
    params, content, style, tmp_path, monkeypatch
):
    start(params, content, style, tmp_path)

    def failing(*arguments):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(kept_function.Kept, "_loaded", failing)
    with pytest.raises(RuntimeError, match="no memory left"):
        start(params, content, style, tmp_path)


def test_for_a_chosen_default_device_nothing_is_loaded_ahead(
    params, content, style, tmp_path, monkeypatch
):
    by_main = count_loads(monkeypatch)
    with jax.default_device(jax.devices()[0]):
        for _ in range(2):
            start(params, content, style, tmp_path)
    assert by_main == [True, True]
    assert not (tmp_path / kept_function.NOTES).exists()


def test_a_run_that_is_refused_before_its_loop_leaves_nothing_for_the_next(
    params, content, style, tmp_path, monkeypatch
):
    first, compiled = start(params, content, style, tmp_path), kept(tmp_path)
    (note,) = (tmp_path / kept_function.NOTES).iterdir()
    before = note.read_bytes()

    def refused(*arguments):
        raise ValueError("too large")

    def refuse():
        with pytest.raises(ValueError, match="too large"):
            start(params, content, style, tmp_path, compiled=compiled)

    with monkeypatch.context() as patch:
        patch.setattr(planned_painting, "check_plan_fits", refused)
        refuse()
        assert compiled.run._first.noted is not None
        with jax.default_device(jax.devices()[0]):  # for this, nothing is loaded ahead or noted
            refuse()
    assert compiled.run._first is None
    assert_same(start(params, content, style, tmp_path, compiled=compiled), first)
    assert note.read_bytes() == before


def test_a_resumed_run_loads_the_loop_of_its_scale(params, content, style, tmp_path, monkeypatch):
    plan = nst.plan(content, style, recipe=COARSE_TO_FINE)

    def painting(**how):
        options = {"init": None, "key": None, "every": 1, "programs": kept(tmp_path)} | how
        return planned_painting.paint_planned(params, content, style, plan, **options)

    whole = painting()
    checkpoint = next(shot and whole.checkpoint() for shot in whole if shot.step == 3)
    assert checkpoint.scale == 1
    rest, by_main = list(whole), count_loads(monkeypatch)
    for _ in range(2):
        with CompileClock() as clock, Ahead(clock) as ahead:
            _, *resumed = painting(resume=checkpoint, begin=ahead.begin)
        assert_same([shot.image for shot in resumed], [shot.image for shot in rest])
    assert by_main == [True, False]


def test_a_thread_of_an_earlier_run_notes_nothing_for_the_next(tmp_path):
    image, kept = np.full((4, 5, 3), 0.5, np.float32), kept_function.Kept(luminance, tmp_path)
    kept.load_ahead("name", lambda: (), lambda work: work)
    other = threading.Thread(target=kept, args=(image[:, :3],))
    other.start()
    other.join()
    assert not (tmp_path / kept_function.NOTES).exists()
    kept(image)
    note = sealed_files.read_sealed(tmp_path / kept_function.NOTES / "name", "name")
    assert json.loads(note)[0] == kept._key((image,))
    kept(image[:, :3])  # only the first call of a run is noted
    assert sealed_files.read_sealed(tmp_path / kept_function.NOTES / "name", "name") == note


def test_a_loaded_program_that_the_call_does_not_need_is_dropped(tmp_path):
    image, kept = np.full((4, 5, 3), 0.5, np.float32), kept_function.Kept(luminance, tmp_path)
    kept(image)
    note = json.dumps(["0" * 64, []]).encode()
    sealed_files.write_sealed(tmp_path / kept_function.NOTES / "name", "name", note)
    kept.load_ahead("name", lambda: (), lambda work: work)
    assert kept._first.noted == "0" * 64
    kept(image)
    assert kept._first is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\0" * 99])
def test_a_note_that_is_cut_or_foreign_is_written_again(tmp_path, content):
    image, kept = np.full((4, 5, 3), 0.5, np.float32), kept_function.Kept(luminance, tmp_path)
    path = tmp_path / kept_function.NOTES / "name"
    notes = []
    for _ in range(2):
        kept.load_ahead("name", lambda: (), lambda work: work)
        assert kept._first.noted is None
        kept(image)
        notes.append(path.read_bytes())
        path.write_bytes(content)
    assert notes[0] == notes[1]


def test_notes_that_cannot_be_written_are_left_out(tmp_path):
    image, kept = np.full((4, 5, 3), 0.5, np.float32), kept_function.Kept(luminance, tmp_path)
    (tmp_path / kept_function.NOTES).write_text("a file in place of the folder")
    kept.load_ahead("name", lambda: (), lambda work: work)
    np.testing.assert_allclose(kept(image), luminance(image), rtol=1e-6)


def test_a_package_in_an_archive_has_no_keys(tmp_path, monkeypatch):
    assert program_keys.surrounded_key(ONE_SCALE.bare()) is not None
    monkeypatch.setattr(program_keys, "PACKAGE", tmp_path / "nst_jax.zip" / "nst_jax")
    assert program_keys.surrounded_key(ONE_SCALE.bare()) is None
    assert kept(tmp_path) is canvas.PROGRAMS


def placed(image):
    """Return an image in several places; only the first two are those for which programs are kept."""
    one, other = jax.devices()[:2]
    rows = PartitionSpec("rows")
    auto, explicit = (
        Mesh([one, other], ("rows",), axis_types=(kind,))
        for kind in (AxisType.Auto, AxisType.Explicit)
    )
    elsewhere = [
        SingleDeviceSharding(other),
        NamedSharding(auto, rows),
        NamedSharding(explicit, rows),
        NamedSharding(auto, PartitionSpec()),
        NamedSharding(Mesh([one], ("rows",)), rows),
        SingleDeviceSharding(one, memory_kind="unpinned_host"),
    ]
    return [image, jax.device_put(image, one), *(jax.device_put(image, to) for to in elsewhere)]


def test_a_kept_program_is_not_used_for_arrays_in_other_places(tmp_path):
    image = np.random.default_rng(0).random((4, 6, 3), np.float32)
    for order in (1, -1):
        kept = kept_function.Kept(oklab_of_linear, tmp_path / str(order))
        for each in placed(image)[::order]:
            found = kept(each)
            assert found.sharding == jax.jit(oklab_of_linear)(each).sharding
            np.testing.assert_allclose(found, oklab_of_linear(jnp.asarray(image)), atol=1e-6)
        assert len(kept._programs) == 1 == len(list((tmp_path / str(order)).iterdir()))


def test_a_kept_program_is_not_used_for_another_default_device(tmp_path):
    image, kept = np.full((4, 6, 3), 0.5, np.float32), kept_function.Kept(oklab_of_linear, tmp_path)
    for device in (*jax.devices()[:2], jax.devices()[0]):
        with jax.default_device(device):
            assert kept(image).devices() == kept(jnp.asarray(image)).devices() == {device}
    assert len(kept._programs) == 2


@pytest.mark.parametrize("name", losses.names.STATISTIC_LOSSES)
def test_what_a_style_loss_returns_can_be_kept(name):
    loss, features = (
        losses.names.STATISTIC_LOSSES[name],
        jax.ShapeDtypeStruct((4, 6, 3), jnp.float32),
    )

    def made(features):
        sums = loss.sums(features, jax.lax.Precision.HIGHEST)
        statistic = loss.statistic(sums, 24)
        return sums, statistic, loss.target(statistic)

    found = kept_function._records(jax.eval_shape(made, features))
    assert found <= set(losses.names.RECORDS)


def test_beside_an_accelerator_programs_of_the_cpu_are_exported_for_the_cpu(tmp_path, monkeypatch):
    image = np.random.default_rng(0).random((4, 5, 3), np.float32)
    kept = kept_function.Kept(luminance, tmp_path)
    # jax's default backend seems to be an accelerator: to `jax` itself, and to `jax.export`.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr("jax._src.xla_bridge.default_backend", lambda: "cuda")
    with jax.default_device(jax.devices()[1]):
        found = kept(image)
    assert found.devices() == {jax.devices()[1]}
    np.testing.assert_allclose(found, luminance(image), rtol=1e-6)
    (path,) = tmp_path.iterdir()
    key = path.name.removeprefix("luminance-")
    exported = export.deserialize(bytearray(sealed_files.read_sealed(path, key)))
    assert exported.platforms == ("cpu",)


def test_of_many_shapes_the_programs_used_last_stay_in_memory(tmp_path, monkeypatch, compilations):
    monkeypatch.setattr(_compile, "_programs_in_memory", 2)
    kept = kept_function.Kept(luminance, tmp_path)
    images = {width: np.full((4, width, 3), 0.5, np.float32) for width in (5, 6, 7)}
    expected = {width: luminance(image) for width, image in images.items()}

    def alive():
        found = jax.local_devices()[0].client.live_executables()
        return sum(each.hlo_modules()[0].name == "jit_luminance" for each in found)

    def compiled_for(width):
        before = compilations()
        np.testing.assert_allclose(kept(images[width]), expected[width], rtol=1e-6)
        assert alive() <= 2
        return compilations() - before

    assert [compiled_for(width) for width in (5, 6, 5)] == [1, 1, 0]
    # 7 drops 6, and 6 then drops 7.
    assert [compiled_for(width) for width in (7, 5, 6)] == [1, 0, 1]
    assert alive() == 2
    assert len(list(tmp_path.iterdir())) == 3  # on disk they all stay


def test_two_threads_register_each_record_once(monkeypatch):
    registered = []

    def register(kind, *, serialized_name):
        registered.append(serialized_name)
        time.sleep(0.005)  # lets the other thread run

    monkeypatch.setattr(kept_function, "_known", set())
    monkeypatch.setattr(kept_function.export, "register_namedtuple_serialization", register)
    threads = [
        threading.Thread(target=kept_function._register_records, args=((),)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registered) == len(set(registered)) > 1
