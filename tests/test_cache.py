"""Compiled programs that the command line keeps between starts."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from nst_jax import _compile, images
from nst_jax.app import cache

pytestmark = pytest.mark.optimized

SAMPLES = [str(images.SAMPLES[name]) for name in ("chelsea", "starry_night")]
WORDS = ["--recipe", "tf", "--size", "32", "--steps", "1"]
LISTEN = """
import sys
import jax
from nst_jax.app import cli
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None
)
code = cli.main(sys.argv[1:])
print("hits", len(hits), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(folder, *words):
    """Run the command line as a user's process would; return how many programs the cache had."""
    environment = {
        **os.environ,
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-c", LISTEN, "stylize", *SAMPLES, *WORDS, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rpartition("hits ")[2])


@pytest.mark.long
def test_a_second_start_takes_the_programs_of_the_first_and_paints_the_same(tmp_path):
    assert start(tmp_path, "-o", "first.png") == 0
    kept = set(tmp_path.glob("programs/*"))
    assert kept
    assert start(tmp_path, "-o", "none.png", "--no-cache") == 0
    assert start(tmp_path, "-o", "second.png") > 0
    assert {path for path in kept if not path.name.endswith("-atime")} <= set(
        tmp_path.glob("programs/*")
    )
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.fixture
def enabled(settings):
    """Let jax keep programs, with no folder of its own."""
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)


def test_the_users_folder_is_used(enabled, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.75)
    monkeypatch.setenv(_compile.LEAST_SECONDS_VARIABLE, "0.75")
    assert cache.use_cache() == ""
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.75
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv(_compile.LEAST_SECONDS_VARIABLE)
    assert cache.use_cache() == ""
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "nst_jax" / "programs")
    assert Path(jax.config.jax_compilation_cache_dir).is_dir()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == _compile.LEAST_SECONDS


def test_the_folder_is_only_for_its_user(enabled, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    before = os.umask(0)
    try:
        assert cache.use_cache() == ""
    finally:
        os.umask(before)
    folders = [tmp_path / "nst_jax", tmp_path / "nst_jax" / "programs"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]


@pytest.mark.parametrize("name", ["nst_jax", "nst_jax/programs"])
def test_a_folder_of_others_is_not_trusted(enabled, tmp_path, monkeypatch, name):
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    (tmp_path / "nst_jax" / "programs").mkdir(parents=True)
    os.chmod(tmp_path / name, 0o777)
    problem = cache.use_cache()
    assert "are not kept" in problem and "other users can write" in problem and name in problem
    assert "\n" not in problem and cache.programs_folder() is None
    os.chmod(tmp_path / name, 0o755)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert "belongs to another user" in cache.use_cache()
    assert cache.programs_folder() is None


@pytest.mark.parametrize(
    ("place", "limit", "least"),
    [
        ("gs://bucket/programs", None, 1.0),
        ("elsewhere", "1.0", 1.0),
        ("elsewhere", None, _compile.LEAST_SECONDS),
    ],
)
def test_jaxs_own_settings_take_precedence(enabled, here, monkeypatch, place, limit, least):
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name: here / name)
    monkeypatch.delenv(_compile.LEAST_SECONDS_VARIABLE, raising=False)
    if limit is not None:
        monkeypatch.setenv(_compile.LEAST_SECONDS_VARIABLE, limit)
    jax.config.update("jax_compilation_cache_dir", place)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    assert cache.use_cache() == ""
    assert jax.config.jax_compilation_cache_dir == place
    assert jax.config.jax_persistent_cache_min_compile_time_secs == least
    assert not list(here.iterdir())


def test_a_file_in_place_of_the_folder_is_told_and_nothing_is_kept(enabled, here):
    (here / "file").write_text("kept")
    jax.config.update("jax_compilation_cache_dir", str(here / "file"))
    assert "are not kept" in cache.use_cache() and not cache.cache_enabled()
    assert (here / "file").read_text() == "kept"


def test_nothing_is_kept_where_jax_keeps_nothing(enabled, here, monkeypatch):
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name: here / name)
    cache.disable_cache()
    assert cache.use_cache() == "" and not list(here.iterdir())
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_is_told_and_nothing_is_kept(enabled, here, monkeypatch):
    (here / "nst_jax").write_text("")
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda name: here / name)
    assert "are not kept" in cache.use_cache() and "nst_jax" in cache.use_cache()
    assert jax.config.jax_compilation_cache_dir is None


def test_somebody_without_a_home_can_still_run(enabled, monkeypatch):
    def homeless(name):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(cache.platformdirs, "user_cache_path", homeless)
    assert "home directory" in cache.use_cache()


# --- Damaged entries --------------------------------------------------------------------------------


@pytest.fixture
def compiled(enabled, tmp_path):
    """Compile a program with the cache in a folder; return how to do that again, and the entry."""

    def again():
        jax.clear_caches()
        return float(jax.jit(lambda x: x + 3, inline=True)(2.0))

    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    assert again() == 5
    (entry,) = (tmp_path / "programs").glob("jit__lambda-*-cache")
    yield again, entry
    compilation_cache.reset_cache()


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b[:99] + b"?" * 9])
def test_a_damaged_entry_is_deleted_said_once_and_made_again(compiled, damage):
    again, entry = compiled
    other = entry.with_name("jit_other-0-cache")
    other.write_bytes(b"")
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    lines = []
    with cache.mended(lines.append):
        assert again() == 5 and again() == 5
        said = (
            f"the compiled program 'jit__lambda' in '{entry.parent}' was damaged; it is deleted and"
        )
        assert lines == [f"note: {said} made again"]
        assert other.exists() and len(entry.read_bytes()) > len(whole) // 2
        with pytest.warns(UserWarning, match="another"):
            warnings.warn("another", stacklevel=1)
    assert again() == 5 and len(lines) == 1  # another warning would be an error here


def test_what_cannot_be_deleted_or_written_is_said(compiled):
    again, entry = compiled
    entry.unlink()
    entry.mkdir()
    lines = []
    with cache.mended(lines.append):
        assert again() == 5
    assert lines == [f"note: '{entry}' is damaged and cannot be deleted: Is a directory; delete it"]
    shutil.rmtree(entry.parent)
    entry.parent.write_bytes(b"")
    with cache.mended(lines.append):
        assert again() == 5 and again() == 5
    assert len(lines) <= 3 and "compiled programs are not kept: NotADirectory" in lines[-1]
