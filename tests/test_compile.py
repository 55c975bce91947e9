"""Options for XLA's compiler: which are given, which are left out, and that programs get them."""

import jax
import jax.numpy as jnp
import pytest

from nst_jax import _compile, batch_canvas, canvas


@pytest.fixture(autouse=True)
def _fresh():
    _compile.compiler_options.cache_clear()
    yield
    _compile.compiler_options.cache_clear()


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
        canvas.PROGRAMS.measure,
        canvas.PROGRAMS.run,
        batch_canvas._measure_content,
        batch_canvas._measure_style,
        batch_canvas._run_many,
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
    options = {"compiler_options": {"xla_gpu_enable_triton_gemm": False}, "donate_argnums": 0}
    assert given[-1] == options
