"""Kept pictures, blind sheets and their counts, and the page `docs/quality.md`."""

import hashlib
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import benchmarks.__main__
import nst_jax as nst
from benchmarks import blind, equal_time, gallery, harness, merging, plots, quality
from benchmarks.__main__ import main
from benchmarks.gallery import Gallery, Painted
from benchmarks.harness import Plan
from docs import quality_aims, quality_page, quality_verdicts

PAIR = ("chelsea", "gravel")
OTHER = ("starry_night", "gravel")


def flat(value):
    """Return a picture of one colour that 8 bits can hold and the sample pictures do not have."""
    colour = np.asarray([value / 255, 0, 1], np.float32)
    return Painted(np.broadcast_to(colour, (16, 24, 3)), {"updates": value})


@pytest.fixture
def kept(tmp_path):
    """Return a gallery of two pairs, of which each picture has another colour."""
    found = Gallery(tmp_path / "kept")
    for pair, values in ((PAIR, {"a": 10, "b": 20, "c": 30}), (OTHER, {"a": 40, "b": 50})):
        for name, value in values.items():
            found.put(pair, 24, name, flat(value))
    return found


# --- What is painted and kept ---------------------------------------------------------------------


def test_kept_pictures_come_back_with_their_facts(kept):
    found = kept.get(PAIR, 24, "b")
    assert found.facts == {"updates": 20}
    np.testing.assert_array_equal(found.image, flat(20).image)
    assert kept.get(PAIR, 24, "d") is kept.get(PAIR, 48, "b") is None
    assert kept.names(PAIR, 24) == ["a", "b", "c"] and kept.names(OTHER, 24) == ["a", "b"]
    assert kept.pairs(24) == [PAIR, OTHER] and kept.pairs(48) == []


def test_contestants_are_recipes_with_their_own_updates_or_others():
    own, fewer = gallery.contestant("gatys-pytorch"), gallery.contestant("gatys-pytorch@30")
    assert (own.recipe.descent.steps, fewer.recipe.descent.steps) == (520, 30)
    assert gallery.contestant("gram", steps=7).recipe.descent.steps == 7
    assert gallery.contestant("instant").recipe is None
    assert set(gallery.contestant("instant").biased_raters) == {"style_vector"}
    assert set(gallery.contestant("strotss").biased_raters) == {
        "gram", "wasserstein", "self_similarity", "palette"
    }  # fmt: skip


@pytest.mark.torch
def test_the_loop_of_a_source_in_torch_is_a_contestant(params, torch):
    each = gallery.contestant("crowsonkb-pytorch", steps=6)
    ours = gallery.contestant("crowsonkb@6")
    assert gallery.contestant("crowsonkb-pytorch").recipe == nst.recipes.named("crowsonkb")
    random = np.random.default_rng(0)
    content, style = random.random((2, 40, 48, 3), np.float32)
    each.warm_up(params, content, style, "long:48")
    found, expected = (one.paint(params, content, style, "long:48") for one in (each, ours))
    assert found.image.shape == expected.image.shape == (40, 48, 3)
    assert found.facts["updates"] == expected.facts["updates"] == 6
    assert found.facts["versions"]["torch"] == torch.__version__
    np.testing.assert_allclose(found.facts["final_loss"], expected.facts["final_loss"], rtol=1e-4)
    # Adam moves a pixel by as much for a tiny gradient as for a large one, so single pixels may differ.
    assert np.abs(found.image - expected.image).mean() < 1e-4


def test_without_torch_the_loop_of_a_source_is_refused(params, monkeypatch):
    monkeypatch.setattr(gallery.pytorch, "has_torch", lambda: False)
    each, picture = gallery.contestant("crowsonkb-pytorch"), np.zeros((24, 24, 3), np.float32)
    with pytest.raises(ValueError, match="`recipe`: crowsonkb-pytorch needs torch"):
        each.warm_up(params, picture, picture, "long:24")


def test_the_command_of_pastiche_is_a_contestant(tmp_path, monkeypatch):
    """A program of a few lines stands in for the command: it copies the content, and prints a loss."""
    program = tmp_path / "pastiche"
    program.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\n"
        "if '--version' in sys.argv: print('pastiche 0'); sys.exit()\n"
        "named = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "assert (named['--size'], named['--num-steps']) == ('24', '7')\n"
        "shutil.copy(named['--content'], named['--output'])\n"
        "print('6 1.5 2.25')\n"
    )
    program.chmod(0o755)
    each = gallery.contestant("pastiche-command", steps=7)
    assert gallery.contestant("pastiche-command").recipe.descent.steps == 1000
    assert each.biased_raters == nst.raters.biased_raters(nst.recipes.PASTICHE)
    content, style = flat(10).image, flat(200).image
    monkeypatch.setenv("PASTICHE", str(program))
    each.warm_up({}, content, style, "long:24")
    painted = each.paint({}, content, style, "long:24")
    np.testing.assert_array_equal(painted.image, content)
    assert painted.facts["updates"] == 7 and painted.facts["final_loss"] == 2.25
    assert painted.facts["program"] == "pastiche 0" and painted.facts["processor_seconds"] > 0
    assert painted.facts["seconds"]["median"] > 0 and painted.facts["precision"] == "float32"
    monkeypatch.delenv("PASTICHE")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="pastiche-command needs the command of pastiche"):
        each.warm_up({}, content, style, "long:24")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--recipe", "gatis", "no recipe 'gatis'"),
        ("--recipe", "gram@", "expected a recipe, perhaps with a factor of its"),
        ("--pair", "chelsea", "expected CONTENT:STYLE"),
    ],
)
def test_bad_contestants_and_pairs_are_refused_before_anything_is_painted(option, value, message):
    done = CliRunner().invoke(main, ["quality", option, value])
    assert done.exit_code == 2 and message in done.output


def test_options_of_quality_are_refused_elsewhere(tmp_path):
    done = CliRunner().invoke(main, ["step", "--keep", str(tmp_path)])
    assert done.exit_code == 2 and "only `quality` reads them" in done.output
    done = CliRunner().invoke(main, ["quality", "--no-paint"])
    assert done.exit_code == 2 and "nothing to rate without `--keep`" in done.output


def test_a_picture_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"`pair`: no picture 'cat'; there are chelsea, gravel, "):
        gallery.found("cat", None)


def test_pictures_are_cropped_to_one_shape():
    wide, high = np.zeros((30, 90, 3), np.float32), np.zeros((80, 40, 3), np.float32)
    wide[:, 25:65] = 1  # the part in the middle, 30 x 40
    found = gallery.prepared(wide, 48, "4:3")
    assert found.shape == gallery.prepared(high, 48, "4:3").shape == (36, 48, 3)
    np.testing.assert_allclose(found, 1, atol=1e-6)
    assert gallery.prepared(high, 48, None) is high
    assert gallery.ratio_of("16:10") == (16, 10)
    done = CliRunner().invoke(main, ["quality", "--crop", "4x3"])
    assert done.exit_code == 2 and "expected WIDTH:HEIGHT, such as 4:3, got '4x3'" in done.output


def test_a_picture_that_fails_does_not_end_the_others(tmp_path):
    words = ["quality", "--paint-only", "--recipe", "instant", "--sizes", "32", "--crop", "4:3"]
    words += ["--pair", "cat:gravel", "--pair", "chelsea:gravel", "--keep", str(tmp_path)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and "1 pictures were not painted: cat--gravel--32--i" in done.output
    one = Gallery(tmp_path).get(PAIR, 32, "instant")
    assert one.image.shape == (24, 32, 3)
    assert (one.facts["crop"], one.facts["precision"]) == ("4:3", "float32")
    assert one.facts["device"]["platform"] == "cpu" and one.facts["seconds"]["median"] > 0
    again = CliRunner().invoke(main, [*words[:8], *words[10:]])
    assert again.exit_code == 0 and "instant" not in again.output  # it is not painted again
    assert "name the case" in CliRunner().invoke(main, ["quality", "--paint-only"]).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["step", "--at-once", "3"], "only `quality` reads"),
        (["quality", "--at-once", "3"], "name the folder with `--keep`"),
        (["quality", "--prepared", "saved"], "name their folder with `--pictures`"),
        (
            ["quality", "--prepared", "x", "--pictures", ".", "--keep", ".", "--paint-only"],
            "without `--paint-only`",
        ),
        (["step", "--equal-time", "default"], "only `quality` reads"),
        (
            ["quality", "--equal-time", "gram@30", "--keep", "."],
            "'--equal-time': `equal_time`: expected",
        ),
        (
            ["all", "--equal-time", "instant", "--keep", "."],
            "'--equal-time': `equal_time`: expected",
        ),
        (["quality", "--equal-time", "default"], "name it with `--keep`"),
        (
            ["quality", "--recipe", "gram@default-time"],
            "is the name of what the option --equal-time",
        ),
    ],
)
def test_options_that_need_another_one_are_refused_before_work(words, said, monkeypatch):
    monkeypatch.setattr(benchmarks.__main__, "case_module", lambda name: pytest.fail(name))
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert said in " ".join(re.sub("[│╭╰╮╯]", " ", done.output).split())


def test_only_quality_paints_in_equal_time(tmp_path, monkeypatch):
    plans = {}
    monkeypatch.setattr(
        benchmarks.__main__,
        "measure",
        lambda name, plan, *rest, **options: plans.setdefault(name, plan),
    )
    words = ["head_start", "quality", "--recipe", "gram", "--equal-time", "default"]
    assert CliRunner().invoke(main, [*words, "--keep", str(tmp_path)]).exit_code == 0
    assert plans["head_start"].recipes == ("gram",)
    assert plans["quality"].recipes == ("default", "gram@default-time")


def test_no_picture_is_begun_when_the_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(quality.time, "monotonic", iter([0.0, 9.0, 11.0]).__next__)
    plan = Plan(sizes=(32,), recipes=("instant",), seconds=10, keep=tmp_path, crop="4:3")
    with pytest.raises(ValueError, match="1 pictures .*starry_night--gravel.*: no time was left"):
        quality.paint_only(replace(plan, named_pairs=(PAIR, OTHER)))
    assert Gallery(tmp_path).pairs(32) == [PAIR]


def test_what_cannot_be_rated_is_named(kept):
    left_out = []
    kept.put(PAIR, 24, "gram", flat(50))
    kept.put(PAIR, 24, "tf", Painted(flat(60).image, {"updates": 1, "crop": "4:3"}))
    kept.put(("cat", "gravel"), 24, "gram", flat(70))
    (kept.folder / "chelsea--gravel--24--nnst.png").write_bytes(b"no picture")
    (kept.folder / "chelsea--gravel--24--nnst.json").write_text("{}")
    (kept.folder / "holiday.png").write_bytes(b"")
    found = quality._entries_of(kept, Plan(sizes=(24, 48)), left_out)
    assert {key: list(names) for key, names in found.items()} == {(PAIR, 24): ["gram"]}
    for part in (
        "no recipe 'a'",
        "with `--crop 4:3`, not None",
        "no picture 'cat'",
        "24--nnst was",
    ):
        assert sum(part in line for line in left_out) >= 1, part
    with pytest.raises(ValueError, match="has no picture to rate at 48 px"):
        quality._entries_of(kept, Plan(sizes=(48,)), [])


# --- Pictures in equal time -----------------------------------------------------------------------


def made_up_paint(seconds_of):
    """Return a stand-in for `Contestant.paint` whose CPU seconds are a function of the contestant."""

    def paint(self, params, content, style, size):
        side = int(size.removeprefix("long:"))
        seconds = seconds_of(self)
        facts = {
            "updates": int(self.recipe.descent.steps),
            "precision": self.precision,
            "processor_seconds": seconds,
            "seconds": harness.spread([seconds]),
        }
        image = np.zeros((side // 2, side, 3), np.float32)
        return Painted(image, facts | gallery._machine())

    return paint


def tried(budget, own, seconds_of, guess=None):
    """Return the numbers of updates that are tried for a time, and the facts of the painting."""
    numbers, of = [], {"name": "default", "seconds": budget, "commit": "c"}

    def paint_with(updates):
        numbers.append(updates)
        facts = {"device": {"platform": "cpu"}, "processor_seconds": seconds_of(updates)}
        return Painted(None, facts | {"updates": updates})

    return numbers, equal_time.paint(of, own, paint_with, guess).facts


def test_as_many_updates_are_made_as_fit_into_a_time():
    numbers, facts = tried(20.0, [1500, 750, 750], lambda updates: 4 + updates / 2)
    assert numbers == [4, 12, 32] and facts["updates"] == 32
    assert facts["time_of"] == {"name": "default", "seconds": 20.0, "commit": "c"}
    # With one scale, the second short painting grows until its updates tell.
    numbers, facts = tried(20.0, [520], lambda updates: 5 + updates / 10)
    assert numbers == [1, 3, 9, 27, 81, 150] and not equal_time.misses(facts)
    # An update of a long painting costs more: the first number takes 27 s, the second one 18 s.
    numbers, facts = tried(20.0, [520], lambda updates: updates**1.5 / 10)
    assert numbers[:3] == [1, 3, 9] and numbers[-1] == facts["updates"]
    errors = [abs(number**1.5 / 200 - 1) for number in numbers]
    assert errors[3] > equal_time.NEAR > errors[-1]
    # Each scale needs an update, even if they take longer.
    numbers, facts = tried(1.0, [250] * 4, lambda updates: 2.0 * updates)
    assert numbers == [4] and facts["updates"] == 4 and equal_time.misses(facts)
    # An update may take as long as the whole time.
    numbers, facts = tried(20.0, [520], lambda updates: 15.0 * updates)
    assert numbers == [1, 2] and facts["updates"] == 1


def test_a_number_of_updates_that_is_likely_to_fit_is_tried_first():
    numbers, facts = tried(20.0, [520], lambda updates: 5 + updates / 10, guess=140)
    assert numbers == [140] and facts["updates"] == 140  # 19 s
    # It may be too small or too large; with a short painting, it tells the number that fits.
    numbers, facts = tried(20.0, [520], lambda updates: 5 + updates / 10, guess=60)
    assert numbers == [60, 1, 150] and facts["updates"] == 150
    numbers, facts = tried(20.0, [520], lambda updates: 5 + updates / 10, guess=300)
    assert numbers == [300, 1, 150] and facts["updates"] == 150
    # If it hardly tells more than the short one, it grows until its updates tell.
    numbers, facts = tried(20.0, [520], lambda updates: 5 + updates / 10, guess=2)
    assert numbers == [2, 1, 6, 18, 54, 150] and facts["updates"] == 150
    # Each scale needs an update.
    numbers, facts = tried(20.0, [250] * 4, lambda updates: 5.0 * updates, guess=1)
    assert numbers == [4] and facts["updates"] == 4


def test_updates_are_told_from_the_noise_of_what_all_paintings_share():
    random, longest = np.random.default_rng(0), []

    def seconds_of(updates):
        longest.append(10 * random.normal(1, 0.1) + updates / 2)
        return longest[-1]

    missed = [equal_time.misses(tried(60.0, [520], seconds_of)[1]) for _ in range(200)]
    assert sum(missed) <= 2 and max(longest) < 1.5 * 60


def test_contestants_in_equal_time_have_names_of_their_own():
    found = equal_time.recipes_in_time_of(
        "default", ["nnst", "default", "nnst", "pastiche-command"]
    )
    assert found == ("default", "nnst@default-time", "pastiche-command@default-time")
    each = gallery.contestant("nnst@default-time", steps=2)
    assert (each.clock, each.recipe) == ("default", nst.recipes.NNST)
    for name, said in (("instant", "a single pass"), ("gram@30", "a number of updates already")):
        with pytest.raises(ValueError, match=f"`equal_time`: {name} .* {said}"):
            equal_time.recipes_in_time_of("default", [name])
    for clock in ("defualt", "gram@30", "instant"):
        with pytest.raises(
            ValueError, match="`equal_time`: expected a recipe without .* got '" + clock
        ):
            equal_time.recipes_in_time_of(clock, ["gram"])


def test_every_scale_is_compiled_before_seconds_count(monkeypatch):
    made = []
    monkeypatch.setattr(gallery.Contestant, "paint", made_up_paint(lambda each: made.append(each)))
    monkeypatch.setattr(harness, "spread", lambda samples: {})
    each, content = gallery.contestant("crowsonkb"), np.zeros((384, 512, 3), np.float32)
    assert each.updates_by_scale(content, "long:512") == [1000, 500, 500, 500, 500]
    each.warm_up({}, content, content, "long:512")
    assert made[0].updates_by_scale(content, "long:512") == [1] * 5
    assert each.updates_by_scale(content, "long:256") == [1000, 500, 500]


def test_recipes_paint_in_the_time_of_another_one(tmp_path, monkeypatch):
    made = []

    def seconds_of(each):
        steps = int(each.recipe.descent.steps)
        made.append((gallery.own_and_clock(each.name)[0], steps))
        return steps / 9 if each.name == "default" else 1 + steps / 4

    monkeypatch.setattr(gallery.Contestant, "paint", made_up_paint(seconds_of))
    kept = Gallery(tmp_path / "kept")
    elsewhere = {"device": {"platform": "gpu"}, "seconds": {"median": 1.0}, "crop": None}
    for pair in (PAIR, OTHER):
        kept.put(pair, 32, "default", Painted(flat(9).image, elsewhere | {"updates": 90}))
    words = ["quality", "--paint-only", "--sizes", "32", "--keep", str(kept.folder)]
    words += ["--equal-time", "default", "--recipe", "gram", "--recipe", "gatys-pytorch"]
    words += ["--pair", "chelsea:gravel", "--pair", "starry_night:gravel"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "gram@default-time: 10 s, 36 updates in 1.00 of the time of default" in done.output
    assert kept.names(PAIR, 32) == ["default", "gatys-pytorch@default-time", "gram@default-time"]
    for pair in (PAIR, OTHER):
        facts = kept.get(pair, 32, "gram@default-time").facts
        assert facts["updates"] == 36 and facts["processor_seconds"] == 10.0
        commit = gallery._machine()["commit"]
        assert facts["time_of"] == {"name": "default", "seconds": 10.0, "commit": commit}
        assert facts["at_once"] == 1 and facts["digests"] == gallery.digests(pair, None)
        # The picture that was kept stays; it has the time on this device, too, measured once.
        one = kept.get(pair, 32, "default")
        np.testing.assert_array_equal(one.image, flat(9).image)
        assert one.facts["device"] == {"platform": "gpu"}
        assert [time["processor_seconds"] for time in one.facts["other_times"]] == [10.0]
    assert made.count(("default", 90)) == 2
    made.clear()
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 0 and made == []  # nothing is painted again
    assert "is kept" not in again.output
    gpu = kept.get(PAIR, 32, "gram@default-time").facts | {
        "device": {"platform": "gpu", "kind": "H"}
    }
    kept.put_facts(PAIR, 32, "gram@default-time", gpu)
    again = CliRunner().invoke(main, words)
    said = "gravel--32--gram@default-time: is kept from H, where 36 updates fitted into the time"
    assert again.exit_code == 0 and again.output.count("is kept") == 1 and said in again.output
    cropped = CliRunner().invoke(main, [*words, "--crop", "4:3", "--recipe", "tf"])
    assert (
        "kept default cannot be used: it was painted with `--crop None`, not 4:3" in cropped.output
    )


def test_a_time_counts_only_if_it_was_measured_as_here(monkeypatch):
    here = {"device": harness.device(), "versions": harness.versions(), "precision": "float32"}
    facts = here | {"processor_seconds": 3.0, "at_once": 2}
    assert equal_time.time_here(facts, "float32", 2) is facts
    assert equal_time.time_here(facts, "float32", 1) is None
    assert equal_time.time_here(facts, "bfloat16", 2) is None
    for other in ({"device": {"platform": "cpu"}}, {"versions": {"jax": "0"}}, {"precision": "x"}):
        away = facts | other
        assert equal_time.time_here(away, "float32", 2) is None
        assert equal_time.time_here(away | {"other_times": [facts]}, "float32", 2) is facts
    assert equal_time.time_here(here | {"seconds": {}}, "float32", 1) is None  # no CPU seconds
    monkeypatch.setattr(harness, "device", lambda: {"platform": "gpu"})
    facts = here | {"device": {"platform": "gpu"}, "seconds": {"median": 3.0}}
    assert equal_time.time_here(facts, "float32", 1) is facts


def in_time_of_default(monkeypatch, seconds_of, kept, *recipes, **more):
    """Paint with made-up seconds what is not kept, each in the time of `default`."""
    monkeypatch.setattr(gallery.Contestant, "paint", made_up_paint(seconds_of))
    recipes = equal_time.recipes_in_time_of("default", recipes)
    plan = Plan(**{"sizes": (32,), "named_pairs": (PAIR,), "keep": kept.folder} | more)
    return quality._fill(kept, {}, replace(plan, recipes=recipes))


def test_every_size_is_compiled_before_seconds_count(tmp_path, monkeypatch):
    """Pictures that are not cropped have the shapes of their files at every size."""
    warm = []
    monkeypatch.setattr(
        gallery.Contestant,
        "warm_up",
        lambda self, params, content, style, size: warm.append((self.name, size)),
    )
    kept = Gallery(tmp_path)
    assert not in_time_of_default(monkeypatch, lambda each: 9.0, kept, sizes=(32, 48))
    assert warm == [("default", "long:32"), ("default", "long:48")]


def test_a_contestant_may_have_a_factor_of_its_style_weight():
    def weight_and_updates(name):
        recipe = gallery.contestant(name).recipe
        return recipe.terms.style_weight, recipe.descent.steps

    own, updates = weight_and_updates("gram")
    assert weight_and_updates("gram@style3") == (3 * own, updates)
    assert weight_and_updates("gram@style0.5@30") == (own / 2, 30)
    timed = gallery.contestant("gram@style3@default-time")
    assert (timed.name, timed.clock) == ("gram@style3@default-time", "default")
    assert timed.recipe.terms.style_weight == 3 * own
    for name in ("gram@style", "gram@30@style3", "gram@style-1"):
        with pytest.raises(ValueError, match="^`recipe`: expected a recipe, perhaps with a factor"):
            gallery.contestant(name)


def test_a_picture_whose_losses_are_not_finite_is_not_kept(tmp_path):
    """The learning rate of `keras-io` is for 400 px."""
    kept = Gallery(tmp_path)
    plan = Plan(sizes=(64,), named_pairs=(PAIR,), keep=kept.folder, recipes=("keras-io",), steps=9)
    said = "the losses of keras-io stopped being finite within 4 updates"  # of the warm-up
    with pytest.raises(ValueError, match=f"^1 pictures were not painted: .*{said}"):
        quality.paint_only(plan)
    assert not kept.names(PAIR, 64)


def test_the_number_of_the_pair_before_is_tried_first(tmp_path, monkeypatch):
    made = []

    def seconds_of(each):
        made.append(each.recipe.descent.steps)
        return 10.0 if each.clock is None else float(made[-1])

    monkeypatch.setattr(gallery.Contestant, "warm_up", lambda *given: None)
    pairs = ("chelsea", "gravel"), ("chelsea", "starry_night")
    kept = Gallery(tmp_path)
    assert not in_time_of_default(
        monkeypatch, seconds_of, kept, "gram", named_pairs=pairs, crop="4:3"
    )
    assert made[2:] == [1, 3, 9, 9]  # after `default` of both pairs; the first 9 fitted


def test_a_clock_that_fails_is_not_painted_again(tmp_path, monkeypatch):
    made = []

    def seconds_of(each):
        made.append(each.name)
        raise MemoryError("too large")

    monkeypatch.setattr(gallery.Contestant, "warm_up", lambda *given: None)
    failed = in_time_of_default(monkeypatch, seconds_of, Gallery(tmp_path), "gram", "tf")
    assert made == ["default"]
    assert "32--default: MemoryError: too large" in failed[0]
    assert "32--tf@default-time: ValueError: `equal_time`: default failed: MemoryErr" in failed[2]


def test_a_time_that_another_process_measured_meanwhile_is_taken(tmp_path, monkeypatch):
    """The picture that it kept stays, and so do its facts."""
    kept, theirs = Gallery(tmp_path), {}

    def seconds_of(each):
        if each.name == "default":
            facts = made_up_paint(lambda each: 8.0)(each, {}, None, None, "long:32").facts
            theirs["default"] = facts | {"crop": None, "at_once": 1}
            kept.put(PAIR, 32, "default", Painted(flat(9).image, theirs["default"]))
            return 9.0
        return 8.0

    monkeypatch.setattr(gallery.Contestant, "warm_up", lambda *given: None)
    assert not in_time_of_default(monkeypatch, seconds_of, kept, "gram")
    one = kept.get(PAIR, 32, "default")
    assert one.facts == theirs["default"]
    np.testing.assert_array_equal(one.image, flat(9).image)
    assert kept.get(PAIR, 32, "gram@default-time").facts["time_of"]["seconds"] == 8.0
    # The same where the time was missing only: the picture is not written.
    kept.put_facts(PAIR, 32, "default", {"updates": 90, "crop": None})
    kept.path(PAIR, 32, "gram@default-time").with_suffix(".json").unlink()
    monkeypatch.setattr(nst.images, "save", lambda path, image: written.append(path.name))
    written = []
    monkeypatch.setattr(
        quality.equal_time, "paint", lambda of, own, paint_with, guess: paint_with(4)
    )
    seconds_of = {"default": 7.0}.get
    assert not in_time_of_default(
        monkeypatch, lambda each: seconds_of(each.name, 5.0), kept, "gram"
    )
    assert written == ["chelsea--gravel--32--gram@default-time.png"]
    facts = json.loads(kept.path(PAIR, 32, "default").with_suffix(".json").read_text())
    assert [time["processor_seconds"] for time in facts["other_times"]] == [7.0]


def test_kept_pictures_of_other_files_of_the_same_name_are_not_used(tmp_path, monkeypatch):
    kept = Gallery(tmp_path)
    facts = {"crop": None, "updates": 9}
    kept.put(PAIR, 32, "gram", Painted(flat(9).image, facts))  # older facts have no digests
    kept.put(
        PAIR, 32, "tf", Painted(flat(9).image, facts | {"digests": gallery.digests(PAIR, None)})
    )
    other = facts | {
        "digests": {"chelsea": "0" * 16, "gravel": gallery.digests(PAIR, None)["gravel"]}
    }
    kept.put(PAIR, 32, "default", Painted(flat(9).image, other))
    left_out, plan = [], Plan(sizes=(32,))
    (found,) = quality._entries_of(kept, plan, left_out).values()
    assert list(found) == ["gram", "tf"]
    (line,) = left_out
    assert "32--default was not rated: the picture 'chelsea' has the digest" in line
    assert f"and {'0' * 16} when it was painted" in line
    row = quality._row(
        lambda *given: {}, (), plan, PAIR, 32, {"tf": gallery.contestant("tf")}, {"tf": found["tf"]}
    )
    assert "digests" not in row["recipes"]["tf"] and "crop" not in row["recipes"]["tf"]
    (failed,) = in_time_of_default(monkeypatch, lambda each: 9.0, kept, "nnst")
    assert (
        "`equal_time`: kept default cannot be used: the picture 'chelsea' has the digest" in failed
    )


# --- Records to which ratings are added -----------------------------------------------------------


def rated(**recipes):
    """Return a made-up row of the pair, with one figure for each recipe."""
    ratings = dict.fromkeys(nst.raters.RATERS, 0.5)
    return {
        "pair": list(PAIR),
        "size": [18, 24],
        "crop": "4:3",
        "taps": ["relu5_2"],
        "anchors": {"the content itself": ratings},
        "recipes": {
            name: {"updates": value, "ratings": ratings} for name, value in recipes.items()
        },
    }


def test_new_rows_are_added_and_old_ones_stay():
    old = [rated(p=1, q=2), rated(p=3) | {"pair": ["x", "y"]}, rated(p=4) | {"crop": None}]
    found = merging.merged(old, [rated(q=9, r=8), rated(r=7) | {"size": [36, 48]}])
    assert [{name: one["updates"] for name, one in row["recipes"].items()} for row in found] == [
        {"p": 1, "q": 9, "r": 8},
        {"p": 3},
        {"p": 4},
        {"r": 7},
    ]


def test_pictures_without_a_machine_are_those_of_the_record():
    row = rated(p=1, q=2)
    row["recipes"]["q"]["device"] = {"kind": "gpu"}
    record = {"device": {"kind": "cpu"}, "versions": {"jax": "0"}, "rows": [row]}
    found = merging.with_machines(record)[0]["recipes"]
    assert [found[name]["device"]["kind"] for name in "pq"] == ["cpu", "gpu"]
    assert found["p"]["versions"] == {"jax": "0"} and found["p"]["updates"] == 1


def test_ratings_of_another_kind_are_not_mixed():
    merging.check_same_taps([rated(p=1)], ["relu5_2"])
    with pytest.raises(ValueError, match="was rated at relu5_2, the pictures now at relu5_1"):
        merging.check_same_taps([rated(p=1)], ["relu5_1"])
    with pytest.raises(ValueError, match="was rated at taps that it does not name"):
        merging.check_same_taps([{**rated(p=1), "taps": ["taps that it does not name"]}], ["x"])
    fewer = rated(p=1) | {"anchors": {"the content itself": {"ssim": 1.0}}}
    with pytest.raises(ValueError, match="the record has the raters ssim, not style_vector"):
        merging.check_same_taps([fewer], ["relu5_2"])
    near, far = rated(q=1), rated(q=1)
    for row, value in ((near, 0.5004), (far, 0.502)):
        ratings = dict(row["anchors"]["the content itself"], grid=value)
        row["anchors"] = {"the content itself": ratings}
    assert merging.checked_anchors([rated(p=1)], [near])
    with pytest.raises(
        ValueError, match=r"grid of the content itself of .* is 0.502 now and 0.5 in"
    ):
        merging.checked_anchors([rated(p=1)], [far])
    assert not merging.checked_anchors([rated(p=1) | {"crop": None}], [far])


def test_pictures_whose_pixels_differ_are_named(tmp_path):
    pixels = np.full((16, 16, 3), 0.5, np.float32)
    nst.images.save(tmp_path / "photo.png", pixels)
    pair = ("photo", "gravel")
    before = gallery.digests(pair, tmp_path)
    assert before["photo"] == hashlib.sha256(bytes([128]) * 768).hexdigest()[:16]
    pixels[3, 4, 1] = 0
    nst.images.save(tmp_path / "photo.png", pixels)
    now = gallery.digests(pair, tmp_path)
    assert now["gravel"] == before["gravel"]
    row = rated(p=1) | {"pair": list(pair), "digests": before}
    merging.check_same_digests([rated(p=1), row], 24, "4:3", before)
    merging.check_same_digests([rated(p=1), row], 24, None, now)  # made of another file, perhaps
    said = f"'photo' has the digest {now['photo']} now and {before['photo']} "
    with pytest.raises(ValueError, match=said):
        merging.check_same_digests([rated(p=1), row], 24, "4:3", now)
    with pytest.raises(ValueError, match=said):  # the same picture in another pair
        merging.check_same_digests([row], 24, "4:3", {"photo": now["photo"], "other": "0"})
    (found,) = merging.merged([rated(p=1) | {"pair": list(pair)}], [row])
    assert found["digests"] == before
    plan = Plan(sizes=(24,), prepared="saved as PNG")
    said = quality._preparation(plan, pair)
    assert said == {"prepared": "saved as PNG"} and quality._preparation(plan, PAIR) == {}
    (found,) = merging.merged([row | said], [row])
    assert found["prepared"] == "saved as PNG"


def by_brightness(picture, content, style, taps):
    """Rate a picture quickly: every rater says how bright it is."""
    return nst.raters.Rating(*[picture.mean()] * len(nst.raters.RATERS))


def test_a_record_is_extended_by_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "_compiled_rate", lambda params: by_brightness)
    run, kept = CliRunner().invoke, tmp_path / "kept"
    words = ["quality", "--quick", "--sizes", "96", "--crop", "4:3", "--keep", str(kept)]
    words += ["--out", str(tmp_path)]
    time = {
        "crop": "4:3",
        "updates": 9,
        "processor_seconds": 13.0,
        "seconds": harness.spread([15.0]),
        "versions": {},
        "device": harness.device(),
        "time_of": {"name": "default", "seconds": 10.0},
    }
    Gallery(kept).put(PAIR, 96, "gram@default-time", Painted(flat(9).image, time))
    del time["time_of"]
    clock = time | {"processor_seconds": 10.0}
    Gallery(kept).put(PAIR, 96, "default", Painted(flat(9).image, clock))
    done = run(main, [*words, "--recipe", "instant", "--pair", "chelsea:gravel"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "quality-cpu-quick.json"
    first = json.loads(path.read_text())
    assert first["rows"][0]["digests"] == gallery.digests(PAIR, None)
    missed = "by gram@default-time: 15 s, 9 updates in 1.30 of the time of default"
    assert f"chelsea:gravel at 96 px {missed}" in first["notes"]
    path.write_text(json.dumps(first | {"blind": {"sheets": 1}}))
    words += ["--add", "--recipe", "instant"]
    done = run(main, [*words, "--pair", "starry_night:gravel"])
    assert done.exit_code == 0, done.output
    both = json.loads(path.read_text())
    assert both["rows"][0] == first["rows"][0] and both["blind"] == {"sheets": 1}
    assert [row["pair"] for row in both["rows"]] == [list(PAIR), list(OTHER)]

    both["rows"][0]["anchors"]["the content itself"]["palette"] += 0.1
    path.write_text(json.dumps(both))
    (kept / "starry_night--gravel--96--instant.png").rename(tmp_path / "away.png")
    done = run(main, [*words, "--pair", "starry_night:gravel", "--no-paint"])
    assert done.exit_code == 1 and "has no picture to rate" in done.output
    (tmp_path / "away.png").rename(kept / "starry_night--gravel--96--instant.png")
    both["rows"] = both["rows"][:1]
    path.write_text(json.dumps(both))
    done = run(main, [*words, "--pair", "starry_night:gravel", "--no-paint"])
    assert done.exit_code == 1 and "so raters or pictures have changed" in done.output
    both["rows"][0]["digests"]["gravel"] = "0" * 16
    path.write_text(json.dumps(both))
    done = run(main, [*words, "--pair", "starry_night:gravel", "--no-paint"])
    assert done.exit_code == 1 and "the picture 'gravel' has the digest" in done.output
    assert json.loads(path.read_text()) == both  # the record is as it was


def test_ratings_are_checked_on_a_row_whose_pictures_are_still_the_same():
    first, second = (
        rated(p=1) | {"pair": list(pair), "digests": gallery.digests(pair, None)}
        for pair in (PAIR, OTHER)
    )
    first["digests"]["chelsea"] = "0" * 16
    for anchors in (first, second):
        anchors["anchors"] = {"the content itself": dict.fromkeys(nst.raters.RATERS, 0.5)}
    plan, rate = Plan(sizes=(24,)), lambda *given: dict.fromkeys(nst.raters.RATERS, 0.5)
    for row in (first, second):
        row["anchors"]["the style itself"] = row["anchors"]["the content itself"]
    quality._check_by_rating(rate, plan, [first, second])
    with pytest.raises(ValueError, match="the picture 'chelsea' has the digest"):
        quality._check_by_rating(rate, plan, [first])
    with pytest.raises(ValueError, match="so raters or pictures have changed"):
        quality._check_by_rating(
            lambda *given: dict.fromkeys(nst.raters.RATERS, 0.9), plan, [first, second]
        )
    with pytest.raises(ValueError, match="none of the record's pictures are here"):
        quality._check_by_rating(rate, plan, [first | {"pair": ["cat", "gravel"]}])


# --- Blind sheets ---------------------------------------------------------------------------------


def test_a_sheet_has_the_pictures_in_the_order_of_the_key(kept):
    drawn, key = blind.lay_out(kept, [PAIR, OTHER], 24, None, seed=1)
    assert list(drawn) == list(key) == ["sheet-01", "sheet-02"]
    for name, sheet in drawn.items():
        pictures = key[name]["pictures"]
        pair = tuple(key[name]["pair"])
        assert list(pictures) == list("ABC")[: len(pictures)]
        assert sorted(pictures.values()) == kept.names(pair, 24)
        places = {}
        for each in pictures.values():
            colour = np.round(kept.get(pair, 24, each).image[0, 0] * 255)
            rows, columns = np.nonzero(np.all(np.round(sheet * 255) == colour, axis=-1))
            places[each] = (rows.mean(), columns.mean())
        assert sorted(places, key=places.get) == list(pictures.values())


def test_orders_differ_between_seeds_and_some_contestants_can_be_left_out(kept):
    keys = [blind.lay_out(kept, [PAIR, OTHER], 24, None, seed=seed)[1] for seed in range(6)]
    assert len({json.dumps(key) for key in keys}) > 1
    _, key = blind.lay_out(kept, [PAIR, OTHER], 24, None, names=("a", "c"))
    assert [sorted(one["pictures"].values()) for one in key.values()] == [["a", "c"]]
    kept.put(PAIR, 24, "a@default-time", flat(60))
    for names, shown in (((), ["a", "b", "c"]), (("a", "a@default-time"), ["a", "a@default-time"])):
        _, key = blind.lay_out(kept, [PAIR], 24, None, names=names)
        assert sorted(key["sheet-01"]["pictures"].values()) == shown
    with pytest.raises(ValueError, match="`keep`: no pair has two pictures at 24 px"):
        blind.lay_out(kept, [PAIR], 24, None, names=("a",))
    with pytest.raises(ValueError, match="`recipe`: no pair was painted by defualt at 24 px"):
        blind.lay_out(kept, [PAIR], 24, None, names=("a", "b", "defualt"))


KEY = {
    "sheet-01": {"pair": ["x", "y"], "size": 24, "pictures": {"A": "p", "B": "q", "C": "r"}},
    "sheet-02": {"pair": ["z", "y"], "size": 24, "pictures": {"A": "q", "B": "p"}},
}


def test_verdicts_are_counted_by_hand():
    found = blind.count(KEY, {"sheet-01": ["B", "A", "C"], "sheet-02": ["B", "A"]})
    assert found == {
        "sizes": [24],
        "sheets": 2,
        "verdicts": 2,
        "first": {"p": [1, 2], "q": [1, 2], "r": [0, 1]},
        "before": {
            "p before q": [1, 2],
            "p before r": [1, 1],
            "q before p": [1, 2],
            "q before r": [1, 1],
            "r before p": [0, 1],
            "r before q": [0, 1],
        },
    }


def test_verdicts_of_several_judges_add_up():
    one, other = {"sheet-02": ["A", "B"]}, {"sheet-02": ["B", "A"]}
    found = blind.count(KEY, one, other, other)
    assert (found["sheets"], found["verdicts"]) == (1, 3)
    assert found["first"] == {"p": [2, 3], "q": [1, 3]}
    assert found["before"] == {"p before q": [2, 3], "q before p": [1, 3]}


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ({"sheet-03": ["A"]}, "`verdicts`: the key has no 'sheet-03'; it has sheet-01, sheet-02"),
        ({"sheet-02": ["A"]}, "expected the labels A, B of sheet-02 from best to worst"),
        ({"sheet-02": ["A", "A"]}, "each once, got A, A"),
    ],
)
def test_verdicts_that_do_not_fit_the_key_are_refused(verdicts, message):
    with pytest.raises(ValueError, match=message):
        blind.count(KEY, verdicts)


def test_the_commands_lay_out_and_count_into_the_record(kept, tmp_path):
    run, key = CliRunner().invoke, tmp_path / "key" / "key.json"
    words = ["lay-out", "--keep", str(kept.folder), "--size", "24", "--key", str(key)]
    done = run(blind.main, [*words, "--sheets", str(tmp_path / "sheets")])
    assert done.exit_code == 0, done.output
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [path.name for path in sheets] == ["sheet-01.png", "sheet-02.png"]
    assert nst.images.read_metadata(sheets[0]) is None
    again = run(blind.main, [*words, "--sheets", str(tmp_path / "sheets")])
    assert again.exit_code == 1 and "`--key`:" in again.output and "exists" in again.output
    beside = [*words[:-1], str(tmp_path / "sheets" / "key.json"), "--sheets", str(sheets[0].parent)]
    assert "outside the folder of the sheets" in run(blind.main, beside).output

    answers = json.loads(key.read_text())
    verdicts, record = tmp_path / "verdicts.json", tmp_path / "record.json"
    verdicts.write_text(json.dumps({name: list(one["pictures"]) for name, one in answers.items()}))
    record.write_text('{"case": "quality"}')
    words = ["count", "--key", str(key), "--verdicts", str(verdicts), "--record", str(record)]
    done = run(blind.main, words)
    assert done.exit_code == 0 and "of 2 verdicts" in done.output
    twice = run(blind.main, [*words, "--verdicts", str(verdicts)])
    assert twice.exit_code == 1 and "`--verdicts`: a file is named twice" in twice.output
    other = tmp_path / "other_verdicts.json"
    other.write_bytes(verdicts.read_bytes())
    done = run(blind.main, [*words, "--verdicts", str(other), "--judges", "two painters"])
    assert done.exit_code == 0 and "of 4 verdicts" in done.output
    entry = json.loads(record.read_text())
    assert entry["case"] == "quality"
    first, second = entry["blind"]
    assert (first["sheets"], first["verdicts"], first["judges"]) == (2, 2, "")
    assert (second["sheets"], second["verdicts"], second["judges"]) == (2, 4, "two painters")
    assert blind.with_counts(entry["blind"], second) == entry["blind"]


def test_a_count_of_the_same_judges_is_replaced_only_if_told(tmp_path):
    key, verdicts, record = (tmp_path / f"{name}.json" for name in ("key", "verdicts", "record"))
    key.write_text(json.dumps(KEY))
    record.write_text('{"case": "quality"}')
    words = ["count", "--key", str(key), "--verdicts", str(verdicts), "--record", str(record)]

    def count(labels, *more):
        verdicts.write_text(json.dumps({"sheet-02": labels}))
        done = CliRunner().invoke(blind.main, [*words, *more])
        counts = json.loads(record.read_text())["blind"]
        return done.exit_code, done.output, [one["first"] for one in counts]

    of_q, of_p = {"p": [0, 1], "q": [1, 1]}, {"p": [1, 1], "q": [0, 1]}
    before = "sheets: 1, verdicts: 1, first: p 0 of 1, q 1 of 1"
    code, said, first = count(["A", "B"], "--judges", "two painters")
    assert (code, first) == (0, [of_q]) and "replaced" not in said
    for labels in (["B", "A"], ["A", "B"]):  # equal counts may be of other sheets, too
        code, said, first = count(labels, "--judges", "two painters")
        assert (code, first) == (1, [of_q]) and before in said and "--replace" in said
        winner = {"B": "p", "A": "q"}[labels[0]]  # the counts that are refused are printed, too
        assert f"{winner}: first in 1 of 1 verdicts\n" in said
    assert count(["B", "A"], "--judges", "two others")[2] == [of_q, of_p]
    code, said, first = count(["B", "A"], "--judges", "two painters", "--replace")
    assert (code, first) == (0, [of_p, of_p]) and f"replaced: {before}\n" in said


# --- The page `docs/quality.md` -------------------------------------------------------------------


def rows(*pairs):
    """Return made-up rows: for each pair the (style vector, SSIM) of each contestant."""
    others = dict.fromkeys(nst.raters.RATERS, 0.0)
    return [
        {
            "pair": ["x", "y"],
            "size": [16, 24],
            "taps": ["relu5_2"],
            "anchors": {"the content itself": others | {"style_vector": 3.0, "ssim": 1.0}},
            "recipes": {
                name: {
                    "updates": 9,
                    "device": {"platform": "cpu", "processor": "CPU", "cores": 2},
                    "parties": {},
                    "ratings": others | {"style_vector": style, "ssim": ssim},
                }
                for name, (style, ssim) in pair.items()
            },
        }
        for pair in pairs
    ]


def test_a_recipe_is_compared_with_the_loop_of_its_source_on_pairs_of_as_many_updates():
    found = rows(
        {"crowsonkb": (1.0, 0.5), "crowsonkb-pytorch": (1.25, 0.375)},
        {"crowsonkb": (1.0, 0.5), "crowsonkb-pytorch": (0.5, 0.5)},
        {"crowsonkb": (1.0, 0.5), "crowsonkb-pytorch": (9.0, 0.5)},
        {"crowsonkb": (1.0, 0.5)},
    )
    found[2]["recipes"]["crowsonkb"]["updates"] = 10
    said = quality_page._source_loop(found)
    assert "made as many updates on 2 pairs. The method" in said
    assert "style vectors differ by up to 0.50, their SSIM by up to 0.12." in said
    for row, ours, theirs in ((found[0], 10.0, 15.0), (found[1], 30.0, 65.0), (found[2], 1.0, 9.0)):
        row["recipes"]["crowsonkb"]["processor_seconds"] = ours
        row["recipes"]["crowsonkb-pytorch"]["processor_seconds"] = theirs
    said = quality_page._source_loop(found)
    assert "`crowsonkb` took 20 CPU s, and `crowsonkb-pytorch` 40, 2.00 times as many." in said
    assert quality_page._source_loop(found[2:]) == ""


def test_pairs_on_which_one_is_ahead_are_counted_by_hand():
    found = rows(
        {"p": (1.0, 0.5), "q": (2.0, 0.5)},  # nearer at equal SSIM
        {"p": (1.0, 0.4), "q": (2.0, 0.5)},  # nearer to the style only
        {"p": (2.0, 0.5), "q": (1.0, 0.6)},
        {"p": (1.0, 0.5)},
    )
    assert quality_aims.ahead(found, "p", "q") == (1, 3)
    assert quality_aims.ahead(found, "q", "p") == (1, 3)
    assert quality_page.contestants(found) == ["p", "q"]


def test_a_tie_counts_only_where_an_aim_says_so():
    found = rows({"p": (1.0, 0.5), "q": (1.0, 0.5)}, {"p": (1.0, 0.4), "q": (1.0, 0.5)})
    assert quality_aims.ahead(found, "p", "q") == (0, 2)
    assert quality_aims.ahead(found, "p", "q", ties=True) == (1, 2)


def test_outcomes_say_who_is_nearer_where_neither_is_ahead():
    found = rows(
        {"p": (1.0, 0.5), "q": (2.0, 0.5)},
        {"p": (1.0, 0.4), "q": (2.0, 0.5)},
        {"p": (1.0, 0.4), "q": (2.0, 0.5)},
        {"p": (2.0, 0.5), "q": (1.0, 0.6)},
        {"p": (2.0, 0.7), "q": (1.0, 0.6)},
        {"p": (1.0, 0.5)},
    )
    names = {one.name: n for one, n in quality_aims.outcomes(found, "p", "q").items()}
    assert names == {"AHEAD": 1, "NEARER": 2, "BEHIND": 1, "FARTHER": 1}
    heading = (
        "| against | pairs | `p` ahead | the other ahead | neither: `p` nearer to the style | "
        "neither: the other nearer to the style |"
    )
    table = quality_page.counts_table(found, "p").splitlines()
    assert (table[0], table[2:]) == (heading, ["| `q` | 5 | 1 | 1 | 2 | 1 |"])
    # A column of ties is there only if there is one, and a biased rater is named.
    tied = rows({"p": (1.0, 0.4), "q": (1.0, 0.5)})
    tied[0]["recipes"]["q"]["parties"] = {"style_vector": "why", "gram": "other"}
    table = quality_page.counts_table(found + tied, "p")
    assert table.startswith(f"{heading} neither: both as near to the style |\n")
    assert table.endswith(
        "\n| `q`* | 6 | 1 | 1 | 2 | 1 | 1 |\n\n"
        "The star: `style_vector` is a biased rater of `q` (why), so these counts say less.\n"
    )
    assert quality_page.counts_table(rows({"p": (1.0, 0.5)}), "p") == ""
    assert quality_page.style_and_ssim(tied[0]["recipes"]["q"]) == "1.00*/0.50"


def test_a_figure_marks_whom_a_rater_is_biased_for():
    found = rows({"p": (1.0, 0.5), "q": (2.0, 0.5)}, {"p": (1.0, 0.5), "q": (2.0, 0.5)})
    plain = plots.front_panels({"rows": found})[0]
    assert (plain.x, plain.y) == ("distance of style vectors", "1 - structural similarity")
    for row in found:
        row["recipes"]["q"]["parties"] = {"style_vector": "why", "gram": "other"}
    for panel in (*plots.front_panels({"rows": found}), plots.median_front_panel(found)):
        assert [line.label for line in panel.lines[:2]] == ["p", "q*"]
        assert panel.x == "distance of style vectors (biased for *)" and panel.y == plain.y


def test_an_aim_is_missed_only_if_what_is_left_cannot_reach_it():
    judged = quality_aims.judged
    assert judged(7, 10, 7, 0) == judged(7, 8, 7, 2) == ("reached", 0)
    assert judged(4, 10, 9, 0) == ("missed", 5)
    assert judged(1, 3, 9, 7) == ("missed", 1)  # 1 + 7 pairs are 8 at best
    assert judged(1, 2, 7, 8) == judged(1, 3, 8, 7) == ("open", 0)
    with pytest.raises(ValueError, match="got 3, but only 2 were measured"):
        judged(3, 2, 7, 8)


def aims_of(found, blind=()):
    """Return the lines of the section about aims, as pairs (measured, result), by recipe and aim."""
    lines = quality_aims.section({"24 px": found}, blind).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return {(name.strip("`"), aim): tuple(more) for name, aim, *more in cells}


def test_aims_stand_beside_what_was_reached_by_hand():
    ours, nearer, farther = (2.0, 0.5), (1.0, 0.6), (3.0, 0.5)
    found = rows(
        *[{"default": ours, "gram": farther, "nnst": ours}] * 4, {"default": ours, "gram": nearer}
    )
    said = aims_of(found * 2)
    assert said["gram", "ahead on 9 of 10 pairs"] == (
        "24 px: on 8 of 10 pairs",
        "**missed** by 1 pair",
    )
    assert said["nnst", "ahead on 7 of 10 pairs"] == (
        "24 px: on 8 of 8 pairs",
        "reached; 2 of 10 pairs are not rated",
    )
    assert (
        aims_of(found)["nnst", "ahead on 7 of 10 pairs"][1] == "open; 6 of 10 pairs are not rated"
    )
    assert said["pastiche-command", "at most 1/3 of its time"][1] == "not measured"


def test_updates_that_are_not_those_of_a_recipes_own_settings_are_named():
    found = rows(*[{"default": (1.0, 0.5), "crowsonkb": (1.0, 0.5)}] * 3)
    for row, made in zip(found, (3000, 3000, 2000), strict=True):
        row["size"] = [192, 256]
        row["recipes"]["default"]["updates"] = 90
        row["recipes"]["crowsonkb"]["updates"] = made
    said = (
        "On 2 pairs at 256 px, `crowsonkb` made 3000 updates; by its own settings it makes 2000, in "
        "about 0.67 of the time.\n"
    )
    text = quality_aims.section({"256 px": found}, ())
    assert text.startswith(quality_aims.PREFACE + said + quality_aims.TABLE)
    own = quality_aims.section({"256 px": found[2:]}, ())
    assert own.startswith(quality_aims.PREFACE + quality_aims.TABLE)


def test_the_aim_of_sheets_is_counted_in_verdicts_by_hand():
    counts = {
        "sizes": [24], "sheets": 10, "verdicts": 20,
        "before": {"default before gram": [17, 20], "default before nnst": [1, 2]},
    }  # fmt: skip
    said = aims_of([], [counts])
    assert said["gram", "preferred on 9 of 10 blind sheets"] == (
        "24 px: in 17 of 20 verdicts on 10 sheets", "**missed** by 1 verdict"
    )  # fmt: skip
    assert said["nnst", "preferred on 5 of 10 blind sheets"] == (
        "24 px: in 1 of 2 verdicts on 1 sheet", "open; 9 of 10 sheets are not judged"
    )  # fmt: skip
    assert said["crowsonkb", "preferred on 5 of 10 blind sheets"][1] == "not measured"
    # A later set shows nine more pairs to three judges: 27 verdicts.
    more = {
        "sizes": [24], "sheets": 9, "verdicts": 27, "before": {"default before nnst": [20, 27]}
    }  # fmt: skip
    other = {**more, "sizes": [48]}
    assert aims_of([], [counts, more, other])["nnst", "preferred on 5 of 10 blind sheets"] == (
        "48 px: in 20 of 27 verdicts on 9 sheets", "reached; 1 of 10 sheets is not judged"
    )  # fmt: skip
    assert aims_of([], [other, counts, more])["nnst", "preferred on 5 of 10 blind sheets"] == (
        "24 px: in 21 of 29 verdicts on 10 sheets", "reached"
    )  # fmt: skip


def test_the_answer_names_against_whom_aims_are_reached_and_missed():
    ours, farther = (2.0, 0.5), (3.0, 0.5)
    behind, nearer = (1.0, 0.6), {"gram": (1.0, 0.6), "nnst": farther, "crowsonkb": ours}
    found = rows(
        *[{"default": ours, "gram": behind, "nnst": farther, "crowsonkb": ours}] * 3,
        *[{"default": ours, **nearer}] * 7,
    )
    for row in found:
        for name, taken in (("default", 2.0), ("nnst", 40.0), ("crowsonkb", 10.0)):
            row["recipes"][name]["processor_seconds"] = taken
    few = rows(*[{"default": ours, "gram": farther, "nnst": ours, "pastiche-command": ours}] * 2)
    counts = {
        "sizes": [24], "sheets": 10, "verdicts": 20, "first": {}, "judges": "one model; no person",
        "before": {"default before gram": [17, 20], "default before nnst": [11, 20]},
    }  # fmt: skip
    few_counts = counts | {
        "sizes": [48], "sheets": 1, "verdicts": 2, "before": {"default before crowsonkb": [0, 2]}
    }  # fmt: skip
    text = quality_aims.answer({"24 px, whole": found, "48 px, whole": few}, [counts, few_counts])
    raters, judges, time, rest = (line for line in text.splitlines()[2:] if line)
    assert raters.endswith(
        "on 7 or 9 of 10 pairs. This is reached against `crowsonkb` and `nnst` (24 px, whole); missed "
        "against `pastiche-command` (by at least 1 of 10 pairs) and `gram` (by 9 of 10 pairs); not "
        "measured against `gatys-pytorch`."
    )
    assert judges.endswith(
        "on 5 or 9 of 10 sheets. This is reached against `nnst` (24 px); missed against `gram` (by 1 "
        "of 20 verdicts); open against `crowsonkb`; not measured against `gatys-pytorch` and "
        "`pastiche-command`. All judges were vision-language models; no person has judged."
    )
    assert time.endswith(
        "at most 1/10 or 1/3 of the time of 3 of them. This is reached against `nnst` (0.05 of its "
        "time); missed against `crowsonkb` (0.2 of its time); not measured against "
        "`pastiche-command`. Other work ran on the CPUs, so shares measured there look "
        "smaller than they are."
    )
    assert rest == (
        "Where a range stands, it is over several canvases or machines. At 48 px some of these aims "
        "are still open: fewer pairs or sheets were measured than they speak of."
    )
    # Against `pastiche-command`, 1 pair of 9 is missing with 8 left, and 2 with 7 left.
    text = quality_aims.answer({"24 px, whole": few, "48 px, whole": [*few, few[0]]}, ())
    said = "`pastiche-command` (by 1 to 2 of 10 pairs, or by more, since not all are measured)"
    assert said in text


def test_verdicts_are_added_up_for_each_size_and_recipe_by_hand():
    def counts(size, sheets, verdicts, before, judges="two models; no person"):
        names = {name: [0, verdicts] for text in before for name in text.split(" before ")}
        return {
            "sizes": [size], "sheets": sheets, "verdicts": verdicts, "judges": judges,
            "first": names, "before": before,
        }  # fmt: skip

    three = {"default before q": [3, 4], "default before r": [9, 20], "q before r": [1, 4]}
    found = [
        counts(24, 10, 20, three),
        counts(24, 1, 4, {"default before q": [4, 4]}, "four others; no person"),
        counts(48, 3, 6, {"q before default": [4, 6], "default before q": [2, 6]}),
        counts(24, 9, 9, {"default before p@default-time": [9, 9]}),
    ]
    found[0]["first"]["q"][1] = 4
    assert quality_verdicts.table(found, "default").splitlines()[2:] == [
        "| 48 px | `q` | 3 | 6 | 2 | 4 |",
        "| 24 px | `r` | 10 | 20 | 9 | 11 |",
        "| 24 px | `q` | 3 | 8 | 7 | 1 |",
        "| 24 px | `p` in the time of `default` | 9 | 9 | 9 | 0 |",
    ]
    said = "10 sheets at 24 px showed up to 3 recipes: `default`, `q` and `r`. A verdict on such a"
    assert quality_verdicts.together(found, "default").startswith(said)
    assert "each other" in quality_verdicts.together(found, "default")
    assert quality_verdicts.together(found[1:], "default") == ""
    more = [counts(24, 2, 4, {f"default before {name}@default-time": [1, 4] for name in "pq"})]
    said = "2 sheets at 24 px showed 3 recipes: `default`; in the time of `default`: `p` and `q`. A"
    assert quality_verdicts.together(more, "default").startswith(said)
    assert "each other" not in quality_verdicts.together(more, "default")
    assert quality_page.verdicts_text([]) == "Sheets of this record were not judged yet.\n"
    assert quality_verdicts.table(found, "default") in quality_page.verdicts_text(found)


def test_the_page_says_how_often_judges_preferred_a_recipe_in_equal_time():
    before = {
        "default before gram@default-time": [3, 4],
        "gram@default-time before default": [1, 4],
        "default before tf@default-time": [4, 4],
        "tf@default-time before default": [0, 4],
        "tf@default-time before gram@default-time": [2, 4],
    }
    first = {"default": [3, 4], "gram@default-time": [1, 4], "tf@default-time": [0, 4]}
    sheets = {"sizes": [256], "sheets": 1, "verdicts": 4, "before": before, "first": first}
    said = quality_verdicts.in_equal_time([sheets], "default")
    assert said.startswith(
        "**In equal time**: where other recipes had only [the time of `default`]"
    )
    assert (
        "preferred `default` to each of `gram` and `tf` in 3 to 4 of 4 verdicts at 256 px." in said
    )
    alone = {"default before gram@default-time": [5, 8]}
    more = {**sheets, "before": alone, "first": {"default": [5, 8], "gram@default-time": [3, 8]}}
    said = quality_verdicts.in_equal_time([sheets, more], "default")
    # There are 12 verdicts on `gram`. The least share comes first.
    assert "in 8 of 12 to 4 of 4 verdicts at" in said
    larger = quality_verdicts.in_equal_time([{**more, "sizes": [512]}, sheets], "default")
    assert "in 3 to 4 of 4 verdicts at 256 px; to `gram` in 5 of 8 verdicts at 512 px." in larger
    own = {**sheets, "first": {"default": [4, 4], "gram": [0, 4]}, "before": {}}
    assert quality_verdicts.in_equal_time([own], "default") == ""


def test_the_readme_has_the_verdicts_of_the_record():
    entry = quality_page.entry_of()
    text = " ".join((quality_page.HERE.parent / "README.md").read_text("utf-8").split())
    named = re.search(r"Where ((?:`[-\w]+`(?:, | and )?)+) had only the time of `default`", text)[1]
    small = [counts for counts in entry["blind"] if counts["sizes"] == [256]]
    counts = [
        quality_aims.placed_before(small, "default", f"{name}@default-time")[:2]
        for name in re.findall(r"`([-\w]+)`", named)
    ]
    wins, judged = zip(*sorted(counts), strict=True)
    assert len(counts) == 5 and "preferred `default` to five of these" in text
    assert f"in {wins[0]} to {wins[-1]} of {judged[0]} verdicts" in text and len({*judged}) == 1
    won, of, _ = quality_aims.placed_before(small, "default", "crowsonkb")
    assert "takes some 25 times as long" in text and f"preferred to it in {won} of {of}" in text
    whole = [row for row in entry["rows"] if max(row["size"]) == 256 and not row["crop"]]
    ((ours, theirs, pairs),) = quality_aims.compared_seconds(whole, "crowsonkb").values()
    assert 20 < theirs / ours < 30 and pairs == 10


def test_the_verdicts_of_one_set_of_sheets_are_a_matrix():
    found = {
        "first": {"p@default-time": [1, 3], "default": [2, 3]},
        "before": {
            "default before p@default-time": [2, 3],
            "p@default-time before default": [1, 3],
        },
    }
    assert quality_verdicts.matrix(found).splitlines() == [
        "| | first | before `default` | before `p` |",
        "|---|---|---|---|",
        "| `default` | 2 |  | 2 |",
        "| `p` | 1 | 1 |  |",
    ]


def test_the_page_says_who_judged():
    new = "vision-language models, which had not seen the pictures before"
    two = {"sheets": 2, "verdicts": 4, "judges": f"two {new}; no person"}
    four = {
        "sheets": 1, "verdicts": 4,
        "judges": f"four other {new}, two of them with the labels exchanged; no person",
    }  # fmt: skip
    said = "All judges were vision-language models that had not seen the pictures before"
    order = "two of them saw the labels in another order. No person has judged.\n"
    assert quality_verdicts.judges([two, four]) == (
        f"{said}, two or four for each sheet; where four judged, {order}"
    )
    assert quality_verdicts.judges([four]) == f"{said}, four for each sheet; {order}"
    assert quality_verdicts.judges([two, four | {"judges": "a model; no person"}]) == (
        "All judges were vision-language models, two or four for each sheet. No person has judged.\n"
    )
    persons = two | {"judges": "Ann and Bob"}
    assert quality_verdicts.judges([persons, persons, two | {"judges": ""}]) == (
        "Judges: Ann and Bob; not recorded.\n"
    )


def test_times_are_compared_on_pairs_that_were_timed_alike():
    found = rows(*[{"default": (1.0, 0.5), "nnst": (1.0, 0.5), "gram": (1.0, 0.5)}] * 3)
    device = {"platform": "gpu", "kind": "H"}
    for row, (ours, theirs, at_once) in zip(found, [(1, 4, 1), (3, 16, 1), (9, 9, 7)], strict=True):
        for name, taken, beside in (("default", ours, 1), ("nnst", theirs, at_once)):
            row["recipes"][name] |= {
                "device": device, "seconds": {"median": float(taken)}, "at_once": beside
            }  # fmt: skip
    assert quality_aims.compared_seconds(found, "nnst") == {("H", 1): (4.0, 20.0, 2)}
    assert quality_aims.compared_seconds(found, "gram") == {}
    text, result = aims_of(found)["nnst", "at most 1/10 of its time"]
    assert text == "24 px, H: 0.2 of its time (2 s against 10 s, mean of 2 pairs)"
    assert result == "**missed**: 2 times that"
    # Seconds beside other processes are shown by themselves, and no aim is judged by them.
    for name, taken in (("default", 9.0), ("nnst", 900.0)):
        found[2]["recipes"][name] |= {"seconds": {"median": taken}, "at_once": 7}
    assert quality_aims.compared_seconds(found, "nnst") == {
        ("H", 1): (4.0, 20.0, 2), ("H", 7): (9.0, 900.0, 1)
    }  # fmt: skip
    text, result = aims_of(found)["nnst", "at most 1/10 of its time"]
    assert text == "24 px, H, 7 at once: 0.01 of its time (9 s against 900 s, mean of 1 pair)"
    assert result == "not judged: 7 at once"
    for row in found:
        for name, taken in (("default", 2.0), ("nnst", 40.0)):
            cpu = {"platform": "cpu", "processor": "P", "cores": 1}
            row["recipes"][name] |= {"device": cpu, "processor_seconds": taken}
    text, result = aims_of(found)["nnst", "at most 1/10 of its time"]
    assert text == (
        "24 px, CPU (P, 1 core): 0.05 of its time (2 CPU s against 40 CPU s, mean of 3 pairs)"
    )
    assert result == "reached"


def test_times_from_another_machine_are_not_compared_unless_both_were_timed_there():
    fast, slow = ({"platform": "cpu", "processor": name, "cores": 2} for name in ("fast", "slow"))
    before = rated(default=90, nnst=1000)
    for name, taken in (("default", 2.0), ("nnst", 40.0)):
        before["recipes"][name] |= {"device": fast, "processor_seconds": taken, "commit": "a"}
    again = rated(default=90, gram=90)
    for name, taken in (("default", 5.0), ("gram", 6.0)):
        again["recipes"][name] |= {"device": slow, "processor_seconds": taken, "commit": "b"}
    found = merging.merged([before], [again])
    assert found[0]["recipes"]["default"]["processor_seconds"] == 5.0
    assert found[0]["recipes"]["default"]["other_times"] == [
        {"device": fast, "commit": "a", "processor_seconds": 2.0}
    ]
    fast_cpu, slow_cpu = ("CPU (fast, 2 cores)", 1), ("CPU (slow, 2 cores)", 1)
    assert quality_aims.compared_seconds(found, "nnst") == {fast_cpu: (2.0, 40.0, 1)}
    assert quality_aims.compared_seconds(found, "gram") == {slow_cpu: (5.0, 6.0, 1)}
    assert quality_page._machines(found).endswith(
        "| `default` | CPU (slow, 2 cores), float32 | 1 |  |  | 5 | 5 |\n"
        "| `default` | CPU (fast, 2 cores), float32 | 1 |  |  | 2 | 2 |\n"
        "| `gram` | CPU (slow, 2 cores), float32 | 1 |  |  | 6 | 5 |\n"
        "| `nnst` | CPU (fast, 2 cores), float32 | 1 |  |  | 40 | 2 |\n"
    )
    # The machine of the record's time is the one that painted last; the same machine replaces its time.
    found = merging.merged(found, [before])
    assert [one["device"] for one in found[0]["recipes"]["default"]["other_times"]] == [slow]
    assert "other_times" not in merging.merged([before], [before])[0]["recipes"]["default"]
    # Kept facts may have times of other machines themselves. Other updates took other times.
    kept = rated(default=90)
    time = {"device": fast, "processor_seconds": 3.0}
    kept["recipes"]["default"] |= {"device": slow, "processor_seconds": 5.0, "other_times": [time]}
    (row,) = merging.merged([before], [kept])
    assert row["recipes"]["default"]["other_times"] == [time]
    of = {"name": "default", "seconds": 5.0}
    kept["recipes"]["nnst"] = {"device": slow, "processor_seconds": 5.0, "time_of": of}
    assert "other_times" not in merging.merged([before], [kept])[0]["recipes"]["nnst"]


def test_times_that_were_measured_in_other_ways_stay():
    cpu = {"device": {"platform": "cpu", "processor": "P", "cores": 1}, "precision": "float32"}
    alone = cpu | {"at_once": 1, "processor_seconds": 3.0}
    beside = cpu | {"at_once": 2, "processor_seconds": 4.0}
    newer = cpu | {"at_once": 1, "processor_seconds": 5.0, "versions": {"jax": "9"}}
    passed = cpu | {"at_once": 3, "seconds": {"median": 9.0}}  # no CPU seconds, so no time
    found = merging.with_other_times(alone, beside | {"updates": 9})
    assert found == beside | {"updates": 9, "other_times": [alone]}
    assert merging.with_other_times(found, newer)["other_times"] == [beside, alone]
    assert merging.with_other_times(passed, alone) == alone
    assert merging.with_other_times(alone, alone | {"processor_seconds": 8.0}) == (
        alone | {"processor_seconds": 8.0}
    )
    assert merging.with_other_times(alone, passed)["other_times"] == [alone]
    # A picture of another number of updates is another picture.
    assert merging.with_other_times(alone | {"updates": 8}, beside | {"updates": 9}) == (
        beside | {"updates": 9}
    )
    # Those of a new picture are sifted alike.
    new = alone | {"other_times": [alone | {"processor_seconds": 6.0}, beside, passed]}
    assert merging.with_other_times({}, new) == alone | {"other_times": [beside]}
    (row,) = merging.merged([], [rated() | {"recipes": {"default": new}}])
    assert row["recipes"]["default"]["other_times"] == [beside]


def test_a_picture_in_the_time_of_another_needs_that_time_in_its_row():
    cpu = {"device": {"platform": "cpu", "processor": "P", "cores": 1}}
    clock = cpu | {"processor_seconds": 5.0}
    in_time = cpu | {"processor_seconds": 5.1, "time_of": {"name": "default", "seconds": 5.0}}
    both = rated() | {"recipes": {"default": clock, "gram@default-time": in_time}}
    assert merging.merged([], [both]) == [both]
    alone = rated() | {"recipes": {"gram@default-time": in_time}}
    ours = rated() | {"recipes": {"default": clock}}
    assert merging.merged([ours], [alone])[0]["recipes"].keys() == both["recipes"].keys()
    said = (
        "chelsea:gravel: gram@default-time was painted in 5 s, the time of default, whose picture"
    )
    with pytest.raises(ValueError, match=said):
        merging.merged([], [alone])
    again = rated() | {"recipes": {"default": clock | {"processor_seconds": 6.0}}}
    with pytest.raises(ValueError, match=said):
        merging.merged([both], [again])
    elsewhere = {"device": {"platform": "gpu"}, "seconds": {"median": 1.0}}
    again["recipes"]["default"] = elsewhere | {"other_times": [clock]}
    merging.merged([alone | {"pair": ["x", "y"]}, both], [again])


def test_what_a_row_cannot_take_is_known_before_it_is_rated():
    cpu = {"device": {"platform": "cpu", "processor": "P", "cores": 1}}
    clock, other = cpu | {"processor_seconds": 5.0}, cpu | {"processor_seconds": 6.0}
    in_time = cpu | {"processor_seconds": 5.1, "time_of": {"name": "default", "seconds": 5.0}}
    said = (
        "gram@default-time was painted in 5 s, the time of default, whose picture has no such time"
    )
    assert merging.not_addable({}, {"default": clock, "gram@default-time": in_time}) == {}
    assert merging.not_addable({"default": clock}, {"gram@default-time": in_time}) == {}
    for before, now in (
        ({}, {"gram@default-time": in_time}),
        ({"default": clock}, {"default": other, "gram@default-time": in_time, "tf": cpu}),
    ):
        (left_out,) = merging.not_addable(before, now).items()
        assert left_out[0] == "gram@default-time" and left_out[1].startswith(said)
    # The record would lose the time of one of its pictures. So its picture by `default` stays, and
    # then what was painted in the time of the new one has no such time either.
    before = {"default": clock, "gram@default-time": in_time}
    newer = in_time | {"time_of": {"name": "default", "seconds": 6.0}}
    left_out = merging.not_addable(before, {"default": other, "tf@default-time": newer})
    assert list(left_out) == ["default", "tf@default-time"]
    assert left_out["default"].startswith("gram@default-time of the record was painted in 5 s")
    both_times = other | {"at_once": 2, "other_times": [clock]}
    assert merging.not_addable(before, {"default": both_times}) == {}


def test_one_picture_without_its_time_does_not_lose_the_others(tmp_path):
    kept, device = Gallery(tmp_path), {"device": harness.device(), "crop": None, "updates": 9}
    time = {"processor_seconds": 9.0, "time_of": {"name": "default", "seconds": 5.0}}
    kept.put(PAIR, 32, "gram@default-time", Painted(flat(9).image, device | time))
    kept.put(PAIR, 32, "gram", Painted(flat(9).image, device))
    kept.put(OTHER, 32, "gram@default-time", Painted(flat(9).image, device | time))
    left_out = []
    found = quality._entries_of(kept, Plan(sizes=(32,)), left_out)
    assert {pair: list(painted) for (pair, _), painted in found.items()} == {PAIR: ["gram"]}
    assert len(left_out) == 2 and all(
        "default-time was not rated: gram@" in one for one in left_out
    )
    clock = device | {"processor_seconds": 5.0, "ratings": {}}
    row = {"pair": list(OTHER), "size": [18, 32], "recipes": {"default": clock}}
    found = quality._entries_of(kept, Plan(sizes=(32,)), [], [row])
    assert list(found) == [(PAIR, 32), (OTHER, 32)]


def test_seconds_stand_beside_the_machine_that_took_them():
    found = rows({"default": (1.0, 0.5), "q": (2.0, 0.5)}, {"default": (1.0, 0.5)})
    assert quality_page._machines(found).endswith(
        "| `default` | CPU (CPU, 2 cores), float32 | 2 |  |  |  |  |\n"
        "| `q` | CPU (CPU, 2 cores), float32 | 1 |  |  |  |  |\n"
    )
    for name, seconds in (("default", 20.0), ("q", 50.0)):
        found[0]["recipes"][name]["processor_seconds"] = seconds
    found[1]["recipes"]["default"] |= {
        "device": {"platform": "gpu", "kind": "H"},
        "precision": "bfloat16",
        "processor_seconds": 900.0,
        "seconds": {"median": 7.0},
        "at_once": 3,
    }
    assert quality_page._machines(found).endswith(
        "| `default` | CPU (CPU, 2 cores), float32 | 1 |  |  | 20 | 20 |\n"
        "| `default` | H, bfloat16 | 1 |  | 7 (3 at once) |  |  |\n"
        "| `q` | CPU (CPU, 2 cores), float32 | 1 |  |  | 50 | 20 |\n"
    )
    assert quality_page._mean_of([1.0, 2.0], 3) == "1.5 (2 of 3 pairs)"


def test_pictures_of_several_sizes_are_compared_by_hand():
    small, large = rows({"default": (1.0, 0.5)}, {"default": (3.0, 0.25)})
    assert quality_page._sizes([small, large]) == ""
    ratings = {"style_vector": 1.5, "ssim": 0.75}
    likeness = {"ssim": 0.125, "self_similarity": 0.25, "gradients": 0.375}
    reduced = {"to": [16, 24], "ratings": ratings, "likeness": likeness}
    large["size"] = [32, 48]
    large["recipes"]["default"]["reduced"] = reduced
    line = "| `default` | 48, 24 px | 1 | 1.000 | 1.500 | 0.500 | 0.750 | 0.125 | 0.250 | 0.375 |"
    assert line in quality_page._sizes([small, large])
    assert "The small picture by" not in quality_page._sizes([small, large])
    elsewhere = {"device": {"platform": "gpu", "kind": "H"}, "precision": "bfloat16"}
    small["recipes"]["default"] |= elsewhere
    said = "`default` was painted on H, bfloat16, that of 48 px on CPU (CPU, 2 cores), float32."
    assert said in quality_page._sizes([small, large])
    assert list(plots.by_canvas([small, large])) == ["48px", "24px"]
    assert list(plots.by_canvas([large | {"crop": "4:3"}, large])) == ["48px-4x3", "48px"]


def test_panels_have_a_point_for_each_contestant_in_one_order():
    found = rows({"p": (1.0, 0.25), "q": (2.0, 0.5)}, {"q": (3.0, 0.75)})
    first, second = plots.front_panels({"rows": found})
    names = [line.label for line in first.lines]
    assert names == [line.label for line in second.lines] == ["p", "q", "the content itself"]
    assert [(line.x, line.y) for line in first.lines[:2]] == [([1.0], [0.75]), ([2.0], [0.5])]
    assert np.isnan(second.lines[0].x[0]) and second.lines[1].y == [0.25]


def in_time(row, name, updates, seconds, budget, style, ssim):
    """Add to a made-up row a recipe that painted in the time of `default`."""
    one = row["recipes"]["default"]
    row["recipes"][f"{name}@default-time"] = one | {
        "updates": updates,
        "processor_seconds": seconds,
        "time_of": {"name": "default", "seconds": budget},
        "ratings": one["ratings"] | {"style_vector": style, "ssim": ssim},
    }


def test_pictures_in_equal_time_have_a_section_of_their_own():
    first, second = found = rows(*[{"default": (1.0, 0.5), "nnst": (0.5, 0.6)}] * 2)
    plain = quality_page.rater_table(found), quality_page.counts_table(found)
    assert quality_page._in_equal_time(found) == ""
    assert "- Pictures that took the same time." in quality_page._unmeasured(found)
    for row in found:
        row["recipes"]["default"]["processor_seconds"] = 10.0
    in_time(first, "nnst", 50, 9.0, 10.0, 2.0, 0.5)
    in_time(second, "nnst", 60, 11.0, 10.0, 0.5, 0.75)
    in_time(second, "strotss", 7, 10.0, 10.0, 3.0, 0.25)
    in_time(second, "crowsonkb", 8, 10.0, 10.0, 3.0, 0.25)
    own = equal_time.of_own_time(found)
    assert (quality_page.rater_table(own), quality_page.counts_table(own)) == plain
    text = quality_page._in_equal_time(found)
    where = "CPU (CPU, 2 cores), float32"
    for line in (
        "## In the time of `default`",
        "### In the time of `default`: 24 px, whole pictures",
        "The last column has the time of `default` in seconds, and that of each other recipe divided "
        f"by it. All were painted on {where}.",
        "| `default` | 2 | 9 | 90 | 10 CPU s (10) |",
        "| `nnst` | 2 | 50 to 60 | 1000 | 1.00 (0.90 to 1.10) |",
        "| `strotss` | 1 | 7 | 1000 | 1.00 (1.00) |",
        "| `crowsonkb` | 1 | 8 | 1000 | 1.00 (1.00) |",  # at 24 px, a single scale
        "| `nnst` | 2 | 1 | 1 | 0 | 0 |",
        "| `strotss` | 1 | 1 | 0 | 0 | 0 |",
        f"![{quality_page.FRONT}](quality/quality-24px-default-time-cpu.png)",
    ):
        assert line in text.splitlines(), line
    assert "| `nnst` | 2 | 1.250 |" in text and "| `default` on these | 1 | 1.000 |" in text
    said = quality_page._unmeasured(found)
    assert "`strotss" not in said
    assert (
        "- Pictures that took the same time, except those [in the time of `default`](#in-the-"
        in said
    )
    entry = {"case": "quality", "rows": found, "device": {"kind": "cpu"}, "quick": False}
    drawn, _ = plots.figures([entry])
    labels = {name: [line.label for line in panels[0].lines][:-1] for name, panels in drawn.items()}
    assert labels == {
        "quality-24px-cpu": ["default", "nnst"],
        "quality-24px-default-time-cpu": ["default", "nnst", "strotss", "crowsonkb"],
    }


def test_the_page_says_how_pictures_were_prepared():
    found = rows(*[{"default": (1.0, 0.5)}] * 3)
    found[0]["pair"] = list(PAIR)
    assert quality_page._prepared(found[:1]) == ""
    found[2]["prepared"] = "saved as PNG."
    assert quality_page._conditions(found).endswith(
        " 1 pair has pictures that are not samples of the package. How these were prepared is not "
        "recorded. 1 pair has pictures that are not samples of the package. These had been saved as "
        "PNG.\n"
    )


def test_the_page_says_whether_persons_judged():
    counts = {"sizes": [24], "sheets": 1, "verdicts": 1, "first": {}, "before": {}}
    model = counts | {"judges": "a vision-language model; no person"}
    for blind_counts, expected in (
        ([model], True),
        ([model, counts | {"judges": "Ann"}], False),
        ([model, counts | {"judges": "a vision-language model; no person but Ann"}], False),
        ([model, counts], False),
        ([], False),
    ):
        assert quality_aims.judged_by_no_person(blind_counts) == expected
        assert (quality_aims.MODELS_JUDGED in quality_aims.answer({}, blind_counts)) == expected
        said = "- What people say of the pictures: no person has judged."
        assert (said in quality_page._unmeasured(rows(), blind_counts)) == expected


def test_the_page_is_that_of_the_record():
    text = quality_page.PAGE.read_text()
    assert text == quality_page.page()
    for name in re.findall(r"\]\(quality/([^)]+)\)", text):
        assert (quality_page.FOLDER / name).is_file(), name
    entry = quality_page.entry_of()
    assert not {"pictures", "keep", "add_to", "prepared"} & set(entry["plan"])
    shown = {
        quality_page._sheet(name, row)
        for name, here in plots.by_canvas(entry["rows"]).items()
        for row in quality_page.free_pairs(here)
    }
    shown |= {quality_page._strip(pair) for pair, _ in quality_page.strips(entry["rows"])}
    assert {path.name for path in quality_page.FOLDER.glob("*.jpg")} == shown  # of no other pair
    for name in shown:
        assert (quality_page.FOLDER / name).stat().st_size < 500_000
