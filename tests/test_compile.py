"""Options for XLA's compiler: which are given, which are left out, and that programs get them."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import _compile, batch_programs, canvas, measuring
from tests import small

pytestmark = pytest.mark.optimized


@pytest.fixture(autouse=True)
def _fresh():
    _compile._options.cache_clear()
    yield
    _compile._options.cache_clear()


def test_the_installed_jaxlib_knows_all_options():
    assert dict(_compile.compiler_options("gpu")) == dict(_compile.OPTIONS["gpu"])


def test_a_platform_without_options_gets_none():
    assert dict(_compile.compiler_options("cpu")) == dict(_compile.compiler_options("tpu")) == {}


def test_an_unknown_option_is_left_out(monkeypatch):
    wanted = {"gpu": {"xla_gpu_of_another_version": True, "xla_gpu_enable_triton_gemm": False}}
    monkeypatch.setattr(_compile, "OPTIONS", wanted)
    assert dict(_compile.compiler_options("gpu")) == {"xla_gpu_enable_triton_gemm": False}


def test_what_the_user_has_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true")
    assert dict(_compile.compiler_options("gpu")) == {}


@pytest.mark.parametrize(
    "program",
    [
        *measuring.PROGRAMS,
        canvas.PROGRAMS.run,
        batch_programs.PROGRAMS.run,
    ],
)
def test_the_programs_with_convolutions_are_compiled_with_options(program):
    assert isinstance(program, _compile.Jitted)


def test_a_function_is_jitted_with_the_options_of_the_platform(monkeypatch):
    given = []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    real = jax.jit
    monkeypatch.setattr(jax, "jit", lambda f, **named: given.append(named) or real(f))
    doubled = _compile.Jitted(lambda x: 2 * x, donate_argnums=0)
    assert given == []  # not before the first call, since importing must not look for devices
    assert float(doubled(jnp.asarray(3.0))) == 6
    assert given[-1]["compiler_options"] == {"xla_gpu_enable_triton_gemm": False}
    assert given[-1]["donate_argnums"] == 0


# --- Programs in memory ---------------------------------------------------------------------------


@pytest.fixture
def two_programs(monkeypatch):
    monkeypatch.setattr(_compile, "_programs_in_memory", 2)


def doubled(x, times, *, name=""):
    return 2 * x * times if name else x


def test_the_shape_used_least_recently_is_compiled_again(two_programs, compilations):
    function = _compile.Jitted(doubled, static_argnames=("name",))
    inputs = {n: (np.ones(n, np.float32), np.float32(2)) for n in (1, 2, 3)}

    def compiled_for(n, **named):
        before = compilations()
        assert function(*inputs[n], **named).shape == (n,)
        return compilations() - before

    assert [compiled_for(n) for n in (1, 2, 1)] == [1, 1, 0]
    assert [compiled_for(n) for n in (3, 1, 2)] == [1, 0, 1]  # 3 drops 2, and 2 then drops 3
    assert compiled_for(2, name="another") == 1
    assert compiled_for(2) == 0


def test_another_number_is_not_another_program(two_programs, compilations):
    function, x = _compile.Jitted(doubled), np.ones(3, np.float32)
    function(x, 2)
    before = compilations()
    for times in (3, 4, 5):
        function(x, times)
    assert compilations() == before
    assert len(function._programs) == 1


def test_only_a_new_large_program_gives_back_what_compiling_took(monkeypatch):
    calls = []
    monkeypatch.setattr(_compile, "return_freed_memory", lambda: calls.append(1))
    large, other = _compile.Jitted(doubled, large=True), _compile.Jitted(doubled)
    for n in (1, 1, 2):
        assert other(np.ones(n, np.float32), 2).shape == (n,)
    assert calls == []
    counts = [large(np.ones(n, np.float32), 2) is not None and len(calls) for n in (1, 1, 2)]
    assert counts == [1, 1, 2]
    programs = canvas.PROGRAMS.run, batch_programs.PROGRAMS.run
    assert all(program._large for program in programs)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_freed_memory_goes_back_to_the_system_though_memory_beside_it_is_in_use():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # Pieces of 64 kB, of which every fiftieth stays.
    pieces = [np.ones(8192) for _ in range(1000)]
    kept = pieces[::50]
    del pieces
    before = resident()
    _compile.return_freed_memory()
    assert before - resident() > 40e6
    assert len(kept) == 20


def test_programs_may_return_nan_while_jax_checks_for_it(params, content, style):
    with jax.debug_nans(True):
        assert np.isnan(_compile.Jitted(jnp.sqrt)(-1.0))
        found = nst.stylize(params, content, style, recipe=small.quickest(steps=2))
        with pytest.raises(FloatingPointError):  # the user's own programs are checked as before
            jax.jit(jnp.sqrt)(-1.0)
    expected = nst.stylize(params, content, style, recipe=small.quickest(steps=2))
    assert_array_equal(found, expected)


@pytest.mark.parametrize("before", [None, "other"])
def test_programs_are_kept_in_the_folder_that_was_named_last(
    settings, tmp_path, monkeypatch, before
):
    monkeypatch.chdir(tmp_path)
    jax.jit(lambda x: 3 * x, inline=True)(2.0)  # JAX then decides that it keeps no programs
    if before is not None:
        nst.cache(before)
        jax.jit(lambda x: 4 * x, inline=True)(2.0)
    nst.cache("programs")
    monkeypatch.chdir("/")  # a folder is where it was named, whatever the current folder is later
    jax.jit(lambda x: 5 * x, inline=True)(2.0)
    assert [path.name[:11] for path in (tmp_path / "programs").glob("*-cache")] == ["jit__lambda"]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"programs": 0}, ValueError, "`programs`"),
        ({"programs": 2.5}, TypeError, "`programs`"),
        ({"folder": 3}, TypeError, "`folder`"),
        ({"folder": ""}, ValueError, "`folder`: is empty; name a folder"),
    ],
)
def test_what_cannot_be_set_is_refused(as_users_do, arguments, kind, message):
    with pytest.raises(kind, match=message):
        nst.cache(**arguments)
    assert _compile.programs_in_memory() == 64


IN_A_PROCESS = """
import sys
import jax
import nst_jax as nst
from tests import small

def resident():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024

nst.cache(sys.argv[1], programs=4)
params, recipe = nst.load_params(), small.shallow(steps=1)
content, style = nst.images.sample("chelsea"), nst.images.sample("gravel")
for index in range(int(sys.argv[2])):
    nst.stylize(params, content, style, recipe=recipe, size=32 + 2 * index)
    print(resident())
"""


def run_sizes(folder, count):
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(folder), str(count)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return [float(line) for line in done.stdout.splitlines()]


def test_programs_are_kept_in_the_folder(tmp_path):
    run_sizes(tmp_path / "programs", 1)
    assert [path for path in (tmp_path / "programs").iterdir() if path.name.startswith("jit_run")]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_forty_sizes_take_hardly_more_memory_than_eight(tmp_path):
    memory = run_sizes(tmp_path, 40)
    assert max(memory[8:]) < memory[7] + 150  # MB; without the bound, each size adds some 30
