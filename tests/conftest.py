"""Tests run stricter than users do: implicit broadcasting and warnings are errors, annotations are
checked at every call, and there are two devices, so that nothing relies on there being one."""

import functools
import gc
import itertools
import os
import signal
from pathlib import Path

# A shell starts background jobs with SIGINT ignored, and their child processes inherit that. Tests send
# SIGINT to processes that they start, so Python's handler is installed here.
signal.signal(signal.SIGINT, signal.default_int_handler)
# These variables must be set before `jax` is imported. The two simulated devices share the threads of
# one device, and compiling is no slower.
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=2")
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = (
    "false"  # what is compiled is counted, in every process
)
os.environ.pop("NST_JAX_WEIGHTS", None)  # the embedded weights are the ones under test

import jaxtyping

from tests import typechecker

jaxtyping.install_import_hook("nst_jax", f"{typechecker.__name__}.check")

import jax
import pytest
from jax._src import compiler
from jax.experimental.compilation_cache import compilation_cache

from nst_jax import _compile
from tests import small

jax.config.update("jax_numpy_rank_promotion", "raise")

# Most of a test is compiling, for which XLA takes less than half the time with `QUICK_TO_COMPILE`. So
# the programs of this process are compiled like that, except in tests with one of the markers
# `OPTIMIZED`: these are compiled as for users. So is everything in processes that tests start, on other
# platforms, if a test that is run by hand is among those selected, and if the variable is set.
OPTIMIZED = ("optimized", "accelerator", "torch")
BY_HAND = ("long", "stress", "export")
VARIABLE = "NST_JAX_TESTS_OPTIMIZED"
QUICK_TO_COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,  # MLIR's passes take the most time
    "xla_cpu_parallel_codegen_split_count": 1,  # one LLVM module, whatever the number of processors
}
_is_quick = pytest.StashKey[bool]()  # of a test
_before = pytest.StashKey[dict]()  # the result of `_settings` before a test
_quick_options = []  # those that are added to every compilation now
_get_compile_options = compiler.get_compile_options


@functools.cache
def _known_options():
    """Return those of `QUICK_TO_COMPILE` that the installed version of XLA accepts."""
    return [option for option in QUICK_TO_COMPILE.items() if _compile._is_known(*option)]


def _with_quick_options(*arguments, **named):
    found = _get_compile_options(*arguments, **named)
    found.env_option_overrides = [*_quick_options, *found.env_option_overrides]
    return found


compiler.get_compile_options = _with_quick_options  # JAX has no setting of options for all programs

_compiled = []  # the name of each program that XLA has compiled so far
_counted = []  # the numbers that `compilations` has returned in this test


def _note_compiled(event, duration_secs, **details):
    if event.endswith("backend_compile_duration"):
        _compiled.append(details.get("fun_name", "a program without a name"))


jax.monitoring.register_event_duration_secs_listener(_note_compiled)


def _settings():
    """Return the settings of this process that `nst_jax.cache` and `jax.config.update` change."""
    return {**jax.config.values, "nst_jax's programs in memory": _compile.programs_in_memory()}


MAPS = Path("/proc/self/maps")  # one line for each memory mapping of this process; Linux only

# Every program that XLA compiles for a CPU adds memory mappings. Linux allows 65530 mappings for a
# process by default; when there are no more, XLA aborts the process.
MOST_MAPS = 30_000


def pytest_collection_finish(session):
    """Exempt from garbage collection what lives as long as the process, such as modules and tests."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Choose how the programs of each test are compiled; in a module, put alike ones together."""

    def has(item, markers):
        return any(map(item.get_closest_marker, markers))

    some = os.environ["JAX_PLATFORMS"] == "cpu" and not os.environ.get(VARIABLE)
    some = some and not any(has(item, BY_HAND) for item in items)
    for item in items:
        item.stash[_is_quick] = some and not has(item, OPTIMIZED)
    modules = {module: index for index, module in enumerate(dict.fromkeys(i.module for i in items))}
    items.sort(key=lambda item: (modules[item.module], item.stash[_is_quick]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile as was chosen for this test; drop programs that were compiled otherwise."""
    _counted.clear()
    item.stash[_before] = _settings()
    options = _known_options() if item.stash[_is_quick] else []
    if options != _quick_options:
        _quick_options[:] = options
        jax.clear_caches()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Name the programs that were compiled between the counts of a test that has failed."""
    report = yield
    if report.failed and len(_counted) > 1:
        lines = [
            f"from {first} to {last}: {', '.join(_compiled[first:last]) or 'none'}"
            for first, last in itertools.pairwise(_counted)
        ]
        report.sections.append(("compiled programs, from count to count", "\n".join(lines)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Refuse a test that leaves other settings than it found, and drop programs if there are many.

    The settings are those of the whole process, so they would change what later tests compute and
    compile. Programs are dropped after a module if there are more than `MOST_MAPS` memory mappings.
    """
    result = yield  # the fixtures end
    after = _settings()
    before = item.stash.get(_before, after)
    changed = [name for name, value in before.items() if after[name] != value]
    _drop_programs_if_many(item, nextitem)
    assert not changed, f"the test has changed settings of the process: {', '.join(changed)}"
    return result


def _drop_programs_if_many(item, nextitem):
    if nextitem is not None and nextitem.module is item.module:
        return
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def pytest_terminal_summary(terminalreporter):
    """Print how many trials of `tests/stress` had which outcome."""
    lines = [
        line
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, line in getattr(report, "user_properties", ())
        if name == "tried" and report.when == "teardown"
    ]
    if lines:
        terminalreporter.section("trials")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def compilations():
    """Return a function that tells how many programs XLA has compiled so far."""

    def count():
        _counted.append(len(_compiled))
        return _counted[-1]

    return count


@pytest.fixture
def settings():
    """Put the settings that `nst_jax.cache` changes back after a test."""
    names = (
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    programs = _compile.programs_in_memory()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    _compile.cache(programs=programs)
    compilation_cache.reset_cache()  # otherwise JAX would go on with a folder that it has begun to use


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Let arrays be float64 for one test."""
    with small.double():
        yield


@pytest.fixture
def as_users_do():
    """Turn off the checks of annotations for one test, so that the package's own checks are reached."""
    with typechecker.paused():
        yield


@pytest.fixture(scope="session")
def params():
    from nst_jax import load_params

    return load_params()


@pytest.fixture(scope="session")
def params64(params):
    with small.double():
        return jax.tree.map(lambda x: x.astype("float64"), params)


@pytest.fixture(scope="session")
def content():
    return jax.numpy.asarray(small.picture("chelsea", 24, 32))


@pytest.fixture(scope="session")
def style():
    return jax.numpy.asarray(small.picture("starry_night", 28, 20))


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch", reason="install the extra `parity`")
    # With more, its threads and XLA's would wait for each other, and the last bits of resized pictures
    # would differ from those of the golden files. Tests of benchmarks leave another number.
    torch.set_num_threads(1)
    return torch
