"""The example of nodes for ComfyUI, against the interface that ComfyUI documents."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import nst_jax as nst
from tests.test_service import loaded

torch = pytest.importorskip(
    "torch", reason="ComfyUI's images are torch's; install the extra `parity`"
)

pytestmark = pytest.mark.torch

nodes = loaded(Path(__file__).parents[1] / "examples" / "comfyui_nst_jax.py")
CLASSES = nodes.NODE_CLASS_MAPPINGS
KINDS = {"IMAGE", "INT", "FLOAT"}  # of ComfyUI's types, those that the nodes use


def batch(count=2, height=20, width=24):
    return torch.rand((count, height, width, 3), generator=torch.Generator().manual_seed(0))


def defaults(node):
    """Return the values that ComfyUI's page has at first for the inputs that are no images."""
    found = {}
    for group in node.INPUT_TYPES().values():
        for name, (kind, *options) in group.items():
            if kind != "IMAGE":
                found[name] = options[0]["default"]
    return found


@pytest.mark.parametrize("node", CLASSES.values(), ids=CLASSES)
def test_a_node_has_what_comfyui_looks_for(node):
    inputs = node.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional", "hidden"} and "image" in inputs["required"]
    names = {}
    for group in inputs.values():
        for name, (kind, *options) in group.items():
            names[name] = kind
            if isinstance(kind, list):  # a menu of texts
                assert all(isinstance(text, str) for text in kind)
                assert options[0]["default"] in kind
            else:
                assert kind in KINDS
            if kind in ("INT", "FLOAT"):
                assert options[0]["min"] <= options[0]["default"] <= options[0]["max"]
    assert node.RETURN_TYPES == ("IMAGE",) and len(node.RETURN_NAMES) == 1
    assert isinstance(node.CATEGORY, str) and node.CATEGORY
    function = getattr(node(), node.FUNCTION)  # ComfyUI makes nodes without arguments
    arguments = inspect.signature(function).parameters
    assert set(arguments) == set(names)
    for name in inputs.get("optional", {}):
        assert arguments[name].default is not inspect.Parameter.empty


def test_every_node_has_a_name_for_the_menu():
    assert set(nodes.NODE_DISPLAY_NAME_MAPPINGS) == set(CLASSES)


@pytest.fixture
def calls(monkeypatch):
    """Replace `stylize` and `instant_many`: return negatives of half the size, and record the calls."""
    found = []

    def negative(content):
        return 1 - np.asarray(content, np.float32)[::2, ::2]

    def instant_many(contents, styles, **options):
        found.append((contents, styles, options))
        return [negative(content) for content in contents]

    def stylize(params, content, style, **options):
        found.append((content, style, options))
        return negative(content)

    monkeypatch.setattr(nst, "instant_many", instant_many)
    monkeypatch.setattr(nst, "stylize", stylize)
    return found


@pytest.mark.parametrize("node", CLASSES.values(), ids=CLASSES)
def test_images_are_tensors_with_floats_from_0_to_1(node, calls):
    image = batch()
    images = (
        {"style_image": batch(1, 30, 30)} if "style_image" in node.INPUT_TYPES()["required"] else {}
    )
    (result,) = getattr(node(), node.FUNCTION)(image=image, **images, **defaults(node))
    assert isinstance(result, torch.Tensor) and result.dtype == torch.float32
    assert result.shape == (2, 10, 12, 3)
    assert torch.equal(result, 1 - image[:, ::2, ::2])
    assert float(result.min()) >= 0 and float(result.max()) <= 1


def test_options_reach_the_functions(calls):
    style = batch(2, 30, 30)
    nodes.NstJaxNamedStyle().paint(batch(), "waves", 0)
    nodes.NstJaxInstant().paint(batch(), style, 0.5, 64)
    nodes.NstJaxStylize().paint(batch(1), style, "gram", 0.75, 0, 3, 7)
    assert calls[0][1] == "waves" and calls[0][2] == {"size": "as-is"}
    assert np.array_equal(calls[1][1], style[0].numpy())
    assert calls[1][2] == {"strength": 0.5, "size": 64}
    options = calls[2][2]
    assert options["steps"] == 7 and options["size"] == "as-is"
    factor = options["recipe"].terms.style_weight / nst.recipes.GRAM.terms.style_weight
    assert factor == pytest.approx(nst.recipes.strength.factor_of(0.75))


def test_what_other_nodes_may_pass(calls):
    loose = torch.cat([batch() * 1.5 - 0.2, torch.ones(2, 20, 24, 1)], -1).requires_grad_()
    nodes.NstJaxNamedStyle().paint(loose, "waves", 0)
    contents = calls[0][0]
    assert contents.shape == (2, 20, 24, 3) and contents.min() == 0 and contents.max() == 1
    with pytest.raises(ValueError, match=r"expected images \[batch, height, width, 3\], got \[20"):
        nodes.to_arrays(batch()[0])


@pytest.mark.slow
def test_a_node_paints():
    (result,) = nodes.NstJaxNamedStyle().paint(batch(1, 40, 40), "mosaic", 0)
    assert result.shape == (1, 40, 40, 3) and torch.isfinite(result).all()
    assert float(result.std()) > 0.05
