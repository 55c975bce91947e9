"""Tests run stricter than users do: implicit broadcasting and warnings are errors, annotations are
checked at every call, and there are two devices, so that nothing relies on there being one."""

import mmap
import os
from importlib.util import find_spec
from pathlib import Path

FLAGS = (
    "--xla_force_host_platform_device_count=2",
    # Most of a test is compiling, and a fifth of it does for small programs: these concern the
    # loops that XLA writes itself, while convolutions and products are calls of the same libraries.
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
)


def known_flags():
    """Return those of the flags that this jaxlib has: an unknown one would end the process."""
    (folder,) = find_spec("jaxlib").submodule_search_locations
    with (Path(folder) / "libjax_common.so").open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
            return [flag for flag in FLAGS if library.find(flag[2:].split("=")[0].encode()) >= 0]


# Before jax is imported. What the caller says comes last and wins.
os.environ["XLA_FLAGS"] = " ".join((*known_flags(), os.environ.get("XLA_FLAGS", "")))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("NST_JAX_WEIGHTS", None)  # the embedded weights are the ones under test

import jaxtyping

from tests import typechecker

jaxtyping.install_import_hook("nst_jax", f"{typechecker.__name__}.check")

import jax
import pytest

from tests import small

jax.config.update("jax_numpy_rank_promotion", "raise")

_compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        _compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
)


@pytest.fixture(scope="session")
def compilations():
    """Return a function that tells how many programs XLA has compiled so far."""
    return lambda: len(_compiled)


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
    """Put no type checker before the package's own checks for one test."""
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


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch", reason="install the extra `parity`")
    torch.set_num_threads(1)  # its threads and XLA's would wait for each other
    return torch
