"""Checkpoints: a run that was stopped and resumed equals, bit by bit, the run that was not."""

import json
import re
from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import checkpoints, optimize, optimizers, planned_painting, recipes
from nst_jax.recipes import CoarseToFine, starts
from tests import small

FAST = small.shallowest()
SCALED = replace(FAST, descent=replace(FAST.descent, schedule=CoarseToFine(smallest=16, share=2.0)))
KEY = jax.random.key(7)


def with_rule(rule, recipe=FAST, **more):
    return replace(recipe, descent=replace(recipe.descent, optimizer=rule, **more))


# Every update rule; histories are so short that pairs of L-BFGS are overwritten.
RULES = {
    "Adam": with_rule(optimizers.Adam(), clip=True),
    "KerasAdam": with_rule(optimizers.KerasAdam(learning_rate=0.02)),
    "DecayedSGD": with_rule(optimizers.DecayedSGD(learning_rate=1e-5)),
    "TorchLBFGS": with_rule(optimizers.TorchLBFGS(history=3)),
    "LBFGS": with_rule(optimizers.LBFGS(history=3)),
}
STARTS = {
    "noise": replace(RULES["Adam"], pictures=replace(FAST.pictures, start=starts.Noise())),
    "the notebook's": with_rule(
        optimizers.Adam(learning_rate=5.0),
        replace(FAST, pictures=replace(FAST.pictures, start=starts.SeededBlend())),
        coordinates=nst.vgg.CAFFE_BGR,
    ),
}
# States like Adam's, each with a program of its own to compile.
MORE = {
    "KerasAdam": pytest.mark.long,
    "DecayedSGD": pytest.mark.long,
    "the notebook's": pytest.mark.slow,
}


@pytest.fixture(scope="module")
def large():
    return jax.numpy.asarray(small.picture("chelsea", 48, 64))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.h5"


def stopped_after(shots, step):
    """Drive a run up to a snapshot and return its checkpoint."""
    for shot in shots:
        if shot.step == step:
            return shots.checkpoint()
    raise AssertionError(step)


def finished(shots):
    """Drive a run to its end: the last canvas, bit by bit, and all losses."""
    parts = list(shots)
    history = jax.tree.map(lambda *x: np.concatenate(x), *(shot.history for shot in parts))
    last = parts[-1]
    return last.image, last.losses, last.step, history


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_array_equal(a, b)


# --- Resumed runs equal uninterrupted ones --------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(n, marks=MORE.get(n, ())) for n in RULES | STARTS])
def test_six_and_six_updates_are_twelve(params, content, style, path, name):
    recipe = (RULES | STARTS)[name]
    given = {"recipe": recipe, "key": KEY}
    whole = finished(nst.paint(params, content, style, steps=12, every=5, **given))
    *_, half = shots = list(first := nst.paint(params, content, style, steps=6, **given))
    assert half.step == 6 and len(shots) == 2
    checkpoints.save(path, first.checkpoint())
    kept = checkpoints.load(path)
    rest = nst.paint(params, content, style, steps=12, every=4, resume=kept, **given)
    shots = list(rest)
    assert [shot.step for shot in shots] == [6, 8, 12]
    assert_array_equal(shots[0].image, half.image)
    same(finished(iter(shots)), whole)
    assert kept.step == 6 and len(shots[0].history.total) == 7
    # The checkpoint's arrays are not donated: a run can resume from it again.
    again = nst.paint(params, content, style, steps=12, resume=kept, **given)
    same(finished(again), whole)


@pytest.mark.parametrize("stop", [0, 3, 5, 6, 7, 9])
def test_a_run_through_scales_resumes_from_any_update(params, large, style, path, stop):
    given = {"recipe": SCALED, "steps": 9, "init": starts.WhiteNoise(), "key": KEY}
    whole = finished(nst.paint(params, large, style, every=50, **given))
    sizes = nst.paint(params, large, style, every=1, **given)
    checkpoint = stopped_after(sizes, stop)
    assert checkpoint.scale == (0 if stop < 6 else 1)
    checkpoints.save(path, checkpoint)
    resumed = nst.paint(params, large, style, every=2, resume=checkpoints.load(path), **given)
    same(finished(resumed), whole)


def test_a_file_has_the_state_bit_for_bit(params, content, style, path):
    shots = nst.paint(params, content, style, recipe=RULES["LBFGS"], every=2)
    checkpoint = stopped_after(shots, 4)._replace(notes={"seconds": [0.25, 1e-9]})
    kinds = {array.dtype.name for array in checkpoint.arrays.values()}
    assert kinds == {"float32", "int32", "bool"}
    assert "opt_state/memory/moves" in checkpoint.arrays
    checkpoints.save(path, checkpoint)
    found = checkpoints.load(path)
    assert {name: array.dtype for name, array in found.arrays.items()} == {
        name: array.dtype for name, array in checkpoint.arrays.items()
    }
    same(found.arrays, checkpoint.arrays)
    same(found.history, checkpoint.history)
    for name in ("step", "scale", "facts", "scales", "device", "notes"):
        assert getattr(found, name) == getattr(checkpoint, name), name
    assert found.step == 4 and found.history.total.shape == (5,)


def test_the_runs_own_arrays_may_be_written_without_a_copy(params, content, style, path):
    given = {"recipe": RULES["TorchLBFGS"], "steps": 6, "every": 2}
    whole = finished(nst.paint(params, content, style, **given))
    shots = nst.paint(params, content, style, **given)
    seen, files = [], []
    for shot in shots:
        seen.append(shot)
        checkpoints.save(path, shots.checkpoint(copy=False))
        files.append(checkpoints.load(path))
    same(finished(iter(seen)), whole)
    for checkpoint in files:
        resumed = nst.paint(params, content, style, resume=checkpoint, **given)
        same(finished(resumed), whole)


def test_a_finished_run_resumes_at_its_end(params, content, style):
    shots = nst.paint(params, content, style, recipe=FAST)
    *_, last = list(shots)
    (only,) = nst.paint(params, content, style, recipe=FAST, resume=shots.checkpoint())
    assert only.step == 4 and len(only.history.total) == 5
    assert_array_equal(only.image, last.image)


def test_a_run_that_broke_stays_broken(params, content, style):
    given = {"recipe": with_rule(optimizers.Adam(learning_rate=1e30)), "every": 1}
    shots = nst.paint(params, content, style, **given)
    before, last = list(shots)
    (only,) = nst.paint(params, content, style, resume=shots.checkpoint(), **given)
    assert only.broke_at == last.broke_at == 1
    assert_array_equal(only.image, before.image)


def test_before_the_first_snapshot_there_is_nothing_to_keep(params, content, style):
    with pytest.raises(ValueError, match="not begun; ask for a snapshot first"):
        nst.paint(params, content, style, recipe=FAST).checkpoint()


class Interrupting:
    """An array that Ctrl-C interrupts while it is copied to the host for the first time."""

    def __init__(self, array):
        self._array, self._waits = array, True

    def __array__(self, dtype=None, copy=None):
        if self._waits:
            self._waits = False
            raise KeyboardInterrupt
        return np.asarray(self._array)


def interrupted(monkeypatch, third, params, content, style, **given):
    """Return a run in which a KeyboardInterrupt ended the third call of the loop of updates.

    `third` is called with the result of the loop, in its place.
    """
    calls, real = [], planned_painting.PROGRAMS.run

    def loop(*arguments, **named):
        calls.append(named)
        found = real(*arguments, **named)
        return third(*found) if len(calls) == 3 else found

    programs = planned_painting.PROGRAMS._replace(run=loop)
    with monkeypatch.context() as patched:
        patched.setattr(planned_painting, "PROGRAMS", programs)
        shots = nst.paint(params, content, style, **given)
    with pytest.raises(KeyboardInterrupt):
        finished(shots)
    assert len(calls) == 3
    return shots


@pytest.mark.parametrize(
    ("recipe", "every", "reached"),
    [(FAST, 2, (0, 4)), (SCALED, 5, (1, 9))],  # the latter at the beginning of a scale
)
def test_a_run_that_was_interrupted_while_it_painted_resumes(
    params, large, style, monkeypatch, recipe, every, reached
):
    def waiting(state, losses):
        return state, losses._replace(total=Interrupting(losses.total))

    given = {"recipe": recipe, "steps": 9, "every": every}
    shots = interrupted(monkeypatch, waiting, params, large, style, **given)
    checkpoint = shots.checkpoint()
    assert (checkpoint.scale, checkpoint.step) == reached
    assert checkpoint.history.total.shape == (checkpoint.step + 1,)
    resumed = nst.paint(params, large, style, resume=checkpoint, **given).finish()
    same(resumed, nst.paint(params, large, style, **given).finish())


def test_a_run_whose_state_is_lost_says_so(params, content, style, monkeypatch):
    def losing(state, losses):
        raise KeyboardInterrupt

    shots = interrupted(monkeypatch, losing, params, content, style, recipe=FAST, every=1)
    with pytest.raises(ValueError, match="^`checkpoint`: the run was interrupted .* call `paint`"):
        shots.checkpoint()


# --- Checkpoints of other runs --------------------------------------------------------------------


@pytest.fixture(scope="module")
def half(params, content, style):
    shots = nst.paint(params, content, style, recipe=FAST, key=KEY, steps=4, every=1)
    return stopped_after(shots, 2)


def heavier(params):
    layers = dict(params.layers)
    layers["conv1_1"] = {**layers["conv1_1"], "bias": layers["conv1_1"]["bias"] + 1e-3}
    return replace(params, layers=layers)


OTHER = {
    "number": ({"recipe": small.shallow(style_weight=0.5)}, "terms.style_weight was 0.05, is 0.5"),
    "rule": (
        {"recipe": with_rule(optimizers.Adam())},
        'another run: descent.optimizer was "LBFGS", is "Adam"; resume with',
    ),
    "schedule": ({"recipe": SCALED}, 'descent.schedule was "OneScale", is "CoarseToFine"'),
    "size": ({"size": "long:28"}, 'pictures.size was "AsIs", is "LongEdge"'),
    "precision": ({"precision": "bfloat16"}, 'network.precision was "float32", is "bfloat16"'),
    "key": ({"key": jax.random.key(8)}, "key was [0, 7], is [0, 8]"),
    "init": ({"init": starts.Jitter(0.5)}, 'init was absent, is "Jitter"; resume with'),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_run_is_refused_by_what_differs(params, content, style, half, name):
    changes, said = OTHER[name]
    given = {"recipe": FAST, "key": KEY, "steps": 4} | changes
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        nst.paint(params, content, style, resume=half, **given)
    assert str(refused.value).startswith("`resume`: the checkpoint is of another run: ")
    assert "\n" not in str(refused.value)


def test_other_pictures_weights_and_versions_are_refused(params, content, style, half, as_users_do):
    given = {"recipe": FAST, "key": KEY, "steps": 4, "resume": half}
    darker = content * 0.99
    for what, (weights, *pictures) in {
        "content": (params, darker, style),
        "style": (params, content, style * 0.99),
        "style 2": (params, content, [style, style]),
        "weights": (heavier(params), content, style),
    }.items():
        with pytest.raises(ValueError, match=rf"another run: {what} was \w+, is \w+; resume with"):
            nst.paint(weights, *pictures, **given)
    older = half._replace(facts=half.facts | {"version of nst_jax": "0.0.1"})
    said = f'version of nst_jax was "0.0.1", is "{nst.__version__}"'
    with pytest.raises(ValueError, match=re.escape(said)):
        nst.paint(params, content, style, **(given | {"resume": older}))
    with pytest.raises(TypeError, match="`resume`: expected Checkpoint, got str"):
        nst.paint(params, content, style, **(given | {"resume": "run.h5"}))
    # And with the same settings it resumes.
    assert next(nst.paint(params, content, style, **given)).step == 2


def test_the_start_may_be_a_picture_which_then_counts(params, content, style):
    given = {"recipe": FAST, "steps": 2}
    shots = nst.paint(params, content, style, init=style, **given)
    next(shots)
    with pytest.raises(ValueError, match=r"init was \w+, is absent"):
        nst.paint(params, content, style, resume=shots.checkpoint(), **given)


# --- Another number of updates --------------------------------------------------------------------


def test_less_updates_than_were_done_are_refused(params, content, style, half):
    with pytest.raises(ValueError, match="has had 2 updates, more than the 1 of this run"):
        nst.paint(params, content, style, recipe=FAST, key=KEY, steps=1, resume=half)


def test_through_scales_the_plan_must_agree_so_far(params, large, style):
    given = {"recipe": SCALED, "every": 1}
    coarse = stopped_after(nst.paint(params, large, style, steps=9, **given), 4)
    fine = stopped_after(nst.paint(params, large, style, steps=9, **given), 7)
    longer = nst.paint(params, large, style, steps=18, resume=coarse, **given)
    same(finished(longer), finished(nst.paint(params, large, style, steps=18, **given)))
    with pytest.raises(ValueError) as refused:
        nst.paint(params, large, style, steps=18, resume=fine, **given)
    assert str(refused.value) == (
        "`resume`: the checkpoint is at 64x48 after 7 updates of 32x24 for 6, 64x48 for 3; a run of "
        "18 updates has 32x24 for 12, 64x48 for 6, so it would not pass that point; resume with "
        "9 steps, or begin a new run with another checkpoint file"
    )


# --- Files ----------------------------------------------------------------------------------------


def test_what_is_no_whole_checkpoint_is_refused(half, path, tmp_path):
    def refused(said):
        with pytest.raises(ValueError, match=said) as error:
            checkpoints.load(path)
        assert str(error.value).startswith(f"`path`: '{path}'")

    refused("does not exist")
    path.write_bytes(b"no HDF5 at all")
    refused("is not a checkpoint of nst-jax; name another file")
    nst.save_params(path, nst.load_params(), encoding="codes")
    refused("is not a checkpoint of nst-jax; name another file")
    checkpoints.save(path, half)
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    refused("damaged or cut short")
    pixels = half.arrays["canvas"].tobytes()
    turned = data.replace(pixels, bytes([pixels[0] ^ 1]) + pixels[1:])
    assert turned != data
    path.write_bytes(turned)
    refused("damaged or cut short")
    path.write_bytes(data)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    refused("has format version 2, expected 1; resume with the nst-jax that wrote it")
    path.write_bytes(b"")
    refused("is empty; remove it and start anew")
    path.unlink()
    path.mkdir()
    refused("is a folder; name a checkpoint in it")


def with_arrays(half, **changes):
    return half._replace(arrays=half.arrays | changes)


# What no run writes, though its checksum is right.
IMPOSSIBLE = {
    "step is -1, of 4": lambda half: half._replace(step=-1),
    "step is 9, of 4": lambda half: half._replace(step=9),
    "step is 2.0, expected int": lambda half: half._replace(step=2.0),
    f"step is '{'x' * 87}...{'x' * 88}', expected int": lambda half: half._replace(
        step="x" * 10**6
    ),
    "scale is 1, of 1": lambda half: half._replace(scale=1),
    "scale is 0, of 0": lambda half: half._replace(scales=[]),
    "scales has {'steps': 4}": lambda half: half._replace(scales=[{"steps": 4}]),
    "facts is [], expected dict": lambda half: half._replace(facts=[]),
    "device is not described by strings": lambda half: half._replace(device={"kind": 1}),
    "canvas has values that are not finite": lambda half: with_arrays(
        half, canvas=half.arrays["canvas"] * np.float32("nan")
    ),
    "canvas is [32, 3] float32": lambda half: with_arrays(half, canvas=half.arrays["canvas"][0]),
    "canvas is [24, 32, 3] int32": lambda half: with_arrays(
        half, canvas=half.arrays["canvas"].astype(np.int32)
    ),
    "state/step is missing": lambda half: half._replace(
        arrays={name: array for name, array in half.arrays.items() if name != "step"}
    ),
    "state/step is 3, expected an integer from -1 to 2": lambda half: with_arrays(
        half, step=np.int32(3)
    ),
    "state/broke_at is [2] int32": lambda half: with_arrays(half, broke_at=np.zeros(2, np.int32)),
    "state/pending is [3] float32, unlike the canvas": lambda half: with_arrays(
        half, pending=np.zeros(3, np.float32)
    ),
    "history/tv is missing": lambda half: half._replace(history=half.history._replace(tv={})),
    "history/total is [2] float32": lambda half: half._replace(
        history=half.history._replace(total=half.history.total[1:])
    ),
}


@pytest.mark.parametrize("said", IMPOSSIBLE)
def test_what_no_run_writes_is_refused_as_damaged(half, path, said):
    checkpoints.save(path, IMPOSSIBLE[said](half))
    with pytest.raises(ValueError) as error:
        checkpoints.load(path)
    message = f"`path`: '{path}' is damaged or cut short; remove it and start anew ({said}"
    assert str(error.value).startswith(message)


def test_a_dataset_too_many_is_refused(half, path, monkeypatch):
    leaves = checkpoints.named_leaves(half.history) | {"more": half.history.tv}
    monkeypatch.setattr(checkpoints.files, "named_leaves", lambda tree: leaves)
    checkpoints.save(path, half)
    with pytest.raises(ValueError, match=r"is damaged .*\(history/more is not expected\)"):
        checkpoints.load(path)


def test_what_is_no_json_object_of_a_checkpoint_is_refused(half, path, monkeypatch):
    for text, said in {
        "nonsense": "Expecting value",
        "[]": "told is no JSON object",
        '{"step": 2}': "told has other fields than expected: device, facts, notes, scale, scales",
    }.items():
        monkeypatch.setattr(checkpoints.files.json, "dumps", lambda *_, text=text, **__: text)
        checkpoints.save(path, half)
        monkeypatch.undo()
        with pytest.raises(ValueError, match=f"is damaged or cut short; .*{said}"):
            checkpoints.load(path)


def test_a_state_of_another_layout_is_refused(half, content):
    like = optimize.init(content, with_rule(optimizers.Adam()).bare())
    with pytest.raises(ValueError, match="`resume`: does not fit the run: .*opt_state"):
        checkpoints.state_from(half, like)


def test_a_write_that_fails_leaves_the_file_as_it_was(half, path, monkeypatch):
    checkpoints.save(path, half)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"cannot write '.*run.h5': No space left on device"):
        checkpoints.save(path, half._replace(step=3))
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["run.h5"]


def test_its_facts_are_plain_json(half):
    facts = json.loads(json.dumps(half.facts))
    assert facts == half.facts
    assert facts["descent.optimizer"] == "LBFGS" and "descent.steps" not in facts
    assert facts["version of jax"] == jax.__version__
    assert recipes.DEFAULT.name not in facts.values()
