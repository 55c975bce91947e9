"""Training: its update against the objective, devices, compilations, the held-out loss, resuming."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import recipes
from nst_jax.app.options import feed_forward as options
from nst_jax.feed_forward import johnson, style_files, training
from nst_jax.feed_forward.johnson import fresh_params, stylize_trained
from nst_jax.feed_forward.training import Training, TrainingDiverged
from nst_jax.feed_forward.training_job import identity_of, training_job
from nst_jax.feed_forward.training_step import crop_losses, init_training, train_step
from nst_jax.optimizers import Adam
from nst_jax.recipes import filters
from nst_jax.vgg import with_forms
from nst_jax.vgg.precision import BFLOAT16
from tests import small
from tests.test_crops import picture

RECIPE = small.shallow()
PAINTINGS = {"night": ("starry_night", 48, 40), "cat": ("chelsea", 40, 48)}
# The same sizes everywhere, so that what one test compiles the others use.
SIZES = {"batch": 2, "crop": 32, "width": 0.2, "blocks": 1, "style_size": "as-is"}
SETTINGS = {
    "recipe": RECIPE, "steps": 30, "every": 10, "learning_rate": 1e-2, "precision": None, "key": None,
    "devices": None, **SIZES,
}  # fmt: skip


def job_of(**changes):
    photos = [picture(seed) for seed in range(12)]
    paintings = {name: small.picture(*which) for name, which in PAINTINGS.items()}
    return training_job(paintings, photos, **(SETTINGS | changes))


# --- One update -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(params):
    """Return what one update takes: crops, targets of the styles, recipe, and a fresh network."""
    recipe = recipes.as_arrays(RECIPE.bare())
    grey = jnp.full((32, 32, 3), 0.5)
    measure = jax.jit(nst.measure)
    paintings = [jnp.asarray(small.picture(*which)) for which in PAINTINGS.values()]
    found = [measure(params, grey, one, recipe).style for one in paintings]
    style_targets = jax.tree.map(lambda *each: jnp.stack(each), *found)
    crops = jnp.asarray(np.stack([picture(seed, 32, 32) for seed in (1, 2)]))
    # As a training has them, so that its programs are used here, too.
    formed = nst.vgg.with_forms(params, recipe.terms.taps, shape=(32, 32))
    network = fresh_params(jax.random.key(0), 2, width=SIZES["width"], blocks=1)
    return formed, crops, style_targets, recipe, network


def numbers(learning_rate):
    return jax.tree.map(jnp.float32, Adam(learning_rate=learning_rate))


def updated(parts, learning_rate):
    """Return the state and the losses after the first update of a training."""
    formed, crops, style_targets, recipe, network = parts
    rule, copies = numbers(learning_rate), jax.tree.map(jnp.array, network)
    state = init_training(copies, rule)  # which is donated
    return training._PROGRAMS.step(formed, state, crops, style_targets, recipe, rule, mesh=None)


def plain_loss(params, network, crop, painting, style, recipe):
    """Return the loss of one crop in one style, by the functions that paint a canvas."""
    content = crop.astype(jnp.float32) / 255
    image = stylize_trained(network, content, jax.nn.one_hot(style, 2))
    return nst.losses_of(params, image, nst.measure(params, content, painting, recipe), recipe)


def test_the_loss_of_a_crop_is_that_of_a_canvas(params, parts):
    formed, crops, style_targets, recipe, network = parts
    measure = training._PROGRAMS.losses
    found = measure(formed, network, crops, jnp.array([1, 0]), style_targets, recipe)
    plain = jax.jit(plain_loss, static_argnames="style")
    paintings = [jnp.asarray(small.picture(*which)) for which in PAINTINGS.values()]
    for index, style in enumerate((1, 0)):
        expected = plain(params, network, crops[index], paintings[style], style, recipe)
        row = jax.tree.map(lambda leaf, index=index: leaf[index], found)
        jax.tree.map(partial(assert_allclose, rtol=1e-4), row, expected)


def test_an_update_is_adams_on_the_mean_loss_of_the_crops(parts):
    formed, crops, style_targets, recipe, network = parts
    state, losses = updated(parts, 1e-2)

    def mean(network):
        styles = jnp.array([0, 1])
        return jnp.mean(crop_losses(formed, network, crops, styles, style_targets, recipe).total)

    value, gradient = jax.jit(jax.value_and_grad(mean))(network)
    assert_allclose(losses.total, value, rtol=1e-5)
    assert int(state.step) == 1
    jax.tree.map(assert_near, slopes_of(state), gradient)
    trees = network, state.network, slopes_of(state)
    old, new, slope = (np.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in trees)
    # The first step of Adam is the learning rate, against the gradient's sign.
    steep = np.abs(slope) > 1
    assert steep.mean() > 0.9
    assert_allclose((new - old)[steep], -1e-2 * np.sign(slope)[steep], rtol=1e-3)


def slopes_of(state):
    """Return the gradient of the first update, which is a tenth of Adam's first mean of gradients."""
    return jax.tree.map(lambda mean: np.asarray(mean) / 0.1, state.opt_state[0].mu)


def assert_near(slope, expected):
    """Compare gradients, of up to some 1e5. One is 0 up to rounding: that of the last block's beta.

    What that adds to a channel, the next norm subtracts.
    """
    assert_allclose(slope, expected, rtol=0, atol=1e-4 * np.abs(expected).max() + 0.1)


@pytest.mark.slow
def test_the_crops_take_the_styles_in_turn(parts):
    """Of two crops, the second update's are in the third style and, again, the first."""
    formed, crops, style_targets, recipe, network = parts
    three = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), style_targets)
    wide = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]) if x.ndim == 2 else x, network)
    update = jax.jit(train_step)
    state = init_training(wide, numbers(1e-2))
    for moved in ((True, True, False), (True, True, True)):
        state, _ = update(formed, state, crops, three, recipe, numbers(1e-2))
        gammas = state.network["encode1"]["gamma"]
        assert (np.abs(gammas - 1).max(axis=1) > 0).tolist() == list(moved)


def test_one_chosen_device_computes_wherever_the_weights_are():
    first, second = jax.devices()[:2]
    assert job_of(devices=[first], weights_on=second).mesh.devices.tolist() == [first]
    assert job_of(devices=1, weights_on=first).mesh is None
    assert job_of(weights_on=second).mesh is None


def test_two_devices_compute_what_one_does(parts):
    formed, crops, style_targets, recipe, network = parts
    mesh = nst.scaling.sharding.mesh_of(2)
    one, losses = updated(parts, 1e-2)
    state = nst.scaling.sharding.replicate(init_training(network, numbers(1e-2)), mesh)
    fixed = nst.scaling.sharding.replicate((formed, style_targets, recipe, numbers(1e-2)), mesh)
    both, shared = jax.jit(train_step, static_argnames="mesh")(
        fixed[0], state, nst.scaling.sharding.split(crops, mesh), *fixed[1:], mesh=mesh
    )
    assert len(both.step.sharding.device_set) == 2
    jax.tree.map(partial(assert_allclose, rtol=1e-5), shared, losses)
    jax.tree.map(assert_near, slopes_of(both), slopes_of(one))


def test_other_numbers_and_names_compile_nothing(params, compilations):
    list_of = [report.step for report in Training(params, job_of(steps=1, every=1))]
    assert list_of == [0, 1]
    before = compilations()
    stronger = RECIPE.replace(style_weight=0.7, tv_weight=3.0)
    other = {name.upper(): small.picture(*which) for name, which in PAINTINGS.items()}
    changes = {"recipe": stronger, "steps": 4, "every": 2, "learning_rate": 0.3}
    job = training_job(other, [picture(seed) for seed in range(12)], **(SETTINGS | changes))
    assert len(list(Training(params, job))) == 5
    assert compilations() == before


@pytest.mark.slow
def test_bfloat16_keeps_the_parameters_in_float32(parts):
    formed, crops, style_targets, recipe, network = parts
    rounded = recipe.replace(network__precision=BFLOAT16)
    styles = jnp.array([0, 1])
    exact = training._PROGRAMS.losses(formed, network, crops, styles, style_targets, recipe)
    state, near = jax.jit(train_step)(
        formed, init_training(network, numbers(1e-3)), crops, style_targets, rounded, numbers(1e-3)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(state.network)} == {jnp.dtype("float32")}
    assert_allclose(near.total, exact.total.mean(), rtol=0.1)
    assert near.total != exact.total.mean()


# --- A whole training -----------------------------------------------------------------------------


def test_the_held_out_loss_falls_to_half_and_the_best_network_is_kept(params):
    with Training(params, job_of()) as run:
        reports = list(run)
    assert [report.step for report in reports] == list(range(31))
    assert [report.step for report in reports if report.held_out is not None] == run.updates
    assert run.updates == [0, 10, 20, 30]
    assert min(run.held_out) < 0.5 * run.held_out[0]
    assert run.held_out[run.updates.index(run.best_step)] == min(run.held_out)
    # The network returned is the one that has the loss which is said of it.
    formed, style_targets, recipe, _ = run._fixed
    total = []
    for crop in run.crops.held_out:  # each in both styles
        arguments = jnp.asarray(np.stack([crop, crop])), jnp.array([0, 1]), style_targets, recipe
        total.append(training._PROGRAMS.losses(formed, run.best.params, *arguments).total)
    assert_allclose(np.mean(total), min(run.held_out), rtol=1e-4)
    assert run.best.styles == ("night", "cat")


def finished(params, job, resume=None):
    with Training(params, job, resume=resume) as run:
        for _ in run:
            pass
    return run


def test_a_training_that_was_interrupted_ends_with_the_same_bytes(params, tmp_path):
    whole = finished(params, job_of(steps=16, every=5))
    with Training(params, job_of(steps=16, every=5)) as first:
        for report in first:
            if report.step == 8:
                break
        style_files.save_training(tmp_path / "run.h5", first.checkpoint())
        before = first.checkpoint()
        first.outcome()  # measures the present network, which changes nothing
        after = first.checkpoint()
        jax.tree.map(assert_array_equal, dict(before.arrays), dict(after.arrays))
        assert after.updates == before.updates == [0, 5]
    loaded = style_files.load_training(tmp_path / "run.h5")
    assert loaded.step == 8
    second = finished(params, job_of(steps=16, every=5), loaded)
    for name, run in {"whole": whole, "resumed": second}.items():
        network, facts = run.outcome()
        style_files.save_network(tmp_path / f"{name}.h5", network, facts=facts)
        style_files.save_training(tmp_path / f"{name}_run.h5", run.checkpoint())
    for ending in (".h5", "_run.h5"):
        resumed, straight = (tmp_path / f"{name}{ending}" for name in ("resumed", "whole"))
        assert resumed.read_bytes() == straight.read_bytes()
    # More updates may follow, and nothing else may change.
    nearest = RECIPE.replace(pictures__resize=filters.pillow_nearest)
    finished(params, job_of(steps=18, every=5), loaded)
    for change, said in (
        ({"learning_rate": 0.1}, "learning_rate was 0.01, is 0.1"),
        ({"batch": 4}, "batch was 2, is 4"),
        ({"recipe": RECIPE.replace(style_weight=0.1)}, "terms.style_weight was 0.05, is 0.1"),
        ({"recipe": nearest}, 'pictures.resize was absent, is "pillow_nearest"'),
        ({"key": jax.random.key(1)}, r"key was \[0, 0\], is \[0, 1\]"),
        ({"steps": 7}, "has had 8 updates, more than the 7"),
    ):
        with pytest.raises(ValueError, match=f"`resume`: .*{said}"):
            Training(params, job_of(**{"steps": 16, "every": 5, **change}), resume=loaded)


def test_the_facts_of_a_training_have_a_filter_that_is_not_the_default(params):
    nearest = RECIPE.replace(pictures__resize=filters.pillow_nearest)
    assert "pictures.resize" not in identity_of(params, job_of())
    assert identity_of(params, job_of(recipe=nearest))["pictures.resize"] == "pillow_nearest"


def test_an_interrupted_trainings_outcome_may_be_its_present_network(params):
    with Training(params, job_of(every=25)) as run:
        for report in run:
            if report.step == 12:
                break
        network, facts = run.outcome()
        assert facts["training"]["measured_after"] == [0, 12]
        assert facts["training"]["best_after"] == facts["training"]["updates"] == 12
        jax.tree.map(assert_array_equal, network.params, run.present.params)
        _, measured = run.outcome(measure=False)
        assert measured["training"]["best_after"] == 0 and run.updates == [0]


def test_the_same_key_gives_the_same_network_and_another_one_another(params):
    same, again = (finished(params, job_of(steps=2, every=2)) for _ in range(2))
    other = finished(params, job_of(steps=2, every=2, key=jax.random.key(5)))
    jax.tree.map(assert_array_equal, same.best.params, again.best.params)
    assert same.held_out == again.held_out != other.held_out


def test_a_training_that_diverges_says_so_and_keeps_the_best(params):
    job = job_of(learning_rate=1e30, every=3)
    with (
        Training(params, job) as run,
        pytest.raises(TrainingDiverged, match="not finite at update"),
    ):
        list(run)
    assert run.checkpoint() is None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.best.params))


def test_a_training_whose_first_loss_is_not_finite_has_no_network_to_keep(params):
    job = job_of(recipe=RECIPE.replace(style_weight=1e38))
    with (
        Training(params, job) as run,
        pytest.raises(
            TrainingDiverged, match="not finite at update 0; there is no network to keep"
        ),
    ):
        next(run)
    assert run.best_step == 0 and run.checkpoint() is None
    with pytest.raises(RuntimeError, match="there is no best network: the loss"):
        run.best  # noqa: B018


def test_train_returns_a_network_that_paints(params, tmp_path):
    files = []
    for seed in range(3):
        files.append(tmp_path / f"{seed}.png")
        nst.images.save(files[-1], picture(seed))
    network = nst.train(
        params,
        [files[0], files[1]],
        tmp_path,
        recipe=RECIPE,
        steps=1,
        **SIZES,
    )
    assert network.styles == ("0", "1")
    photo = jnp.asarray(small.picture("chelsea", 30, 37))
    painted = stylize_trained(network.params, photo, style_files.style_shares(network.styles, "1"))
    assert painted.shape == photo.shape and 0 <= painted.min() < painted.max() <= 1


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"steps": 0}, ValueError, "`steps`: expected 1 or more"),
        ({"batch": 2.5}, TypeError, "`batch`"),
        ({"crop": 15}, ValueError, "`crop`: expected 16 or more"),
        ({"width": 0}, ValueError, "`width`: expected more than 0"),
        ({"learning_rate": -1}, ValueError, "`learning_rate`: expected more than 0"),
        ({"learning_rate": np.array([1e-3])}, TypeError, "^`learning_rate`: expected one number"),
        ({"width": np.array([0.1])}, TypeError, "^`width`: expected one number, got an array"),
        ({"width": [0.1]}, TypeError, "^`width`: expected one number, got"),
        ({"recipe": "tf"}, TypeError, "`recipe`: expected a Recipe"),
        ({"precision": "float8"}, ValueError, "`precision`: there is no precision 'float8'"),
        (
            {"batch": 3, "devices": 2},
            ValueError,
            "3 crops cannot be divided among 2 devices; take 4",
        ),
        (
            {"crop": 41},
            ValueError,
            "`photos`: 12 can be read, but all are smaller than a crop of 41",
        ),
    ],
)
def test_bad_arguments_are_refused_at_once(as_users_do, changes, error, said):
    with pytest.raises(error, match=said):
        job_of(**changes)


def test_numbers_may_be_scalars_of_arrays(as_users_do):
    job = job_of(learning_rate=np.float32(0.5), width=np.array(0.25))
    assert (job.learning_rate, job.width) == (0.5, 0.25)


def test_a_path_is_no_checkpoint(as_users_do, params):
    said = "^`resume`: expected TrainingCheckpoint, got str; `style_files.load_training"
    with pytest.raises(TypeError, match=said):
        Training(params, job_of(), resume="t.h5")


def test_the_name_of_a_style_is_text(as_users_do, params):
    for name in (1, None, b"night"):
        with pytest.raises(TypeError, match=f"^`paintings`: expected text as .*, got {name};"):
            nst.train(params, {"sea": picture(0), name: picture(1)}, [picture(2), picture(3)])


def test_weights_of_another_network_are_refused(as_users_do):
    with pytest.raises(ValueError, match="^`params`: expected the weights of VGG-19, got those of"):
        nst.train(nst.feed_forward.load_arbitrary(), picture(0), [picture(1), picture(2)])


def test_weights_without_a_layer_are_refused_before_any_work(as_users_do, params, monkeypatch):
    few = with_forms(params, ["relu1_1"])
    monkeypatch.setattr(training, "identity_of", lambda *_: pytest.fail("the training began"))
    with pytest.raises(
        ValueError,
        match="^`params`: expected the layers down to conv2_1, which relu2_1 needs, got none named "
        "conv1_2; give the weights from",
    ):
        nst.train(few, picture(0), [picture(1), picture(2)], recipe=RECIPE, **SIZES)


@pytest.mark.parametrize(
    ("paintings", "said"),
    [
        ([], "`paintings`: is empty"),
        (["nowhere.jpg"], "`paintings`: there is no file 'nowhere.jpg'"),
        ({"a": np.zeros((9, 40, 3))}, "`paintings`: 40x9 px"),
    ],
)
def test_bad_paintings_are_refused_before_photos_are_read(as_users_do, paintings, said):
    with pytest.raises(ValueError, match=said):
        training_job(paintings, "nowhere", **SETTINGS)


def test_the_defaults_are_those_that_the_help_states():
    defaults = (
        options.TRAIN_STEPS,
        options.TRAIN_BATCH,
        options.TRAIN_CROP,
    )
    assert defaults == (training.STEPS, training.BATCH, training.CROP)
    assert options.TRAIN_LEARNING_RATE == training.LEARNING_RATE
    assert (options.TRAIN_EVERY, options.TRAIN_BLOCKS) == (training.EVERY, johnson.BLOCKS)
