"""`nst-jax train`: the files it writes, what it says, signals, full disks, bad input."""

import errno
import shutil
import signal
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from nst_jax import _hdf5, images, recipes, weights
from nst_jax.app import cli
from nst_jax.app import train as app_train
from nst_jax.feed_forward import style_files, training
from tests import small
from tests.test_crops import picture

# As in `test_training`, so that its programs are used again.
SIZES = ["--batch", "2", "--crop", "32", "--width", "0.2", "--blocks", "1", "--style-size", "as-is"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return a folder with two paintings, and a folder of photos in it."""
    folder = tmp_path_factory.mktemp("inputs")
    images.save(folder / "night.png", small.picture("starry_night", 48, 40))
    images.save(folder / "cat.png", small.picture("chelsea", 40, 48))
    (folder / "photos").mkdir()
    for seed in range(12):
        images.save(folder / "photos" / f"{seed}.png", picture(seed))
    return folder


@pytest.fixture
def train(inputs, tmp_path, monkeypatch, capfd):
    """Return a function that runs the command in an empty folder: code, output, messages."""
    monkeypatch.setitem(recipes.PRESETS, "shallow", small.shallow())
    monkeypatch.chdir(tmp_path)

    def run(*words, paintings=("night.png", "cat.png"), photos="photos"):
        named = [str(inputs / name) for name in paintings]
        given = ["--photos", str(inputs / photos)] if photos else []
        options = ["--recipe", "shallow", "-o", "style.h5", "--no-cache", *SIZES]
        code = cli.main(["train", *named, *given, *options, *map(str, words)])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_it_writes_a_network_samples_and_a_checkpoint(train, tmp_path):
    for name in ("style.h5", "style.checkpoint.h5", "style_samples.png"):
        (tmp_path / f".{name}.0123abcd.part").touch()  # of a killed process
    code, out, err = train("--steps", 6, "--every", 3, "--lr", 0.01)
    assert (code, out) == (0, "style.h5\n"), err
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"style.h5", "style.checkpoint.h5", "style_samples.png"}
    found = style_files.read_style_file(tmp_path / "style.h5")
    assert found.network.styles == ("night", "cat")
    facts = found.facts["training"]
    assert facts["updates"] == 6 and facts["measured_after"] == [0, 3, 6]
    assert facts["held_out_loss"] == min(facts["held_out_losses"])
    assert found.facts["recipe"] == "shallow" and found.facts["photos"]["count"] == 12
    sheet = images.load(tmp_path / "style_samples.png")
    assert sheet.shape[0] > 100 and sheet.shape[1] > 100  # two photos held out, two styles
    for words in ("device      cpu", "paintings   night, 40x48 px; cat, 48x40 px", "photos      12",
                  "training    6 updates by 2 crops of 32 px, width 0.2", "update 6 of 6: loss",
                  "held out", "pictures/s", "compiled in", "done in"):  # fmt: skip
        assert words in err, words
    # The checkpoint is not overwritten, and goes on where it ended.
    code, _, err = train("--steps", 6, "--every", 3, "--lr", 0.01)
    assert code == 2 and "style.checkpoint.h5' exists; add `--resume`" in err
    code, _, err = train("--steps", 8, "--every", 3, "--lr", 0.01, "--resume")
    assert code == 0 and "resumes after 6 of 8 updates" in err
    assert style_files.load_training(tmp_path / "style.checkpoint.h5").step == 8
    code, _, err = train("--steps", 8, "--every", 3, "--lr", 0.02, "--resume")
    assert (
        code == 2
        and "`--checkpoint`: the checkpoint is of another run: learning_rate was 0.01" in err
    )


def test_a_signal_keeps_the_checkpoint_and_the_best_network(train, tmp_path, monkeypatch):
    whole = train("--steps", 6, "--every", 2, "--no-samples")
    assert whole[0] == 0
    expected = (tmp_path / "style.h5").read_bytes()
    for path in tmp_path.iterdir():
        path.unlink()
    record = app_train._Recorder.record

    def stopping(self, report, *, last):
        record(self, report, last=last)
        if report.step == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(app_train._Recorder, "record", stopping)
    code, _, err = train("--steps", 6, "--every", 2, "--no-samples")
    assert code == 143
    assert "interrupted: after 4 of 6 updates; style.h5 has the best network" in err
    assert "`--resume` continues from style.checkpoint.h5" in err
    assert style_files.load_network(tmp_path / "style.h5").styles == ("night", "cat")
    monkeypatch.undo()
    monkeypatch.setitem(recipes.PRESETS, "shallow", small.shallow())
    monkeypatch.chdir(tmp_path)
    assert train("--steps", 6, "--every", 2, "--no-samples", "--resume")[0] == 0
    assert (tmp_path / "style.h5").read_bytes() == expected


def test_a_picture_of_samples_among_the_photos_is_refused(train, inputs, tmp_path):
    shutil.copytree(inputs / "photos", tmp_path / "photos")
    before = {path: path.read_bytes() for path in (tmp_path / "photos").iterdir()}
    for photos in ("photos", "photos/*.png"):
        code, _, err = train("-o", "photos/style.h5", photos=tmp_path / photos)
        said = (
            "`--output`: the picture of samples, 'photos/style_samples.png', would be found by "
            f"`--photos {tmp_path / photos}`, so it would be a photo of the next start; choose another "
            "folder, or add `--no-samples`"
        )
        assert code == 2 and said in err
    # A photo that was named itself is not overwritten, either.
    (tmp_path / "photos" / "0.png").rename(tmp_path / "photos" / "a_samples.png")
    given = ("--photos", "photos/a_samples.png", "--photos", "photos/1.png", "-o", "photos/a.h5")
    code, _, err = train(*given, photos=None)
    said = (
        "`--output`: 'photos/a_samples.png' is also another input or output; choose another, or add"
    )
    assert code == 2 and said in err
    (tmp_path / "photos" / "a_samples.png").rename(tmp_path / "photos" / "0.png")
    assert {path: path.read_bytes() for path in (tmp_path / "photos").iterdir()} == before


def test_a_training_beside_its_photos_resumes(train, inputs, tmp_path):
    shutil.copytree(inputs / "photos", tmp_path / "photos")
    given = {"photos": tmp_path / "photos"}
    code, _, err = train("--steps", 2, "--no-samples", "-o", "photos/style.h5", **given)
    assert code == 0, err
    code, _, err = train("--steps", 3, "--resume", "-o", "photos/style.h5", **given)
    assert code == 2 and "the picture of samples, 'photos/style_samples.png', would be found" in err
    # A glob may find the network's files, which are no photos. Fewer updates than before are refused.
    every = {"photos": tmp_path / "photos" / "*"}
    code, _, err = train("--steps", 1, "--no-samples", "--resume", "-o", "photos/style.h5", **every)
    assert code == 2 and "12, of which 2 are held out" in err and "had 2 updates, more than" in err
    # Earlier versions wrote the picture of samples among the photos.
    images.save(tmp_path / "photos" / "style_samples.png", picture(99))
    code, _, err = train("--steps", 3, "--resume", "-o", "photos/style.h5", **given)
    assert code == 0 and "resumes after 2 of 3 updates" in err, err
    facts = style_files.read_style_file(tmp_path / "photos" / "style.h5").facts
    assert facts["photos"]["count"] == 12 and facts["training"]["updates"] == 3


def test_a_disk_that_is_full_meanwhile_loses_nothing(train, tmp_path, monkeypatch):
    created, failures = _hdf5.created, []

    @contextmanager
    def full_at_first(path):
        if len(failures) < 2:
            failures.append(path.name)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        with created(path) as file:
            yield file

    monkeypatch.setattr(_hdf5, "created", full_at_first)
    code, _, err = train("--steps", 4, "--every", 2, "--lr", 0.01, "--no-samples")
    assert code == 0, err
    assert failures and "cannot write 'style.h5': No space left on device; training goes on" in err
    assert style_files.read_style_file(tmp_path / "style.h5").facts["training"]["updates"] == 4
    assert style_files.load_training(tmp_path / "style.checkpoint.h5").step == 4


def test_where_the_disk_stays_full_the_network_goes_elsewhere(train, tmp_path, monkeypatch):
    created = _hdf5.created
    (tmp_path / "full").mkdir()

    @contextmanager
    def full(path):
        if path.parent.name == "full":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        with created(path) as file:
            yield file

    monkeypatch.setattr(_hdf5, "created", full)
    code, _, err = train("--steps", 2, "--every", 2, "--no-samples", "-o", "full/style.h5")
    assert code == 1
    assert err.count("saved: ") == 2
    (network,) = tmp_path.glob("style-*.h5")
    assert style_files.read_style_file(network).facts["training"]["updates"] == 2
    (checkpoint,) = tmp_path.glob("style.checkpoint-*.h5")
    assert style_files.load_training(checkpoint).step == 2


@pytest.mark.parametrize("full", ["style.h5", "style.checkpoint.h5"])
def test_an_interrupted_training_says_which_file_is_elsewhere(train, tmp_path, monkeypatch, full):
    created, record = _hdf5.created, app_train._Recorder.record

    @contextmanager
    def full_disk(path):
        if path.name == full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        with created(path) as file:
            yield file

    def stopping(self, report, *, last):
        record(self, report, last=last)
        if report.step == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(_hdf5, "created", full_disk)
    monkeypatch.setattr(app_train._Recorder, "record", stopping)
    code, _, err = train("--steps", 6, "--every", 2, "--no-samples")
    (found,) = tmp_path.glob(f"{full.removesuffix('.h5')}-*.h5")
    assert (
        code == 143
        and f"saved: '{full}' could not be written; its contents are in '{found}'" in err
    )
    if full == "style.h5":
        assert f"; {found} has the best network" in err
        assert "`--resume` continues from style.checkpoint.h5" in err
    else:
        assert "; style.h5 has the best network" in err
        assert f"; move '{found}' to '{full}', then `--resume` continues from it" in err


def test_a_checkpoint_that_the_disk_cannot_hold_is_refused(train, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 9))
    code, _, err = train("--steps", 2)
    assert code == 2
    assert "`--checkpoint`: 'style.checkpoint.h5' takes about" in err


def test_a_signal_before_the_first_update_leaves_nothing(train, tmp_path, monkeypatch):
    def interrupted(self):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training.Training, "_measure", interrupted)
    code, _, err = train("--steps", 6)
    assert code == 143
    assert "interrupted: before the first update; nothing was written" in err
    assert list(tmp_path.iterdir()) == []


def test_where_memory_runs_out_what_was_trained_is_kept(train, tmp_path, monkeypatch):
    update = training.Training._update

    def exhausted(self):
        if self.step == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return update(self)

    monkeypatch.setattr(training.Training, "_update", exhausted)
    code, _, err = train("--steps", 6, "--every", 2, "--no-samples")
    assert code == 1
    assert "error: `--batch`: the device ran out of memory for 2 crops of 32 px at width 0.2" in err
    assert "choose a smaller `--batch`, `--crop` or `--width`" in err
    assert style_files.load_training(tmp_path / "style.checkpoint.h5").step == 2
    assert style_files.load_network(tmp_path / "style.h5").styles == ("night", "cat")


def test_a_training_that_diverges_says_so(train):
    code, _, err = train("--steps", 9, "--lr", "1e30", "--no-samples")
    assert code == 1
    assert "error: the loss is not finite at update" in err and "try a smaller `--lr`" in err


@pytest.fixture(scope="module")
def others(inputs):
    """Fill more folders: without pictures, with one, with small ones."""
    for name in ("empty", "single", "tiny"):
        (inputs / name).mkdir()
    (inputs / "empty" / "notes.txt").write_text("")
    images.save(inputs / "single" / "a.png", picture(1))
    for seed in (1, 2):
        images.save(inputs / "tiny" / f"{seed}.png", picture(seed, 20, 30))
    (inputs / "broken.h5").write_bytes(b"no style")


def test_a_style_of_a_single_layer_is_refused_by_its_flag(train, inputs):
    code, _, err = train("--style-layer", f"relu1_1={inputs / 'cat.png'}")
    assert code == 2 and "`--style-layer`: a network learns a painting as a whole" in err


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ((), {"photos": None}, "`--photos`: is missing"),
        ((), {"photos": "nowhere"}, "`--photos`: there is no file"),
        ((), {"photos": "empty"}, "contains no pictures, only 1 .txt"),
        ((), {"photos": "single"}, "`--photos`: 'a.png' is the only one that can be used; give at"),
        ((), {"photos": "tiny"}, "smaller than a crop of 32 px; name larger ones, or choose a"),
        ((), {"paintings": ["gone.png"]}, "`PAINTING`: there is no file"),
        (("--recipe", "shalow"), {}, "`--recipe`: there is no recipe 'shalow'; did you mean"),
        (("-o", "style.png"), {}, "`--output`: expected a name that ends in .h5, got 'style.png'"),
        (("-o", "no/style.h5"), {}, "`--output`: the folder 'no' does not exist"),
        (("--crop", "8"), {}, "`--crop`: expected 16 or more, got 8"),
        (("--width", "0"), {}, "`--width`: expected more than 0"),
        (("--lr", "0"), {}, "`--lr`: expected more than 0"),
        (("--batch", "3", "--devices", "2"), {}, "`--batch`: 3 crops cannot be divided among 2"),
        (("--checkpoint", "style.h5"), {}, "`--checkpoint`: 'style.h5' is also another input"),
        (("--precision", "int8"), {}, "`--precision`: there is no precision 'int8'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(train, tmp_path, words, given, said):
    code, out, err = train(*words, **given)
    assert code == 2 and not out
    (line,) = (line for line in err.splitlines() if line.startswith("nst-jax: error:"))
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_the_weights_file_of_the_environment_is_kept(train, tmp_path, monkeypatch):
    (tmp_path / "vgg.h5").write_bytes(b"weights")
    monkeypatch.setenv(weights.params.VARIABLE, str(tmp_path / "vgg.h5"))
    code, _, err = train("-o", "vgg.h5", "--overwrite")
    assert code == 2 and "`--output`: 'vgg.h5' is also another input" in err
    assert (tmp_path / "vgg.h5").read_bytes() == b"weights"


def test_a_foreign_checkpoint_is_refused(train, tmp_path, inputs):
    (tmp_path / "style.checkpoint.h5").write_bytes(b"something else")
    code, _, err = train("--resume")
    assert (
        code == 2
        and "`--checkpoint`: 'style.checkpoint.h5' is not a checkpoint of a training" in err
    )


@pytest.mark.long
def test_several_devices_share_the_crops(train, tmp_path):
    code, _, err = train("--steps", 2, "--every", 2, "--devices", "2", "--no-samples")
    assert code == 0, err
    assert "1 crop of 32 px on each of 2 devices" in err
    assert np.isfinite(style_files.load_training(tmp_path / "style.checkpoint.h5").held_out).all()
