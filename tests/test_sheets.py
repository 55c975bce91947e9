import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import images
from nst_jax.images import sheets

RED, GREEN, BLUE = np.eye(3, dtype=np.float32)


def plain(colour, height=32, width=32):
    return np.broadcast_to(colour, (height, width, 3))


def area(sheet, colour):
    """Return (top, bottom, left, right) of what has a colour; all of it is a full rectangle."""
    mask = np.abs(sheet - colour).max(-1) < 1e-6
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask[top:bottom, left:right].all() and mask.sum() == (bottom - top) * (right - left)
    return top, bottom, left, right


def ink(sheet):
    """Return the rows that hold something grey: neither paper nor these tests' pictures."""
    grey = (sheet.max(-1) - sheet.min(-1) < 1e-6) & (sheet.max(-1) < 0.9)
    return np.flatnonzero(grey.any(1))


# --- Side by side ---------------------------------------------------------------------------------


def test_a_row_has_one_height_and_keeps_proportions():
    row = sheets.side_by_side([plain(RED, 64, 32), plain(GREEN, 32, 64), plain(BLUE, 100, 100)])
    assert row.dtype == np.float32 and row.min() >= 0 and row.max() <= 1
    assert area(row, RED) == (8, 40, 8, 24)
    assert area(row, GREEN) == (8, 40, 32, 96)
    assert area(row, BLUE) == (8, 40, 104, 136)
    assert row.shape == (48, 144, 3)
    assert not ink(row).size


def test_the_height_can_be_chosen():
    row = sheets.side_by_side([plain(RED), plain(GREEN)], height=480)
    top, bottom, left, right = area(row, RED)
    assert (bottom - top, right - left) == (480, 480)


def test_what_has_the_height_already_is_not_resampled():
    cat = images.sample("chelsea")
    row = sheets.side_by_side([cat, np.concatenate([cat, cat])])
    margin = (row.shape[0] - 300) // 2
    assert_array_equal(row[margin : margin + 300, margin : margin + 451], cat)


def test_captions_lie_under_the_pictures():
    pictures = [plain(RED, 96, 96), plain(GREEN, 96, 96)]
    row = sheets.side_by_side(pictures, ["content", "style"])
    below = area(row, RED)[1]
    assert ink(row).min() > below and ink(row).max() < row.shape[0] - 4
    assert row.shape[0] > sheets.side_by_side(pictures).shape[0]
    assert ink(row[:, : row.shape[1] // 2]).size and ink(row[:, row.shape[1] // 2 :]).size


@pytest.mark.parametrize(
    "label", ["x" * 300, "two\nlines", "été", "夜", "broken\udcff", "", "  ", "tab\t\0"]
)
def test_no_label_breaks_the_row(label):
    pictures = [plain(RED, 64, 64), plain(GREEN, 64, 64)]
    row = sheets.side_by_side(pictures, [label, "b"])
    # The caption neither moves the pictures nor runs into the next one's.
    assert row.shape == sheets.side_by_side(pictures, ["a", "b"]).shape
    assert area(row, RED) == (8, 72, 8, 72)
    assert_array_equal(
        row[:, 80:144], sheets.side_by_side(pictures, ["", "b"])[:, 80:144], err_msg=label
    )


def test_accents_are_dropped_rather_than_boxed():
    pictures = [plain(RED, 64, 64)]
    assert_array_equal(
        sheets.side_by_side(pictures, ["été"]), sheets.side_by_side(pictures, ["ete"])
    )


def test_8_bit_pictures_are_taken_too():
    picture = images.to_uint8(images.sample("gravel"))
    assert_array_equal(
        sheets.side_by_side([picture]), sheets.side_by_side([images.sample("gravel")])
    )


@pytest.mark.usefixtures("as_users_do")
def test_a_row_refuses_what_it_cannot_show():
    for arguments, options, said in (
        (([],), {}, "`pictures`: is empty"),
        (([plain(RED), np.zeros((4, 4))],), {}, r"`pictures\[1\]`: expected one image"),
        (([plain(RED) * 255],), {}, r"`pictures\[0\]`: expected values in \[0, 1\]"),
        (([plain(RED)], ["a", "b"]), {}, "`labels`: expected one for each of the 1 `pictures`"),
        (([plain(RED)],), {"height": 0}, "`height`: expected 1 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            sheets.side_by_side(*arguments, **options)
    with pytest.raises(TypeError, match="`height`: expected a whole number, got 20.5"):
        sheets.side_by_side([plain(RED)], height=20.5)
    with pytest.raises(TypeError, match="`labels`: expected text, got 3"):
        sheets.side_by_side([plain(RED)], [3])
    with pytest.raises(TypeError, match="`title`: expected text, got 3"):
        sheets.labelled_grid({(0, 0): plain(RED)}, [""], [""], title=3)


# --- Contact sheets -------------------------------------------------------------------------------


def test_contents_go_down_and_styles_across():
    contents = [plain((0.0, 0.0, s), 64, 64) for s in (0.2, 0.4, 0.6)]
    styles = [plain((0.0, s, 0.0), 64, 64) for s in (0.2, 0.4)]
    results = {(i, j): plain((1.0, 0.2 * i, 0.2 * j), 64, 64) for i in range(3) for j in range(2)}
    sheet = sheets.contact_sheet(contents, styles, results, cell=64)
    assert sheet.shape == (4 * 64 + 5 * 8, 3 * 64 + 4 * 8, 3)
    at = [8 + 72 * k for k in range(4)]
    assert_allclose(sheet[8:72, 8:72], 1)  # the corner is blank
    for i, content in enumerate(contents):
        assert_allclose(sheet[at[i + 1] :, 8:][:64, :64], content, atol=1e-6)
    for j, style in enumerate(styles):
        assert_allclose(sheet[8:, at[j + 1] :][:64, :64], style, atol=1e-6)
    for (i, j), result in results.items():
        assert_allclose(sheet[at[i + 1] :, at[j + 1] :][:64, :64], result, atol=1e-6)


def test_pairs_that_were_not_painted_stay_blank():
    sheet = sheets.contact_sheet([plain(RED)] * 2, [plain(GREEN)] * 2, {(0, 1): plain(BLUE)})
    assert area(sheet, BLUE) == (48, 80, 88, 120)
    assert_allclose(sheet[48:80, 48:80], 1)
    assert_allclose(sheet[88:120, 48:120], 1)


def test_thumbnails_keep_proportions_and_are_not_enlarged():
    contents = [plain(RED, 400, 100), plain(BLUE, 20, 16)]
    sheet = sheets.contact_sheet(contents, [plain(GREEN, 50, 200)], {}, cell=80)
    for colour, shape in ((RED, (80, 20)), (BLUE, (20, 16)), (GREEN, (20, 80))):
        top, bottom, left, right = area(sheet, colour)
        assert (bottom - top, right - left) == shape


def test_thin_pictures_keep_a_pixel():
    sheet = sheets.contact_sheet([plain(RED, 2000, 16)], [plain(GREEN)], {}, cell=16)
    top, bottom, left, right = area(sheet, RED)
    assert (bottom - top, right - left) == (16, 1)


def test_captions_name_rows_and_columns():
    table = [plain(RED)], [plain(GREEN)], {(0, 0): plain(BLUE)}
    bare = sheets.contact_sheet(*table)
    across = sheets.contact_sheet(*table, style_labels=["wave.jpg"])
    down = sheets.contact_sheet(*table, content_labels=["cat.jpg"])
    assert not ink(bare).size
    assert area(across, GREEN)[1] < ink(across).min() < ink(across).max() < area(across, RED)[0]
    assert area(down, RED)[1] < ink(down).min()
    assert across.shape == down.shape and across.shape[0] > bare.shape[0]


def test_large_sheets_have_small_thumbnails(monkeypatch):
    monkeypatch.setattr(sheets, "LONGEST", 400)
    contents = [plain(RED, 100, 100)] * 9
    sheet = sheets.contact_sheet(contents, [plain(GREEN, 100, 100)], {})
    assert sheet.shape == (10 * 40 + 11 * 8, 2 * 40 + 3 * 8, 3)


@pytest.mark.usefixtures("as_users_do")
def test_a_contact_sheet_refuses_what_it_cannot_show():
    one = [plain(RED)]
    for arguments, options, said in (
        (([], one, {}), {}, "`contents`: is empty"),
        ((one, [], {}), {}, "`styles`: is empty"),
        ((one, one, {(1, 0): plain(RED)}), {}, r"`results`: \(1, 0\) is outside the 1 contents"),
        ((one, one, {(0, -1): plain(RED)}), {}, r"`results`: \(0, -1\) is outside"),
        ((one, one, {(0, 0): np.zeros((4, 4))}), {}, r"`results\[0, 0\]`: expected one image"),
        ((one, one, {}), {"content_labels": []}, "`content_labels`: expected one for each"),
        ((one, one, {}), {"style_labels": ["a", "b"]}, "`style_labels`: expected one for each"),
        ((one, one, {}), {"cell": 4}, "`cell`: expected 16 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            sheets.contact_sheet(*arguments, **options)


# --- Labelled grids -------------------------------------------------------------------------------


def test_a_grid_places_pictures_by_row_and_column():
    pictures = {(i, j): plain((1.0, 0.2 * i, 0.2 * j), 32, 48) for i in range(2) for j in range(3)}
    grid = sheets.labelled_grid(pictures, ["", ""], ["", "", ""])
    assert grid.shape == (2 * 32 + 3 * 8, 3 * 48 + 4 * 8, 3) and grid.dtype == np.float32
    for (i, j), picture in pictures.items():
        assert_allclose(grid[8 + 40 * i :, 8 + 56 * j :][:32, :48], picture, atol=1e-6)
    assert not ink(grid).size


def test_labels_stand_left_of_rows_and_above_columns():
    pictures = {(0, 0): plain(RED, 64, 64), (1, 1): plain(GREEN, 64, 64)}
    bare = sheets.labelled_grid(pictures, ["", ""], ["", ""])
    above = sheets.labelled_grid(pictures, ["", ""], ["1e-5", "1e-4"])
    left = sheets.labelled_grid(pictures, ["one", "two"], ["", ""])
    assert above.shape[0] > bare.shape[0] and above.shape[1] == bare.shape[1]
    assert left.shape[0] == bare.shape[0] and left.shape[1] > bare.shape[1]
    assert ink(above).max() < area(above, RED)[0]
    middle = area(above, RED)[3] + 4
    assert ink(above[:, :middle]).size and ink(above[:, middle:]).size
    assert ink(left.swapaxes(0, 1)).max() < area(left, RED)[2]
    middle = area(left, RED)[1] + 4
    assert ink(left[:middle]).size and ink(left[middle:]).size


def test_titles_stand_outside_the_labels():
    pictures = {(0, 0): plain(RED, 96, 96)}
    labelled = sheets.labelled_grid(pictures, ["a"], ["b"])
    titled = sheets.labelled_grid(
        pictures, ["a"], ["b"], row_title="layers", column_title="ratio", title="photo.jpg"
    )
    down, across = area(titled, RED)[0] - area(labelled, RED)[0], area(titled, RED)[2]
    assert titled.shape[0] == labelled.shape[0] + down
    assert ink(titled[:down]).size
    # The rows' title runs upwards: higher than it is wide.
    side = titled[area(titled, RED)[0] : area(titled, RED)[1], : across - area(labelled, RED)[2]]
    assert np.ptp(ink(side)) > np.ptp(ink(side.swapaxes(0, 1)))


def test_long_labels_are_broken_and_do_not_move_columns():
    pictures = {(0, 0): plain(RED, 64, 64), (0, 1): plain(GREEN, 64, 64)}
    short = sheets.labelled_grid(pictures, [""], ["one", "two"])
    long = sheets.labelled_grid(pictures, [""], ["one word after another", "x" * 300])
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0]
    for colour in (RED, GREEN):
        assert area(long, colour)[2:] == area(short, colour)[2:]


def test_a_grid_shrinks_and_leaves_blank():
    pictures = {(0, 1): plain(RED, 64, 32)}
    grid = sheets.labelled_grid(pictures, ["", ""], ["", ""], cell=32)
    assert grid.shape == (2 * 32 + 3 * 8, 2 * 16 + 3 * 8, 3)
    assert area(grid, RED) == (8, 40, 32, 48)


def test_a_large_grid_has_small_pictures(monkeypatch):
    monkeypatch.setattr(sheets, "LONGEST", 200)
    pictures = {(0, j): plain(RED, 100, 100) for j in range(4)}
    assert sheets.labelled_grid(pictures, [""], [""] * 4).shape == (40 + 16, 4 * 40 + 5 * 8, 3)


@pytest.mark.usefixtures("as_users_do")
def test_a_grid_refuses_what_it_cannot_show():
    for arguments, options, said in (
        (({}, [""], [""]), {}, "`pictures`: is empty"),
        (({(1, 0): plain(RED)}, [""], [""]), {}, r"`pictures`: \(1, 0\) is outside the 1 rows"),
        (({(0, 0): np.zeros((4, 4))}, [""], [""]), {}, r"`pictures\[0, 0\]`: expected one image"),
        (({(0, 0): plain(RED)}, [""], [""]), {"cell": 3}, "`cell`: expected 16 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            sheets.labelled_grid(*arguments, **options)
