"""Exported networks: bytes of the file, its error, time of a picture, by format and encoding."""

import tempfile
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import pictures

QUESTION = (
    "Bytes of an exported file, difference of its result to this package's, seconds of a picture"
)
FULL = Plan(sizes=(128,), repeats=5)
QUICK = Plan(sizes=(48,), repeats=1)

MIXED = {3: 0.4, 19: 0.6}  # number of a style -> its share in the mixture; the choice is arbitrary
TAPS = ("relu1_1", "relu4_2")  # the shallowest and the deepest that the recipe `default` reads

Arrays = Mapping[str, np.ndarray]


class Case(NamedTuple):
    """A model to export, the inputs of its main program, and what this package computes from them."""

    model: nst.export.Model
    given: Arrays
    expected: Arrays


class Runtime(NamedTuple):
    """What runs the files of a format.

    Attributes:
      needs: packages that write and run them, by the name under which they are imported.
      recorded: packages whose versions are recorded.
      advice: how to install what is missing.
      opened: function of a file's path; returns a function from inputs to outputs, both by name.
    """

    needs: tuple[str, ...]
    recorded: tuple[str, ...]
    advice: str
    opened: Callable[[Path], Callable[[Arrays], Arrays]]


def measure(plan: Plan) -> Findings:
    """Write and run each model in each format and encoding, if the packages for it are installed."""
    notes = [
        "errors are largest and mean absolute difference to this package in float32; for activations "
        "they are divided by the largest activation of their tap"
    ]
    present = {}
    for name, runtime in RUNTIMES.items():
        missing = [package for package in runtime.needs if util.find_spec(package) is None]
        if missing:
            notes.append(f"{name} is not measured: {', '.join(missing)} missing; {runtime.advice}")
        else:
            present[name] = runtime
    rows = [
        {"size": [size, size], "model": name, "formats": _formats(case, size, present, plan)}
        for size in plan.sizes
        for name, case in _cases(size).items()
    ]
    recorded = tuple(package for runtime in present.values() for package in runtime.recorded)
    return Findings(rows, notes, recorded)


def _formats(
    case: Case, size: int, runtimes: Mapping[str, Runtime], plan: Plan
) -> dict[str, dict[str, Any]]:
    """Return, by format and encoding, what was measured; files of the same format are timed in turn."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, runtime in runtimes.items():
            paths, runs = {}, {}
            for encoding in nst.export.ENCODINGS:
                paths[encoding] = Path(folder) / f"{name}-{encoding}"
                style = case.given["style"].shape[:2] if "style" in case.given else None
                nst.export.save(
                    paths[encoding],
                    case.model,
                    to=name,
                    shape=(size, size),
                    style_shape=style,
                    encoding=encoding,
                )
                runs[encoding] = _bound(runtime.opened(paths[encoding]), case.given)
            seconds, results = harness.alternate(runs, plan.repeats)
            found[name] = {
                encoding: {
                    "bytes": path.stat().st_size,
                    **_error(results[encoding], case.expected),
                    "seconds": harness.spread(seconds[encoding]),
                }
                for encoding, path in paths.items()
            }
    return found


def _bound(run: Callable[[Arrays], Arrays], given: Arrays) -> Callable[[], Arrays]:
    return lambda: run(given)


def _error(found: Arrays, expected: Arrays) -> dict[str, float]:
    differences = [
        np.abs(np.asarray(found[name]) - right) / max(1.0, float(right.max()))
        for name, right in expected.items()
    ]
    largest = max(float(each.max()) for each in differences)
    mean = sum(float(each.sum()) for each in differences) / sum(each.size for each in differences)
    return {"largest_error": float(f"{largest:.3g}"), "mean_error": float(f"{mean:.3g}")}


# --- Models ---------------------------------------------------------------------------------------


def _cases(size: int) -> dict[str, Case]:
    content, style = (np.asarray(image, np.float32) for image in pictures(size))
    shares = np.zeros(26, np.float32)
    shares[list(MIXED)] = list(MIXED.values())
    several, any_style = nst.feed_forward.load_styles26(), nst.feed_forward.load_arbitrary()
    vgg = nst.load_params()
    image = jax.jit(nst.feed_forward.stylize_mixture)(several, content, shares)
    vector = jax.jit(nst.feed_forward.style_vector)(any_style, style)
    other = jax.jit(nst.feed_forward.stylize_with)(any_style, content, vector)
    activations = jax.jit(lambda params, image: nst.features(params, image, TAPS))(vgg, content)
    return {
        "styles26": Case(
            nst.export.styles26_model(several),
            {"content": content, "shares": shares},
            {"image": np.asarray(image)},
        ),
        "arbitrary": Case(
            nst.export.arbitrary_model(any_style),
            {"content": content, "style": style},
            {"image": np.asarray(other)},
        ),
        "features": Case(
            nst.export.features_model(vgg, taps=TAPS),
            {"images": content},
            {name: np.asarray(array) for name, array in activations.items()},
        ),
    }


# --- Runtimes -------------------------------------------------------------------------------------


def _by_jax(path: Path) -> Callable[[Arrays], Arrays]:
    with np.load(path) as file:
        weights = {name[8:]: file[name] for name in file if name.startswith("weights/")}
        main = next(name for name in file.files if name.endswith(".jax"))
        program = jax.jit(export.deserialize(bytearray(file[main])).call)
    stored = jax.device_put(weights)

    def run(given: Arrays) -> Arrays:
        found = program(stored, *given.values())
        return found if isinstance(found, dict) else {"image": found}

    return run


def _by_onnxruntime(path: Path) -> Callable[[Arrays], Arrays]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options)
    names = [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(None, dict(given)), strict=True))


def _by_litert(path: Path) -> Callable[[Arrays], Arrays]:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path)).get_signature_runner()
    return lambda given: run(**given)


RUNTIMES = {
    "stablehlo": Runtime((), (), "", _by_jax),
    "onnx": Runtime(
        ("jax2onnx", "onnxruntime"),
        ("jax2onnx", "onnxruntime"),
        "`pip install 'nst-jax[onnx]'`",
        _by_onnxruntime,
    ),
    "tflite": Runtime(
        ("tensorflow", "ai_edge_litert"),
        ("tensorflow-cpu", "ai-edge-litert"),
        "`pip install 'nst-jax[tflite]' ai-edge-litert`",
        _by_litert,
    ),
}
