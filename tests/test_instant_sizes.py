"""Feed-forward networks on pictures that lie in larger arrays, whose sizes are values at runtime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from nst_jax import _real_size, feed_forward
from nst_jax.app.instant import painting
from nst_jax.feed_forward import (
    arbitrary,
    given_styles,
    instant_painter,
    johnson,
    layers,
    strip_memory,
    styles26,
)
from nst_jax.scaling import capacity
from tests import small
from tests.shell import caller, pixels, refused, write_pictures

SHAPES = ((37, 44), (18, 31))  # sides to which 3, 0, 2 and 1 px are missing to a multiple of 4
ARRAY = (48, 48)


def networks():
    """Yield the function, the weights and a condition for each of three networks, float64."""
    mixed = np.random.default_rng(1).random(arbitrary.VECTOR)
    shares = np.zeros(styles26.STYLES)
    shares[[3, 19]] = 0.4, 0.6
    yield arbitrary.stylize_with, feed_forward.load_arbitrary(), mixed
    yield styles26.stylize_mixture, feed_forward.load_styles26(), shares
    trained = johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=2)
    yield johnson.stylize_trained, trained, np.array([0.7, 0.3])


def in_array(picture, fill):
    """Return an array with a picture at its top left, and `fill` elsewhere."""
    found = np.full((*ARRAY, 3), fill, picture.dtype)
    found[: picture.shape[0], : picture.shape[1]] = picture
    return found


@pytest.mark.parametrize(
    "network",
    # Pictures in the style of another are compared in float32 below.
    [pytest.param(0, marks=pytest.mark.long), 1, 2],
    ids=["arbitrary", "styles26", "trained"],
)
def test_pictures_in_arrays_are_those_that_fill_theirs(x64, compilations, network):
    paint, params, condition = list(networks())[network]
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    pictures = [np.asarray(small.picture("chelsea", *shape), np.float64) for shape in SHAPES]
    # What fills the arrays changes nothing, not even NaN.
    wide = np.stack([in_array(one, np.nan) for one in pictures])
    conditions = np.stack([condition] * len(pictures))
    sized = jax.jit(lambda content, size: paint(params, content, conditions, size=size))
    found = sized(wide, np.array(SHAPES, np.int32))
    for (height, width), one, picture in zip(SHAPES, np.asarray(found), pictures, strict=True):
        assert one.dtype == np.float64
        expected = jax.jit(paint)(params, jnp.asarray(picture), condition)
        assert_allclose(one[:height, :width], expected, rtol=0, atol=1e-12)
    before = compilations()
    sized(wide[::-1].copy(), np.array(SHAPES[::-1], np.int32))
    assert compilations() == before


OFTEN = (
    (17, 96),  # odd
    (16, 16),  # smallest
)
RARELY = (
    (64, 96),  # multiples of 32 px
    (95, 33),  # just beyond them
    (63, 64),
    (50, 77),
)


@pytest.mark.parametrize(
    "shape", [*OFTEN, *(pytest.param(one, marks=pytest.mark.long) for one in RARELY)]
)
def test_the_style_vector_of_a_picture_in_an_array_is_its_own(x64, compilations, shape):
    params = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64), feed_forward.load_arbitrary()
    )
    picture = np.asarray(small.picture("starry_night", *shape), np.float64)
    wide = np.full((96, 96, 3), np.nan)
    wide[: shape[0], : shape[1]] = picture
    expected = jax.jit(arbitrary.style_vector)(params, picture)
    found = _sized_vector(params, wide, np.array(shape, np.int32))
    assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    before = compilations()
    _sized_vector(params, wide, np.array((40, 16), np.int32))
    assert compilations() == before


@jax.jit
def _sized_vector(params, wide, size):
    return arbitrary.style_vector(params, wide, size=size)


def test_style_vectors_of_pictures_of_several_sizes_by_one_call():
    params, shapes = feed_forward.load_arbitrary(), [(32, 20), (17, 32)]
    pictures = [small.picture("gravel", *shape) for shape in shapes]
    wide = np.zeros((2, 32, 32, 3), np.float32)
    for row, picture in zip(wide, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    found = jax.jit(arbitrary.style_vector)(params, wide, size=np.array(shapes, np.int32))
    for vector, picture in zip(found, pictures, strict=True):
        alone = jax.jit(arbitrary.style_vector)(params, picture)
        assert_allclose(vector, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def test_a_style_in_an_array_of_other_sides_is_refused():
    with pytest.raises(ValueError, match="`style`: with `size`, .* multiples of 32 px, got 48x48"):
        arbitrary.style_vector(
            feed_forward.load_arbitrary(), np.zeros((48, 48, 3), np.float32), size=(40, 40)
        )


def test_arrays_of_other_sides_are_refused():
    params, vector = feed_forward.load_arbitrary(), np.zeros(100, np.float32)
    with pytest.raises(
        ValueError, match="`content`: with `size`, .* multiples of 4 px, got 45x48 px"
    ):
        arbitrary.stylize_with(params, np.zeros((48, 45, 3), np.float32), vector, size=(40, 40))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((40, 40), "a height from 16 to 32 px and a width from 16 to 48 px, .*, got \\(40, 40\\)"),
        ((32, 49), "a width from 16 to 48 px, .*, got \\(32, 49\\)"),
        ((0, 0), "from 16 .*, got \\(0, 0\\)"),
        ((24, 15), "from 16 .*, got \\(24, 15\\)"),
        ((24.7, 24.2), "two whole numbers, got \\(24.7, 24.2\\)"),
        (np.zeros(3), "two whole numbers, got an array of float64 of the shape \\[3\\]"),
        ((True, True), "two whole numbers, got \\(True, True\\)"),
        ((32,), "two whole numbers, got \\(32,\\); leave it out"),
        ((24, 24, 3), "two whole numbers, got \\(24, 24, 3\\)"),
        (32, "two whole numbers, got 32; leave"),
        ([(24, 24)], "two whole numbers, got \\[\\(24, 24\\)\\]"),
        ([24, (24, 24)], "two whole numbers, got \\[24, "),
        ("large", "two whole numbers, got 'large'"),
    ],
)
def test_sizes_that_cannot_be_used_are_refused(size, message):
    content = jnp.zeros((32, 48, 3))
    for paint, params, condition in networks():
        with pytest.raises(ValueError, match=f"^`size`: expected .*{message}"):
            paint(params, content, condition, size=size)


def test_sizes_of_a_batch_are_checked_one_by_one():
    shape = (2, 32, 32, 3)
    found = _real_size.sizes_of_array([(20, 16), (32, 32)], shape, 4, smallest=16)
    np.testing.assert_array_equal(found, [(20, 16), (32, 32)])
    np.testing.assert_array_equal(
        _real_size.sizes_of_array((20, 16), shape, 4, smallest=16), [(20, 16), (20, 16)]
    )
    expected = r"or \[2, 2\], a size for each picture, got "
    three = [(20, 16)] * 3
    with pytest.raises(ValueError, match=expected + r"\[\(20, 16\), \(20, 16\), \(20, 16\)\]"):
        _real_size.sizes_of_array(three, shape, 4, smallest=16)
    with pytest.raises(ValueError, match=expected + r".*\[3, 2\]"):
        _real_size.sizes_of_array(np.asarray(three), shape, 4, smallest=16)
    with pytest.raises(ValueError, match=r"got \(33, 32\)"):
        _real_size.sizes_of_array([(20, 16), (33, 32)], shape, 4, smallest=16)
    # Of values that are known only at runtime, the shape and the type are checked.
    for wrong in (np.zeros(3, np.int32), np.zeros(2, np.float32)):
        with pytest.raises(ValueError, match="^`size`: expected"):
            jax.jit(lambda size: _real_size.sizes_of_array(size, shape, 4, smallest=16))(wrong)
    pair = jax.jit(lambda a, b: _real_size.sizes_of_array((a, b), shape, 4, smallest=16))
    np.testing.assert_array_equal(pair(20, 16), [(20, 16), (20, 16)])


def test_one_picture_in_an_array_in_several_mixtures():
    *_, (paint, params, _) = networks()
    picture, shares = small.picture("chelsea", 24, 19), np.array([[0.7, 0.3], [0.1, 0.9]])
    painted = jax.jit(paint)
    found = painted(params, jnp.asarray(in_array(picture, np.nan)), shares, size=(24, 19))
    assert found.shape == (2, *ARRAY, 3)
    expected = jnp.stack([painted(params, jnp.asarray(picture), row) for row in shares])
    assert_allclose(found[:, :24, :19], expected, atol=1e-5)
    assert_allclose(painted(params, jnp.asarray(picture), shares), expected, atol=1e-5)
    pair = jnp.zeros((2, 32, 32, 3))
    with pytest.raises(ValueError, match=r"^`shares`: expected .* \[2, 2\], got shape \[3, 2\]"):
        paint(params, pair, np.ones((3, 2), np.float32), size=(24, 19))


@pytest.mark.parametrize("margin", [1, 4])
@pytest.mark.parametrize("shape", [(5, 9), (8, 6), (16, 12)])
def test_mirrored_borders_are_those_of_the_picture(margin, shape):
    x = np.random.default_rng(0).random((2, 16, 12, 3), np.float32)
    height, width = shape
    x[:, height:], x[:, :, width:] = np.nan, np.nan
    pads = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    expected = np.pad(x[:, :height, :width], pads, mode="reflect")
    found = jax.jit(layers.reflect_sized, static_argnums=1)(x, margin, np.array(shape))
    assert found.shape == (2, 16 + 2 * margin, 12 + 2 * margin, 3)
    np.testing.assert_array_equal(found[:, : height + 2 * margin, : width + 2 * margin], expected)


def test_mirrored_borders_are_one_gather():
    """Slices at places that are values at runtime take XLA longer to compile."""
    x, sizes = np.zeros((2, 16, 12, 3), np.float32), np.array([(5, 9), (16, 12)])
    for extend in (layers.reflect_sized, layers.reflect_sized_to_multiple):
        each = jax.vmap(lambda one, size, extend=extend: extend(one, 4, size))
        program = jax.jit(each).lower(x, sizes).as_text()
        assert program.count('"stablehlo.gather"') == 1
        for slower in ("scatter", "dynamic_slice", "dynamic_update_slice"):
            assert slower not in program


@pytest.mark.parametrize("shape", [(5, 9), (8, 6), (15, 10), (16, 12), (7, 11)])
def test_what_is_missing_to_a_multiple_is_mirrored(shape):
    x = np.random.default_rng(0).random((16, 12, 3), np.float32)
    height, width = shape
    x[height:], x[:, width:] = np.nan, np.nan
    found, size = jax.jit(layers.reflect_sized_to_multiple, static_argnums=1)(x, 4, np.array(shape))
    expected = layers.reflect_to_multiple(jnp.asarray(x[:height, :width]), 4)
    assert tuple(size) == expected.shape[:2]
    np.testing.assert_array_equal(found[: size[0], : size[1]], expected)


# --- Whole pictures -------------------------------------------------------------------------------


@pytest.mark.long
def test_many_pictures_of_many_shapes_by_one_program(compilations):
    pictures = [small.picture("chelsea", *shape) for shape in SHAPES]
    style = small.picture("starry_night", 32, 32)
    # With a strength under 1, the style vectors of the contents are computed, too.
    options = {"size": 40, "style_size": "as-is", "strength": 0.5}
    found = nst.instant_many(pictures, style, bucket=48, chunk=1, **options)
    for one, picture in zip(found, pictures, strict=True):
        expected = nst.instant(picture, style, **options)
        assert one.shape == expected.shape
        assert_allclose(one, expected, atol=1e-5)
    others = [small.picture("chelsea", *shape) for shape in ((33, 20), (50, 64), (21, 21))]
    wider = small.picture("gravel", 30, 52)
    before = compilations()
    nst.instant_many(others, [style, wider, style], bucket=48, chunk=1, **options)
    assert (
        compilations() == before
    )  # neither for the sizes of the results nor for those of the files


FINISHED = [
    {"colors": "content", "opacity": True},
    {"colors": "luminance", "realism": 0.4},
    {"colors": "content-after", "protect": True},
    {"colors": "palette", "realism": 0.7, "protect": True, "opacity": True},
    {"realism": 1.0},
    {"protect": True},
]


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(one, marks=() if place == 3 else pytest.mark.long)
        for place, one in enumerate(FINISHED)
    ],
    ids=lambda chosen: "-".join(map(str, chosen.values())),
)
def test_colours_realism_and_protection_in_a_bucket_compile_once(chosen, compilations):
    """The radius of the filter of realism is 1, 2 and 3 px for these sizes."""
    style = small.picture("starry_night", 32, 45)

    def painted(pictures, **more):
        masks = [np.linspace(0, 1, one.shape[1], dtype=np.float32)[None] for one in pictures]
        masks = [np.tile(mask, (len(one), 1)) for mask, one in zip(masks, pictures, strict=True)]
        options = dict(chosen)
        if options.get("protect"):
            options["protect"] = nst.controls.Protect(masks, 0.8)
        if options.get("opacity"):
            options["opacity"] = [1 - mask / 2 for mask in masks]
        options |= {"size": "as-is", "style_size": "as-is", **more}
        return nst.instant_many(pictures, style, **options)

    pictures = [small.picture("chelsea", *shape) for shape in ((37, 44), (18, 31), (80, 96))]
    found = painted(pictures, bucket=96, chunk=1)
    # Each size alone is a program of its own; two are enough, of the smallest and the largest radius.
    for one, expected in zip(found[1:], painted(pictures[1:]), strict=True):
        assert one.shape == expected.shape
        # Clipped colours and roots of covariances of few pixels enlarge rounding errors.
        assert_allclose(one, expected, atol=1e-4)
        assert float(jnp.mean(jnp.abs(one - expected))) < 1e-5
    others = [small.picture("chelsea", *shape) for shape in ((33, 20), (50, 64), (90, 21))]
    before = compilations()
    painted(others, bucket=96, chunk=1)
    painted([others[0]] * 3, bucket=96, chunk=1)  # all of one shape
    assert compilations() == before


@pytest.mark.parametrize(
    ("shape", "array"),
    [
        ((256, 256), (384, 384)),
        ((16, 384), (384, 384)),  # no program of its own, since the square is small
        ((256, 1024), (1024, 1024)),  # 4 times the pixels
        ((256, 1025), (256, 1152)),
        ((1025, 257), (1152, 384)),
        ((64, 385), (128, 512)),
        ((1000, 1000), (1024, 1024)),
    ],
)
def test_a_style_lies_in_a_square_unless_it_is_a_panorama(shape, array):
    assert instant_painter.style_array(shape) == array


def test_the_style_vector_of_a_panorama_in_a_rectangle_is_its_own():
    panorama, shapes = small.picture("starry_night", 100, 500), []
    predict = instant_painter.PROGRAMS.style_vector

    def seen(params, style, **options):
        shapes.append(style.shape)
        return predict(params, style, **options)

    programs = instant_painter.PROGRAMS._replace(style_vector=seen)
    found, alone = (
        instant_painter.InstantPainter(programs=programs, bucket=bucket).vector(panorama)
        for bucket in (512, None)
    )
    assert shapes == [(128, 512, 3), (100, 500, 3)]
    assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_contents_are_resized_without_compiling(compilations):
    image = small.picture("chelsea", 90, 61)
    before = compilations()
    one = given_styles.resized_content(image, 39, on_host=True)
    assert compilations() == before
    other = given_styles.resized_content(image, 39, on_host=False)
    assert compilations() > before
    assert one.shape == other.shape == (39, 26, 3)
    assert_allclose(one, other, atol=1e-5)


def test_by_cost_small_pictures_of_several_shapes_lie_in_one_square(compilations):
    pictures = [small.picture("chelsea", *shape) for shape in ((44, 30), (30, 44), (44, 44))]
    square = nst.instant_many(pictures, "mosaic", bucket=48, size="as-is")
    before = compilations()
    found = nst.instant_many(pictures, "mosaic", bucket="auto", size="as-is")
    assert compilations() == before  # it is the program of this square
    for one, other in zip(found, square, strict=True):
        np.testing.assert_array_equal(one, other)


def test_by_cost_no_square_is_larger_than_memory(monkeypatch):
    shapes = [("", (44, 30)), ("", (30, 44)), ("", (44, 44))]
    assert instant_painter.square_by_cost(shapes) == 48
    checked = instant_painter.strip_memory.check_fits_whole
    for larger in (instant_painter.arbitrary.LAYERS, instant_painter.styles26.LAYERS):

        def check(layers, shape, *, available, larger=larger):
            checked(layers, shape, available=0 if layers is larger else available)

        monkeypatch.setattr(instant_painter.strip_memory, "check_fits_whole", check)
        assert instant_painter.square_by_cost(shapes) is None


def test_by_cost_a_square_fits_a_wide_network(monkeypatch):
    def paint(self, requests):
        raise RuntimeError(f"painted in {self.bucket}")

    shapes = [("", (44, 30)), ("", (30, 44)), ("", (44, 44))]
    pictures = [small.picture("chelsea", *shape) for _, shape in shapes]
    networks = [
        johnson.StyleNetwork(johnson.fresh_params(jax.random.key(0), 1, width=x, blocks=1), ("a",))
        for x in (1, 2)
    ]
    tables = arbitrary.LAYERS, styles26.LAYERS, johnson.layer_table_of(networks[0].params)
    needed = max(strip_memory.bytes_in_one_piece(table, (48, 48)) for table in tables)
    available = int(capacity.MARGIN * needed) + 1
    monkeypatch.setattr(instant_painter.capacity, "available", lambda: available)
    for network, side in zip(networks, (48, None), strict=True):
        trained = given_styles.Trained(network, "x")
        assert instant_painter.square_by_cost(shapes, [trained]) == side
        monkeypatch.setattr(instant_painter.InstantPainter, "paint", paint)
        with pytest.raises(RuntimeError, match=f"^painted in {side}$"):
            nst.instant_many(pictures, network, bucket="auto", size="as-is")


def test_by_cost_the_networks_of_all_pictures_are_counted(monkeypatch):
    counted = []

    def by_cost(pictures, trained=()):
        counted.append((pictures, trained))
        raise RuntimeError("counted")

    monkeypatch.setattr("nst_jax.single_pass.square_by_cost", by_cost)
    contents = [small.picture("chelsea", *shape) for shape in ((44, 30), (30, 44))]
    params = johnson.fresh_params(jax.random.key(0), 1, width=1, blocks=1)
    network = johnson.StyleNetwork(params, ("a",))
    for styles in (["mosaic", 3], ["mosaic", contents[0]], [network, "mosaic"]):
        with pytest.raises(RuntimeError, match="^counted$"):
            nst.instant_many(contents, styles, bucket="auto", size="as-is")
    names = [[name for name, _ in pictures] for pictures, _ in counted]
    assert [len(set(found)) for found in names] == [1, 2, 2]
    assert [shape for _, shape in counted[0][0]] == [(44, 30), (30, 44)]
    assert [[one.network for one in trained] for _, trained in counted] == [[], [], [network]]


def test_a_chunk_is_no_larger_than_memory(monkeypatch):
    content = small.picture("chelsea", 32, 32)
    together, real = [], instant_painter.InstantPainter._together

    def painted(self, requests):
        together.append(len(requests))
        return real(self, requests)

    monkeypatch.setattr(instant_painter.InstantPainter, "_together", painted)
    two = strip_memory.bytes_in_one_piece(styles26.LAYERS, (2 * 32, 32))
    available = int(capacity.MARGIN * two) + 1
    monkeypatch.setattr(instant_painter.capacity, "available", lambda: available)
    found = nst.instant_many(content, [0, 1, 2, 3], chunk=4, size="as-is")
    assert together == [2, 2] and len(found) == 4


@pytest.mark.parametrize(
    ("bucket", "message"),
    [
        (32, "a picture of 44 px .* does not fit into 32 px; give 48 or more, or a smaller `size`"),
        (50, "expected a multiple of 16 px, got 50; 48 is the nearest"),
        ("some", 'expected "auto", "off" or a number of pixels such as 256'),
    ],
)
def test_buckets_that_cannot_be_used(bucket, message):
    picture = small.picture("chelsea", *SHAPES[0])
    with pytest.raises(ValueError, match=f"^`bucket`: {message}"):
        nst.instant_many(picture, "mosaic", bucket=bucket, size="as-is")


def test_a_bucket_that_no_memory_holds_is_refused(monkeypatch):
    monkeypatch.setattr(instant_painter.strip_memory, "strip_for", lambda *_, **__: 16)
    picture = small.picture("chelsea", *SHAPES[0])
    with pytest.raises(
        ValueError, match='^`bucket`: .* 64 px does not fit into memory.* or "off"$'
    ):
        nst.instant_many(picture, "mosaic", bucket=64, size="as-is")


def test_a_bucket_in_which_not_even_strips_fit_is_refused(monkeypatch):
    monkeypatch.setattr(instant_painter.capacity, "available", lambda *_: 10**8)
    with pytest.raises(
        ValueError, match="^`bucket`: a picture padded to 65536 px does not fit into mem"
    ):
        nst.instant_many(small.picture("chelsea", *SHAPES[0]), "mosaic", bucket=65536)


def test_the_command_refuses_a_bucket_that_no_memory_holds_before_it_reads(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_pictures(tall=(60, 41), square=(50, 50))
    monkeypatch.setattr(painting, "_read_unchanged", None)
    monkeypatch.setattr(instant_painter.capacity, "available", lambda *_: 10**8)
    call = caller(capsys, "instant")
    for content, style, output in (
        ("tall.png", "mosaic", "out.png"),
        ("*.png", "mosaic", "out"),
        ("tall.png", "square.png", "out.png"),
    ):
        found = call(content, style, "--size", 32, "--bucket", 65536, "-o", output)
        refused(found, "`--bucket`", "65536 px does not fit into memory", "smaller bucket")
    assert not (tmp_path / "out").exists()


def test_the_command_paints_a_folder_in_a_bucket(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(tall=(60, 41), wide=(33, 60), square=(50, 50))
    names = ("tall", "wide", "square")
    call = caller(capsys, "instant")
    words = ["*.png", "mosaic", "--size", 40]
    assert call(*words, "-o", "plain")[0] == 0
    code, _, err = call(*words, "-o", "together", "--bucket", 48)
    assert code == 0, err
    for name in names:
        found, plain = (pixels(f"{folder}/{name}_mosaic.png") for folder in ("together", "plain"))
        assert found.shape == plain.shape
        assert np.abs(found.astype(int) - plain.astype(int)).max() <= 1
    refused(
        call("tall.png", "mosaic", "--size", 60, "--bucket", 48), "`--bucket`", "give 64 or more"
    )
    code, _, err = call(*words, "-o", "chosen", "--bucket", "auto")
    assert code == 0 and "48x48 px" in err, err  # by cost, it is the same square
    for name in names:
        found, expected = (
            pixels(f"{folder}/{name}_mosaic.png") for folder in ("chosen", "together")
        )
        np.testing.assert_array_equal(found, expected)
