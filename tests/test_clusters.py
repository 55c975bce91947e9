"""Several processes paint the same picture as one, and none waits for ever for a lost one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst_jax import images
from nst_jax.app import cli, cluster

PREAMBLE = """
import sys
from dataclasses import replace
import numpy as np
import nst_jax as nst
from nst_jax import recipes
from nst_jax.app import cli, cluster
from nst_jax.recipes import sizes
from tests import small
cluster.LOST_SECONDS = 6
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(code, *words):
    """Start Python code in a process with two simulated devices."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    argv = [sys.executable, "-c", PREAMBLE + code, *words]
    return subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def together(code):
    """Run the same code in two processes that can join each other; return their outputs."""
    port = free_port()
    processes = [start(code, f"127.0.0.1:{port},2,{index}") for index in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors
    return said


@pytest.mark.slow
def test_two_processes_paint_the_pictures_of_one():
    together("""
cluster.join(sys.argv[1])
import jax
assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
params = nst.load_params()
recipe = small.shallowest(steps=4)
schedule = recipes.CoarseToFine(smallest=64)
recipe = replace(recipe, descent=replace(recipe.descent, schedule=schedule))
content, style = small.picture("chelsea", 100, 64), small.picture("gravel", 30, 40)
one = nst.stylize(params, content, style, recipe=recipe, size=128)
split = nst.stylize(params, content, style, recipe=recipe, size=128, devices="all")
np.testing.assert_allclose(split, one, rtol=0, atol=1e-5)
# `eps` keeps rounding errors of small slopes small.
recipe = recipe.replace(
    schedule=recipes.OneScale(), optimizer=nst.optimizers.Adam(learning_rate=0.02, eps=1e-3)
)
contents = [small.picture(name, 24, 32) for name in ("chelsea", "starry_night", "gravel")]
one = nst.stylize_many(params, contents, style, recipe=recipe, size=64)
for bands in (1, 2):
    many = nst.stylize_many(params, contents, style, recipe=recipe, size=64, devices="all", bands=bands)
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)
try:
    nst.stylize(params, content, style, recipe=recipe, devices=2)
except ValueError as error:
    assert "leave process 1 of 2 without one" in str(error)
else:
    raise AssertionError
""")


@pytest.mark.long
def test_two_processes_paint_the_controls_of_one():
    together("""
cluster.join(sys.argv[1])
from nst_jax.controls import Protect, Region
params = nst.load_params()
# Regions of a second layer, and L-BFGS, are compared above and on devices of one process.
recipe = small.shallowest(steps=3, matting_weight=1e6)
recipe = recipe.replace(optimizer=nst.optimizers.Adam(learning_rate=0.02))
content, style = small.picture("chelsea", 100, 64), small.picture("starry_night", 30, 40)
upper, face = np.zeros((2, 100, 64), np.float32)
upper[:45], face[30:80, 20:50] = 1, 1
options = {
    "recipe": recipe.replace(region_reach="simple"),
    "colors": "content",
    "realism": 0.5,
    "strength": 0.9,
    "style_scale": [1.0, 0.8],
    "regions": [Region(upper, small.picture("gravel", 28, 36), weight=2)],
    "protect": Protect(face, 0.7),
}
one = nst.stylize(params, content, style, **options)
split = nst.stylize(params, content, style, **options, devices="all")
np.testing.assert_allclose(split, one, rtol=0, atol=1e-5)
plain = nst.stylize(params, content, style, recipe=recipe)
assert np.abs(np.subtract(one, plain)).max() > 0.05
options |= {
    "regions": [Region(np.stack([upper, 1 - upper]), small.picture("gravel", 28, 36))],
    "protect": Protect(face, np.array([1.0, 0.3])),
    "strength": np.array([0.9, 0.4]),
    "style_scale": [[1.0, 0.8], [0.8, 1.0]],
}
one = nst.stylize_many(params, content, style, **options)
many = nst.stylize_many(params, content, style, **options, devices="all", bands=2)
np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)
""")


RUN = """
tiny = small.shallow(recipes.TF, steps=STEPS)
recipes.PRESETS["tiny"] = replace(
    tiny,
    name="tiny",
    pictures=recipes.Pictures(size=sizes.LongEdge(128)),
    descent=replace(tiny.descent, schedule=recipes.CoarseToFine(smallest=64, share=SHARE)),
)
words = ["stylize", "photo.png", "art.png", "--recipe", "tiny", "-o", "out.png", *sys.argv[2:]]
sys.argv[1:] = [*words, "--cluster", sys.argv[1]]
sys.exit(cli.main())
"""


def write_pictures():
    rng = np.random.default_rng(0)
    for name, shape in {"photo": (128, 96, 3), "art": (50, 50, 3)}.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(f"{name}.png")


@pytest.mark.long
def test_only_the_first_process_writes_and_one_process_resumes():
    write_pictures()
    port = free_port()
    words = ("--log", "log.jsonl", "--checkpoint", "kept.h5")
    code = RUN.replace("STEPS", "6").replace("SHARE", "1.0")
    runs = [start(code, f"127.0.0.1:{port},2,{index}", *words) for index in range(2)]
    said = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert "4 devices, 32 rows each" in said[0][1]
    assert "compiling" not in said[1][1]
    assert sorted(path.name for path in Path().iterdir()) == [
        "art.png", "kept.h5", "log.jsonl", "out.png", "photo.png",
    ]  # fmt: skip
    lines = Path("log.jsonl").read_text().splitlines()
    assert len(lines) == 9  # the start, the seven canvases, the end
    whole = Path("out.png").read_bytes()
    # One process alone resumes from the checkpoint of four devices, at which the run is finished.
    code = code.replace('*words, "--cluster", sys.argv[1]', "*words")
    alone = start(code, "", "--checkpoint", "kept.h5", "--resume", "--overwrite")
    assert alone.communicate(timeout=300) and alone.returncode == 0
    assert np.array_equal(np.asarray(Image.open("out.png")), _pixels(whole))


def _pixels(data):
    Path("whole.png").write_bytes(data)
    return np.asarray(Image.open("whole.png"))


def updates_in(name):
    """Return after how many updates a picture was written; 0 for a preview, or if there is no file."""
    return images.read_metadata(name)["steps_done"] if Path(name).exists() else 0


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_a_message():
    write_pictures()
    port = free_port()
    code = RUN.replace("STEPS", "100000").replace("SHARE", "1e-4")
    runs = [start(code, f"127.0.0.1:{port},2,{index}", "--every", "2") for index in range(2)]
    try:
        for _ in range(600):
            if updates_in("out.png"):
                break
            time.sleep(0.2)
        assert updates_in("out.png")
        runs[1].send_signal(signal.SIGKILL)
        _, errors = runs[0].communicate(timeout=200)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    assert runs[0].returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith(
        "nst-jax: error: process 0 of 2 cannot continue: process 1 has given no sign"
    )
    assert "unfinished" in errors
    Image.open("out.png").load()


@pytest.mark.slow
def test_a_failed_exchange_is_reported_as_a_lost_process():
    # An exchange with a killed process may or may not raise, so here the error is raised by hand.
    port = free_port()
    code = """
import os, time, jax
cluster.join(sys.argv[1])
with cluster.PeerMonitor(lambda text: print("lost:", text, flush=True)):
    time.sleep(3)
    if jax.process_index() == 1:
        os._exit(9)
    raise jax.errors.JaxRuntimeError("Connection reset by peer")
"""
    runs = [start(code, f"127.0.0.1:{port},2,{index}") for index in range(2)]
    said, errors = runs[0].communicate(timeout=200)
    assert runs[0].returncode == 1, errors
    assert (
        "lost: process 0 of 2 cannot continue: process 1 has given no sign of life for 6 s" in said
    )
    runs[1].communicate()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("here", "expected 'auto' or HOST:PORT,N,I"),
        ("host:12,2", "expected 'auto' or HOST:PORT,N,I"),
        ("host:12,2,2", "of 2 processes the last is 1, got 2"),
        ("host:12,0,0", "the number of processes cannot be 0"),
    ],
)
def test_invalid_cluster_names_are_refused(words, message, capsys):
    write_pictures()
    assert cli.main(["stylize", "photo.png", "art.png", "--cluster", words]) == 2
    assert f"`--cluster`: {message}" in capsys.readouterr().err


def test_without_a_cluster_auto_is_refused(capsys, monkeypatch):
    def none(**limits):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", none)
    write_pictures()
    assert cli.main(["stylize", "photo.png", "art.png", "--cluster", "auto"]) == 2
    assert "`--cluster`: jax finds no cluster here (coordinator_address" in capsys.readouterr().err


def test_a_failure_to_join_is_reported(capsys, monkeypatch):
    def late(**limits):
        raise RuntimeError("DEADLINE_EXCEEDED: some did not come")

    monkeypatch.setattr("jax.distributed.initialize", late)
    write_pictures()
    assert cli.main(["stylize", "photo.png", "art.png", "--cluster", "auto"]) == 2
    assert "`--cluster`: could not join 'auto': DEADLINE_EXCEEDED" in capsys.readouterr().err


@pytest.mark.slow
def test_bad_input_in_one_process_ends_the_others_with_its_reason():
    write_pictures()
    port = free_port()
    code = RUN.replace("STEPS", "4").replace("SHARE", "1.0")
    Path("seen.h5").write_bytes(b"")
    runs = [
        start(code, f"127.0.0.1:{port},2,{index}", "--checkpoint", name)
        for index, name in enumerate(("kept.h5", "seen.h5"))
    ]
    said = [run.communicate(timeout=200)[1] for run in runs]
    assert [run.returncode for run in runs] == [2, 2], said
    for words, name in zip(said, ("kept.h5", "seen.h5"), strict=True):
        last = words.strip().splitlines()[-1]
        assert f"`--checkpoint`: '{name}' is not seen by all processes" in last


@pytest.mark.slow
def test_the_process_with_the_least_memory_decides_for_all():
    together("""
cluster.join(sys.argv[1])
import jax
from nst_jax import run_scales
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.plan import plan_scales
mesh = sharding.mesh_of("all", axis=sharding.BANDS)
capacity.available = lambda device: [4 * 10**10, 12 * 10**9][jax.process_index()]
there, platform = capacity.available_to_each(mesh)
assert abs(there / 3e9 - 1) < 1e-6 and platform == "cpu"  # four devices share the smaller memory
scales = [run_scales.Scale((2048, 2048), ((512, 512),), 1)]
few, many = (
    plan_scales(recipes.DEFAULT, scales, mesh=mesh, memory=4 * each)
    for each in (3 * 10**9, 10**10)
)
assert few.recipe.network.tile != many.recipe.network.tile
assert plan_scales(recipes.DEFAULT, scales, mesh=mesh).recipe == few.recipe
assert capacity.available_to_each(None)[0] == [4 * 10**10, 12 * 10**9][jax.process_index()]
capacity.available = lambda device: None
assert capacity.available_to_each(mesh)[0] is None
""")


def test_a_single_process_decides_alone():
    assert cluster.is_first()
    assert list(cluster.from_first([3, 1])) == [3, 1]
    assert cluster.true_in_any(True)
    assert not cluster.true_in_any(False)
    assert cluster.same_in_all(True, "")
    assert not cluster.same_in_all(False, "")
