"""Style files: what is written comes back, and every other file is refused in one line."""

import json
import os
from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import _hdf5
from nst_jax.app import cli
from nst_jax.feed_forward import johnson, style_files
from tests.shell import refused

STYLES = ("wave", "mosaic")


@pytest.fixture(scope="module")
def network():
    params = johnson.fresh_params(jax.random.key(3), 2, width=0.1, blocks=2)
    return johnson.StyleNetwork(params, STYLES)


@pytest.fixture
def path(tmp_path, network):
    path = tmp_path / "style.h5"
    style_files.save_network(path, network, facts={"recipe": "tf", "losses": [2.5, 1.25]})
    return path


def test_what_is_written_comes_back(path, network):
    found = style_files.read_style_file(path)
    assert found.network.styles == STYLES
    jax.tree.map(assert_array_equal, found.network.params, network.params)
    assert found.facts == {"styles": list(STYLES), "recipe": "tf", "losses": [2.5, 1.25]}
    assert nst.feed_forward.load_network(path).styles == STYLES


def test_what_is_written_comes_back_where_arrays_may_be_float64(tmp_path, x64):
    params = johnson.fresh_params(jax.random.key(3), 2, width=0.1, blocks=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("f4")}
    style_files.save_network(tmp_path / "style.h5", johnson.StyleNetwork(params, STYLES))
    found = style_files.load_network(tmp_path / "style.h5")
    jax.tree.map(assert_array_equal, found.params, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype("f4")}


def test_info_prints_what_a_file_says_of_its_training(path, capsys):
    assert cli.main(["info", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    digest = style_files.read_style_file(path).digest
    assert found == {
        "digest": digest,
        "styles": list(STYLES),
        "recipe": "tf",
        "losses": [2.5, 1.25],
    }
    path.write_bytes(path.read_bytes()[:-100])
    refused((cli.main(["info", str(path)]), *capsys.readouterr()), "`FILE`", "style.h5")


def test_equal_networks_give_equal_bytes(path, network, tmp_path):
    facts = {"recipe": "tf", "losses": [2.5, 1.25]}
    style_files.save_network(tmp_path / "again.h5", network, facts=facts)
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def rewritten(path, change):
    """Change a style file's arrays and write it again, with the digest of what it then has."""
    source = _hdf5.Source(path, "path", style_files.STYLE_FORMAT)
    with _hdf5.opened(source) as file:
        arrays = _hdf5.arrays_in(source, file)
    change(arrays)
    head = [style_files.STYLE_FORMAT.name, style_files.STYLE_FORMAT.version]
    with _hdf5.created(path) as file:
        _hdf5.store(file, arrays)
        file.attrs.update(
            {"format": head[0], "version": head[1],
             "digest": style_files.digest_of(head, arrays)}
        )  # fmt: skip


def as_bytes(value):
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop("facts"), "is damaged or cut short"),
        (lambda a: a.update(facts=as_bytes([1])), "facts is no JSON object"),
        (lambda a: a.update(facts=as_bytes({"styles": []})), "it does not name its styles"),
        (
            lambda a: a.update(facts=as_bytes({"styles": ["one"]})),
            "it names 1 styles and has the norms of 2",
        ),
        (lambda a: a.pop("layers/decode2/gamma"), "decode2/gamma is missing"),
        (lambda a: a.update({"layers/more": np.zeros(2, "f4")}), "more .* is not expected"),
        (lambda a: a.pop("layers/encode2/gamma"), "the arrays of another network"),
        (lambda a: a.update({"layers/encode1/gamma": np.zeros((2, 3), "f8")}), "float64"),
    ],
)
def test_files_that_are_no_network_of_this_kind_are_refused(path, change, said):
    rewritten(path, change)
    with pytest.raises(ValueError, match=rf"`style`: '.*style.h5' .*{said}"):
        style_files.load_network(path, argument="style")


def test_a_wrong_digest_is_refused(path):
    with h5py.File(path, "r+") as file:  # which drops the checksum of the bytes
        file.attrs["digest"] = "0" * 64
    with pytest.raises(ValueError, match="has digest .* but states 0000|damaged"):
        style_files.load_network(path)


def test_other_files_are_refused(tmp_path, path):
    with pytest.raises(
        ValueError, match="`path`: .* is not a style file of nst-jax; `nst-jax train"
    ):
        style_files.load_network(nst.weights.params._find(None).path)
    later = tmp_path / "later.h5"
    with _hdf5.created(later) as file:
        file.attrs.update({"format": "nst-jax style", "version": 2})
    with pytest.raises(ValueError, match="has format version 2, expected 1; update nst-jax"):
        style_files.load_network(later)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged or cut short"):
        style_files.load_network(path)


def test_facts_may_be_scalars_of_numpy(tmp_path, network):
    facts = {"loss": np.float32(0.5), "count": [np.int64(3)], "done": {"all": np.bool_(True)}}
    style_files.save_network(tmp_path / "new.h5", network, facts=facts)
    found = style_files.read_style_file(tmp_path / "new.h5").facts
    assert found == {"loss": 0.5, "count": [3], "done": {"all": True}, "styles": list(STYLES)}


@pytest.mark.parametrize("fact", [np.zeros(2), {1, 2}, {(1, 2): 3}])
def test_facts_that_are_no_json_are_not_written(path, network, fact):
    before = path.read_bytes()
    with pytest.raises(TypeError, match="^`facts`: expected JSON values .*; leave it out"):
        style_files.save_network(path, network, facts={"x": fact})
    state, losses = {"step": np.int32(0)}, [np.float64(1.5)]
    checkpoint = style_files.TrainingCheckpoint(
        state, {}, [np.int64(0)], losses, losses, [], {}, {"x": fact}
    )
    with pytest.raises(TypeError, match="^`checkpoint`: expected JSON values"):
        style_files.save_training(path, checkpoint)
    assert path.read_bytes() == before


def test_names_of_files_that_are_not_utf8_are_kept(tmp_path, network):
    names = (os.fsdecode(b"n\xff"), "nächt")
    named, path = replace(network, styles=names), tmp_path / "new.h5"
    style_files.save_network(path, named, facts={"photos": names[0]})
    found = style_files.read_style_file(path)
    assert found.network.styles == names and found.facts["photos"] == names[0]


def test_a_network_that_is_not_finite_is_not_written(tmp_path, network):
    broken = johnson.StyleNetwork(jax.tree.map(lambda x: x * np.nan, network.params), STYLES)
    with pytest.raises(ValueError, match="not finite"):
        style_files.save_network(tmp_path / "new.h5", broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"styles": "ab"}, TypeError, "`network.styles`: expected a tuple .*, got 'ab'"),
        ({"styles": ("a", 2)}, TypeError, "`network.styles`: expected a tuple .*, got .'a', 2."),
        ({"styles": ("a",)}, ValueError, "`network.styles`: expected 2, one name for each style"),
        ({"styles": ()}, ValueError, "`network.styles`: expected 2, one name for each style"),
        ({"styles": ("a", "a")}, ValueError, "`network.styles`: a name is there twice"),
        ({"params": {"conv": np.ones(2)}}, ValueError, "`network.params`: are not the parameters"),
    ],
)
def test_a_network_that_would_not_be_read_is_not_written(tmp_path, network, change, kind, said):
    with pytest.raises(kind, match=said):
        style_files.save_network(tmp_path / "new.h5", replace(network, **change))
    more = {**network.params, "more": np.zeros(2)}
    with pytest.raises(ValueError, match="`network.params`: do not fit .* more .* is not expected"):
        style_files.save_network(tmp_path / "new.h5", replace(network, params=more))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("styles", "shares"),
    [
        (None, [0.5, 0.5]),
        ("mosaic", [0, 1]),
        ({"wave": 3, "mosaic": 1}, [0.75, 0.25]),
        ({"wave": 2}, [1, 0]),
    ],
)
def test_styles_are_chosen_by_name(styles, shares):
    assert style_files.style_shares(STYLES, styles).tolist() == shares


@pytest.mark.parametrize(
    ("styles", "said"),
    [
        ("waves", "`style`: there is no style in this file 'waves'; did you mean 'wave'?"),
        ({"wave": -1}, "`style`: expected 0 or more"),
        ({"wave": 0}, "`style`: all shares are 0"),
        ({"wave": 1e308, "mosaic": 1e308}, "`style`: expected less than 1e[+]30, got 1e[+]308"),
    ],
)
def test_bad_styles_are_refused(styles, said):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        style_files.style_shares(STYLES, styles)
