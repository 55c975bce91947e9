"""The presets still give the losses that they gave: three steps against the file beside this one."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax import recipes
from tests import make_golden

pytestmark = pytest.mark.optimized

GOLDEN = json.loads(make_golden.GOLDEN.read_text())


def test_the_file_describes_itself():
    for entry in ("maker", "what", "content", "style", "key", "tolerance", "why", "versions"):
        assert GOLDEN[entry] or GOLDEN[entry] == 0
    assert GOLDEN["content"] == dict(
        zip(("sample", "height", "width"), make_golden.CONTENT, strict=True)
    )
    assert GOLDEN["key"] == make_golden.KEY and GOLDEN["tolerance"] == make_golden.TOLERANCE


def test_the_file_holds_the_named_presets():
    assert set(GOLDEN["recipes"]) == set(make_golden.NAMES) <= set(recipes.PRESETS)


@pytest.mark.parametrize(
    "name",
    [n if n == "default" else pytest.param(n, marks=pytest.mark.long) for n in GOLDEN["recipes"]],
)
def test_three_steps_give_the_losses_on_file(name, params):
    expected, found = GOLDEN["recipes"][name], make_golden.losses(params, name)
    tolerance = GOLDEN["tolerance"][name]
    for field, values in expected.items():
        assert len(values) == make_golden.STEPS + 1
        # A content loss at the content itself is zero but for rounding: judge it by the total.
        rounding = 1e-6 * np.asarray(expected["total"])
        for one, other, slack in zip(found[field], values, rounding, strict=True):
            assert_allclose(one, other, rtol=tolerance, atol=slack, err_msg=field)
