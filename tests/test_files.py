"""Files are replaced whole or not at all, and keep their permissions."""

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nst_jax as nst
from nst_jax import _files, _locks, checkpoints, export, feed_forward, figures, images, weights
from nst_jax.app import outputs
from nst_jax.feed_forward import style_files
from nst_jax.images import films

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def written(path, text="new"):
    with _files.atomic(path) as part:
        # Whoever cannot read the old file cannot read the new one while it is written either.
        assert not mode_of(part) & 0o077 or not path.exists() or mode_of(path) & 0o077
        part.write_text(text)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o200])
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(mode)
    assert mode_of(written(path)) == mode
    assert path.stat().st_size == 3
    link = tmp_path / "link"
    link.symlink_to(path)
    written(link, "newer")
    assert link.is_symlink() and mode_of(path) == mode and path.stat().st_size == 5


def test_the_umask_decides_the_permissions_of_a_new_file(tmp_path):
    assert mode_of(written(tmp_path / "a")) == 0o644
    os.umask(0o077)
    assert mode_of(written(tmp_path / "b")) == 0o600


def test_where_the_group_cannot_be_kept_it_gets_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o664)
    stated = path.stat()

    def of_another_group(self, **options):
        found = os.stat(self, **options)
        values = list(found)
        values[5] += self == path
        return os.stat_result(values)

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(type(path), "stat", of_another_group)
        patched.setattr(os, "chown", refused)
        with _files.atomic(path) as part:
            part.write_text("new")
    assert mode_of(path) == 0o604 and path.stat().st_gid == stated.st_gid


def test_a_write_protected_file_is_never_replaced(tmp_path):
    path = tmp_path / "a.png"
    picture = np.zeros((4, 4, 3), np.uint8)
    images.save(path, picture)
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"it is write-protected: '.*a.png'"):
        written(path)
    said = f"^`output`: '{path}' is write-protected; choose another name, or allow writing to it$"
    for check in (_files.check_destination, images.check_output, outputs.check_file):
        with pytest.raises(ValueError, match=said):
            check(path, argument="output")
    with pytest.raises(ValueError, match="`path`: .* is write-protected"):
        images.save(path, picture)
    frames = tmp_path / "frames"
    frames.mkdir()
    path.rename(frames / "step_00001.png")
    made = outputs.Outputs(picture=path, frames=frames)
    with pytest.raises(ValueError, match=r"`frames`: '.*step_00001.png' is write-protected"):
        outputs.check_outputs(made, [])
    assert (frames / "step_00001.png").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["frames"]


def test_an_error_names_the_file_and_leaves_it(tmp_path):
    path = written(tmp_path / "a", "old")
    said = "No space left on device: '.*/a'$"
    with pytest.raises(OSError, match=said) as error, _files.atomic(path):
        raise OSError(28, "No space left on device")
    assert error.value.errno == 28
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


# --- Locks ------------------------------------------------------------------------------------------


def test_a_file_is_reserved_once(tmp_path):
    path, link = tmp_path / "run.h5", tmp_path / "link.h5"
    link.symlink_to(path)
    with _files.reserved(path), _files.reserved(tmp_path / "other.h5"):
        for name in (path, link):
            with (
                pytest.raises(ValueError, match=r"^`log`: '.*' is in use by another run"),
                _files.reserved(name, argument="log"),
            ):
                pass
    with _files.reserved(link):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["link.h5"]


def test_a_killed_process_leaves_no_lock(tmp_path):
    path = tmp_path / "run.h5"
    text = (
        "import os, signal, sys\n"
        "from nst_jax import _files\n"
        "with _files.reserved(sys.argv[1]):\n"
        "    print('reserved', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-c", text, str(path)]
    child = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert child.returncode == -signal.SIGKILL and child.stdout == "reserved\n", child.stderr
    assert [each.name for each in tmp_path.iterdir()] == [".run.h5.lock"]
    with _files.reserved(path):
        pass
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_locks_nothing_is_reserved(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_locks.fcntl, "flock", unsupported)
    with _files.reserved(tmp_path / "a"), _files.reserved(tmp_path / "a"):
        written(tmp_path / "a")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    part = _files.temporary_path(tmp_path / "a")
    part.touch()
    _files.remove_leftovers([tmp_path / "a"])
    assert part.exists()  # it may be in use


def test_only_regular_files_are_reserved(tmp_path):
    with _files.reserved("/dev/null"), _files.reserved("/dev/null"):
        assert not os.path.exists("/dev/.null.lock")


def test_a_file_that_is_being_written_is_no_leftover(tmp_path):
    path = tmp_path / "a"
    left = _files.temporary_path(path)
    left.touch()
    with _files.atomic(path) as part:
        _files.remove_leftovers([path])
        assert part.exists() and not left.exists()
        part.write_text("whole")
    assert path.read_text() == "whole"


def test_a_file_taken_for_a_leftover_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, seen = _locks.lock, []

    def late(descriptor, **options):
        if not seen:
            seen.append(next(tmp_path.glob(".*.part")))
            seen[0].unlink()
        return lock(descriptor, **options)

    monkeypatch.setattr(_locks, "lock", late)
    assert written(tmp_path / "a").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a"] and seen


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("https://a.org/b.jpg", "https://a.org/b.jpg"),
        (Path("https://a.org/b.jpg"), "https://a.org/b.jpg"),
        (Path("folder") / "s3://bucket/b.jpg", "s3://bucket/b.jpg"),
        ("file:///home/b.jpg", "file:///home/b.jpg"),
        ("file://server/b.jpg", "file://server/b.jpg"),
        (Path("file:///home/b.jpg"), "file:///home/b.jpg"),
        ("https.jpg", None),
    ],
)
def test_urls_are_recognised_in_paths(typed, url):
    assert _files.url_in(typed) == url


def test_a_name_made_of_names_is_cut_only_if_it_is_too_long(tmp_path):
    for stem, ending in (("a" * 251, ".png"), ("絵" * 83, "_2.png"), ("a", ".png")):
        assert _files.fitting_name(stem, ending) == stem + ending
    for stem in ("a" * 252, "絵" * 84, "a" * 250 + "絵"):
        name = _files.fitting_name(stem, ".png")
        digest = hashlib.sha256(stem.encode()).hexdigest()[:8]
        assert name == f"{stem.encode()[:200].decode(errors='ignore')}-{digest}.png"
        (tmp_path / name).touch()
    names = {_files.fitting_name("a" * 300 + end, ".png") for end in "bcd"}
    assert len(names) == 3


@pytest.mark.parametrize("check", [_files.check_place, _files.check_destination])
def test_a_name_that_the_system_refuses_is_refused_in_one_line(tmp_path, check):
    with pytest.raises(
        ValueError, match="^`path`: cannot write 'x*': File name too long; choose a shorter name$"
    ):
        check(tmp_path / ("x" * 300))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="^`path`: '.*file' is no folder; choose another place"):
        check(tmp_path / "file" / "name")
    with pytest.raises(
        ValueError, match="^`path`: the folder '.*' does not exist; create it first"
    ):
        check(tmp_path / "none" / "name")


# Every public function that takes the path of a file, with other arguments that come after the path.
WITH_PATHS = {
    "checkpoints.save": lambda path: checkpoints.save(path, None),
    "checkpoints.load": checkpoints.load,
    "load_params": nst.load_params,
    "save_params": lambda path: nst.save_params(path, None),
    "weights.read_info": weights.read_info,
    "load_arbitrary": feed_forward.load_arbitrary,
    "load_styles26": feed_forward.load_styles26,
    "load_network": feed_forward.load_network,
    "save_network": lambda path: feed_forward.save_network(path, None),
    "load_training": style_files.load_training,
    "save_training": lambda path: style_files.save_training(path, None),
    "convert": lambda path: weights.convert.convert(path, "out.h5"),
    "export.save": lambda path: export.save(path, None, to="onnx"),
    "export.check_suffix": lambda path: export.saving.check_suffix(path, "onnx"),
    "images.check_output": images.check_output,
    "images.check_fits": lambda path: images.check_fits(path, (16, 16)),
    "films.save": lambda path: films.save(path, []),
    "figures.read_log": figures.read_log,
    "figures.save_plot": lambda path: figures.save_plot(path, None),
    "cache": nst.cache,
}


@pytest.mark.parametrize("name", WITH_PATHS)
def test_what_is_no_path_is_refused_in_one_line(as_users_do, name):
    for given, kind in ((3, "int"), (["a.h5"], "list"), (b"a.h5", "bytes")):
        with pytest.raises(TypeError, match=rf"^`\w+`: expected a path, got {kind}$"):
            WITH_PATHS[name](given)
    for path in ("a\0b.png", Path("a\0b.png")):
        with pytest.raises(ValueError, match=r"^`\w+`: 'a\\x00b.png' contains a zero byte, which"):
            WITH_PATHS[name](path)


@pytest.mark.parametrize("function", [images.load, images.read_metadata])
def test_a_picture_has_no_zero_byte_in_its_path(function):
    with pytest.raises(ValueError, match=r"^`path`: 'a\\x00b.png' contains a zero byte, which"):
        function("a\0b.png")


def test_what_cannot_be_stored_is_refused_by_its_argument(tmp_path, as_users_do):
    path, shots = tmp_path / "a.h5", iter(())
    for save, argument, kind in (
        (checkpoints.save, "checkpoint", "Checkpoint"),
        (nst.save_params, "params", "Params"),
        (feed_forward.save_network, "network", "StyleNetwork"),
        (style_files.save_training, "checkpoint", "TrainingCheckpoint"),
    ):
        with pytest.raises(
            TypeError, match=f"^`{argument}`: expected {kind}, got tuple_iterator; "
        ):
            save(path, shots)
    assert not path.exists()
