"""The page of `nst-jax web`, without HTTP: settings, queue, uploads, visitors, the command it shows."""

import io
import shlex
import shutil
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst_jax import images
from nst_jax.app import cli, recorder
from nst_jax.app.watch import MeasuringWatch
from nst_jax.app.web import archive, limits, positions, quick, settings
from nst_jax.app.web.painting import PictureWork
from nst_jax.app.web.queue import Queue
from nst_jax.app.web.quick import QuickPainter, QuickPicture, Superseded
from nst_jax.app.web.run import Failure, Progress, Run, RunState, Wish
from nst_jax.app.web.security import Guard
from nst_jax.app.web.uploads import Uploads
from nst_jax.app.web.visitors import Visitor, Visitors, run_status
from nst_jax.descent import Rest
from tests import shell, small

SIDE = 48
SECONDS = 20  # after which a test that waits fails


def png(height=40, width=60, seed=0, mode="RGB"):
    """Return the bytes of a PNG of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.convert(mode).save(file, "PNG")
    return file.getvalue()


def mask(height=40, width=60):
    """Return the bytes of a mask whose left half is inside."""
    inside = np.zeros((height, width), np.uint8)
    inside[:, : width // 2] = 255
    file = io.BytesIO()
    Image.fromarray(inside).save(file, "PNG")
    return file.getvalue()


# --- Settings and command lines -------------------------------------------------------------------

KNOWN = ("photo.jpg", "a.jpg", "b.jpg", "mask_keep.png", "mask_1.png", "start_9.png")


def test_all_settings_become_words_that_the_command_reads():
    chosen = settings.settings_in(
        {
            "photo": "photo.jpg",
            "styles": [["a.jpg", 0.75], ["b.jpg", 0.25]],
            "recipe": "gram",
            "quality": "draft",
            "steps": 7,
            "strength": 0.6,
            "size": 96,
            "colors": "content",
            "realism": 0.5,
            "style_scale": 1.5,
            "init": "start_9.png",
            "protect": ["mask_keep.png", 0.5],
            "regions": [["mask_1.png", "b.jpg"]],
        },
        KNOWN,
    )
    assert settings.command_line(settings.stylize_words(chosen)) == (
        "nst-jax stylize photo.jpg a.jpg:0.75 b.jpg:0.25 --recipe gram --quality draft --steps 7 "
        "--strength 0.6 --size 96 --colors content --realism 0.5 --style-scale 1.5 "
        "--init start_9.png --protect mask_keep.png:0.5 --region mask_1.png:b.jpg -o picture.png"
    )
    assert chosen.files == [
        "photo.jpg",
        "a.jpg",
        "b.jpg",
        "mask_1.png",
        "start_9.png",
        "mask_keep.png",
    ]


def test_what_the_recipe_decides_is_left_out():
    given = {
        "photo": "photo.jpg",
        "styles": [["a.jpg", 1]],
        "strength": 0.85,
        "quality": "",
        "size": None,
    }
    words = settings.stylize_words(settings.settings_in(given, KNOWN))
    assert words == ["stylize", "photo.jpg", "a.jpg", "-o", "picture.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photo": "other.jpg"}, "photo: this picture is no longer here"),
        ({"photo": None}, "photo: is missing"),
        ({"photo": ["a.jpg"]}, "photo: this picture"),
        ({"styles": []}, "styles: is missing"),
        ({"styles": [["a.jpg", 0]]}, "all shares are 0"),
        ({"styles": [["a.jpg", 2]]}, "from 0 to 1"),
        ({"styles": [["a.jpg", float("nan")]]}, "from 0 to 1"),
        ({"styles": [["a.jpg", 1]] * 2}, "chosen twice"),
        ({"styles": [["a.jpg", 1], ["waves", 1]]}, "cannot be mixed"),
        ({"styles": [["a.jpg"]]}, "pairs"),
        ({"styles": "a.jpg"}, "pairs"),
        ({"size": 5000}, "size: expected a whole number from 32 to 2048|size: expected a number"),
        ({"size": True}, "size: expected"),
        ({"steps": 1.5}, "whole number"),
        ({"recipe": "--help"}, "recipe: expected one of"),
        ({"colors": {"a": 1}}, "colors: expected one of"),
        ({"protect": ["nowhere.png", 1]}, "protect: this picture"),
        ({"regions": [["mask_1.png", "/etc/passwd"]]}, "regions: this picture"),
        ({"weights": "x"}, "there is no setting 'weights'"),
        ({"steps": 10**400}, "steps: expected a number from 1 to"),
        ({"strength": float("nan")}, "strength: expected a number from 0 to 1"),
        ({"strength": float("inf")}, "strength: expected a number from 0 to 1"),
        ({"styles": [["a.jpg", 10**400]]}, "styles: expected a number from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_used_are_one_sentence(change, words):
    given = {"photo": "photo.jpg", "styles": [["a.jpg", 1]]} | change
    with pytest.raises(ValueError, match=words) as caught:
        settings.settings_in(given, KNOWN)
    assert "\n" not in str(caught.value)


def test_a_gallery_style_is_only_painted_by_a_single_pass():
    chosen = settings.settings_in({"photo": "photo.jpg", "styles": [["waves", 1]]}, KNOWN)
    words = ["--bucket", "512", "-o", "picture.png"]
    assert settings.instant_words(chosen) == ["instant", "photo.jpg", "waves", *words]
    with pytest.raises(ValueError, match="in a moment only"):
        settings.stylize_words(chosen)


def test_an_instant_picture_lies_in_no_square_that_memory_does_not_hold(monkeypatch):
    chosen = settings.settings_in({"photo": "photo.jpg", "styles": [["waves", 1]]}, KNOWN)
    assert "--bucket" in settings.instant_words(chosen)
    monkeypatch.setattr(settings, "square_fits", lambda side: False)
    assert "--bucket" not in settings.instant_words(chosen)


def test_an_instant_picture_has_the_colours_and_masks_that_it_can_have():
    given = {"photo": "photo.jpg", "protect": ["keep.png", 0.5], "realism": 0.2}
    words = ["--realism", "0.2", "--protect", "keep.png:0.5", "-o", "picture.png"]
    known = {*KNOWN, "keep.png", "art.jpg"}
    for style, colors, more in (
        ("art.jpg", "content", ["--colors", "content"]),
        ("waves", "content", []),  # a named style has no pixels that could be recoloured
        ("waves", "content-after", ["--colors", "content-after"]),
    ):
        chosen = settings.settings_in({**given, "styles": [[style, 1]], "colors": colors}, known)
        expected = ["instant", "photo.jpg", style, "--bucket", "512", *more, *words]
        assert settings.instant_words(chosen) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("-rf.png", "rf.png"),
        ("C:\\photos\\cat.PNG", "cat.png"),
        ("..", "my_picture.png"),
        ("Picture.JPG", "my_Picture.jpg"),
        ("step_00001.png", "my_step_00001.png"),
        ("VIEW_a.png", "my_VIEW_a.png"),
        ("steps.png", "steps.png"),
        ("a b;rm.jpg", "a_b_rm.jpg"),
        ("été.webp", "t.webp"),
        ("x" * 300 + ".png", "x" * 60 + ".png"),
        ("net.h5", "net_h5.png"),
        ("waves", "waves.png"),
    ],
)
def test_names_of_uploads_are_safe_on_a_command_line(name, expected):
    assert limits.safe_name(name) == expected


def test_names_of_uploads_differ_by_more_than_capitals():
    assert limits.safe_name("Cat.png", {"cat.png", "CAT_2.png"}) == "Cat_3.png"


def test_a_number_makes_no_name_of_an_upload_one_of_the_servers_own():
    taken = {"painted_after.png", "my_painted_after.png"}
    assert limits.safe_name("painted_after.png", taken) == "my_painted_after_2.png"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`style`: '/srv/my pictures/a.png' is empty", "style: 'a.png' is empty"),
        ('in "/usr/lib/x.py", line 3', 'in "x.py", line 3'),
        ("no space at C:\\Users\\me\\cache", "no space at cache"),
        ("1/2 of a / b at https://example.org/help", "1/2 of a / b at https://example.org/help"),
    ],
)
def test_messages_show_no_path(text, expected):
    assert limits.without_paths(text) == expected


# --- The queue ------------------------------------------------------------------------------------


class Steps:
    """Work of some steps that does what its test asks after each."""

    def __init__(self, count=3, after=lambda run, step: None):
        self.count, self.after, self.done, self.closed = count, after, 0, False

    def paint(self, run):
        while self.done < self.count:
            self.done += 1
            run.progress = Progress(step=self.done, total=self.count)
            self.after(run, self.done)
            if run.request is not Wish.NOTHING and self.done < self.count:
                return False
        return True

    def go_back(self, step):
        self.done, self.closed = step, False

    def close(self):
        self.closed = True


def made(tmp_path, work=None, **options):
    return Run(work or Steps(), ["stylize"], tmp_path, **options)


def test_runs_are_painted_in_their_order_and_know_their_places(tmp_path):
    queue, places = Queue(), []
    first = made(
        tmp_path, Steps(1, lambda run, step: places.append([queue.place(r) for r in runs]))
    )
    runs = [first, made(tmp_path), made(tmp_path)]
    for run in runs:
        queue.add(run)
    assert [queue.place(run) for run in runs] == [0, 1, 2]
    assert queue.paint_next() and places == [[0, 1, 2]]
    assert first.state is RunState.DONE and first.work.closed
    assert [queue.place(run) for run in runs] == [None, 0, 1]
    assert queue.paint_next() and queue.paint_next() and not queue.paint_next()
    assert [run.state for run in runs] == [RunState.DONE] * 3


def test_a_paused_run_frees_the_device_and_goes_on_behind_the_others(tmp_path):
    queue = Queue()
    run = made(tmp_path, Steps(3, lambda run, step: queue.pause(run) if step == 1 else None))
    other = made(tmp_path)
    queue.add(run)
    queue.add(other)
    assert queue.paint_next()
    assert run.state is RunState.PAUSED and run.work.done == 1 and not run.work.closed
    queue.go_on(run)
    assert [queue.place(other), queue.place(run)] == [0, 1]
    assert queue.paint_next() and queue.paint_next()
    assert run.state is RunState.DONE and run.work.done == 3


def test_a_run_is_stopped_wherever_it_is(tmp_path):
    queue = Queue()
    painting = made(tmp_path, Steps(3, lambda run, step: queue.stop(run)))
    waiting = made(tmp_path)
    queue.add(painting)
    queue.add(waiting)
    queue.stop(waiting)
    assert waiting.state is RunState.STOPPED and queue.place(waiting) is None
    assert queue.paint_next() and painting.state is RunState.STOPPED and painting.work.closed
    queue.go_on(painting)  # ended runs stay ended
    queue.pause(painting)
    assert painting.state is RunState.STOPPED and not queue.paint_next()


def test_a_run_that_is_to_go_on_while_it_pauses_keeps_its_place(tmp_path):
    class Late(Steps):
        def paint(self, run):
            finished = super().paint(run)
            if not finished:
                queue.go_on(run)  # as a click while the position is saved
            return finished

    queue = Queue()
    run = made(tmp_path, Late(3, lambda run, step: queue.pause(run, "why") if step == 1 else None))
    other = made(tmp_path)
    queue.add(run)
    queue.add(other)
    assert queue.paint_next()
    assert (run.state, run.why, queue.place(run)) == (RunState.WAITING, "", 0)
    assert queue.paint_next() and run.state is RunState.DONE and run.work.done == 3
    assert queue.paint_next() and other.state is RunState.DONE


def with_pictures(folder, *steps, count=4, after=lambda run, step: None):
    """Return a run that keeps a picture after each of these steps, and after the last of `count`."""

    def kept(run, step):
        if step in (*steps, count):
            path = folder / f"step_{step}.png"
            path.touch()
            run.add_picture(step, path)
        after(run, step)

    return made(folder, Steps(count, kept))


def test_a_run_goes_back_to_a_picture_also_when_it_has_ended(tmp_path):
    queue, run = Queue(), with_pictures(tmp_path, 1, 2, 3)
    queue.add(run)
    assert queue.paint_next() and run.state is RunState.DONE and run.work.closed
    queue.go_back(run, 2)
    assert (run.state, run.progress.step, run.progress.total) == (RunState.PAUSED, 2, 4)
    assert [one.step for one in run.kept] == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"step_1.png", "step_2.png"}
    with pytest.raises(ValueError, match="no longer here"):
        queue.go_back(run, 3)
    queue.go_on(run)
    assert queue.place(run) == 0 and queue.paint_next() and run.state is RunState.DONE
    assert [one.step for one in run.kept] == [1, 2, 3, 4]


def test_a_run_that_paints_or_waits_goes_back_and_pauses(tmp_path):
    queue = Queue()
    asked = []

    def back(run, step):
        if step == 3 and not asked:
            asked.append(step)
            queue.go_back(run, 1)
            assert run.request is Wish.BACK and queue.place(run) == 0
            queue.pause(run)  # neither takes the request back
            queue.go_on(run)
            assert run.request is Wish.BACK

    run, other = with_pictures(tmp_path, 1, 2, after=back), made(tmp_path)
    queue.add(run)
    queue.add(other)
    assert queue.paint_next() and run.state is RunState.PAUSED and queue.place(run) is None
    assert run.progress.step == 1 and [one.step for one in run.kept] == [1]
    assert queue.paint_next() and other.state is RunState.DONE
    queue.go_on(run)
    queue.go_back(run, 1)  # while it waits
    assert run.state is RunState.PAUSED and queue.place(run) is None
    queue.go_on(run)
    assert queue.paint_next() and run.state is RunState.DONE


def test_a_run_that_is_stopped_does_not_go_back(tmp_path):
    def both(run, step):
        if step == 2:
            queue.go_back(run, 1)
            queue.stop(run)
            queue.go_back(run, 1)

    queue, run = Queue(), with_pictures(tmp_path, 1, 2, after=both)
    queue.add(run)
    assert queue.paint_next() and run.state is RunState.STOPPED
    assert [one.step for one in run.kept] == [1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_no_exception_ends_the_thread_that_paints(tmp_path, error):
    def after(run, step):
        raise error

    queue = Queue()
    run, other = made(tmp_path, Steps(1, after)), made(tmp_path)
    queue.add(run)
    queue.add(other)
    assert queue.paint_next() and run.state is RunState.FAILED
    assert queue.paint_next() and other.state is RunState.DONE


def test_a_failure_ends_one_run_only(tmp_path, caplog):
    def fail(error):
        def after(run, step):
            raise error

        return after

    queue = Queue()
    foreseen = made(tmp_path, Steps(1, fail(Failure("nothing was painted"))))
    bug = made(tmp_path, Steps(1, fail(RuntimeError(f"{tmp_path}/photo.jpg, /opt/lib/x.so"))))
    last = made(tmp_path)
    for run in (foreseen, bug, last):
        queue.add(run)
        queue.paint_next()
    assert (foreseen.state, foreseen.why) == (RunState.FAILED, "nothing was painted")
    assert (bug.state, bug.why) == (RunState.FAILED, "RuntimeError: photo.jpg, x.so")
    assert "/opt/lib/x.so" in caplog.text and "Traceback" in caplog.text
    assert last.state is RunState.DONE


def test_runs_that_nobody_looks_at_are_paused_unless_they_shall_be_kept(tmp_path):
    queue, looking = Queue(), {"first": True}
    run = made(tmp_path, watched=lambda: looking["first"])
    kept = made(tmp_path, watched=lambda: False, keep=True)
    queue.add(run)
    queue.add(kept)
    assert queue.pause_unwatched() == []
    looking["first"] = False
    assert queue.pause_unwatched() == [run]
    assert run.state is RunState.PAUSED and run.why == "nobody was looking"
    assert queue.place(kept) == 0


def test_the_queue_is_bounded(tmp_path):
    queue = Queue(most=2)
    queue.add(made(tmp_path))
    queue.add(made(tmp_path))
    with pytest.raises(ValueError, match="2 runs wait or paint"):
        queue.add(made(tmp_path))


def test_the_pictures_of_a_run_are_thinned_but_span_it(tmp_path):
    run = made(tmp_path)
    for step in range(200):
        path = tmp_path / f"step_{step}.png"
        path.touch()
        run.add_picture(step, path)
    steps = [one.step for one in run.kept]
    assert len(steps) <= limits.MOST_SNAPSHOTS and steps[0] == 0 and steps[-1] == 199
    assert {path.name for path in tmp_path.iterdir()} == {f"step_{step}.png" for step in steps}


# --- Visitors -------------------------------------------------------------------------------------


def test_visitors_are_bounded_watched_and_forgotten(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(limits, "MOST_VISITORS", 2)
    visitors = Visitors(Queue(), lambda: now[0])
    try:
        secret, visitor = visitors.welcome()
        visitor.came()
        visitors.welcome()
        with pytest.raises(ValueError, match="2 browsers"):
            visitors.welcome()
        now[0] = limits.UNWATCHED_SECONDS + 1
        assert visitor.is_watching()
        another, _ = visitors.welcome()  # in the place of the one without a page
        visitor.left()
        assert visitor.is_watching()  # it may be reloading
        now[0] += limits.UNWATCHED_SECONDS + 1
        assert not visitor.is_watching()
        folder = visitor.folder
        now[0] += limits.FORGOTTEN_SECONDS
        visitors.tidy()
        assert visitors.find(secret) is None and visitors.find(another) is None
        assert not folder.exists() and visitors.find(None) is None
    finally:
        visitors.close()


def test_a_new_run_ends_the_one_before(tmp_path):
    queue, visitor = Queue(), Visitor(tmp_path)
    visitor.uploads.add("photo.png", png())
    visitor.uploads.add("a.png", png(seed=1), "painting")
    given = {"photo": "photo.png", "styles": [["a.png", 1]]}
    first = visitor.begin(given, queue, lambda words, folder: Steps(), keep=False)
    second = visitor.begin(given, queue, lambda words, folder: Steps(), keep=True)
    assert first.state is RunState.STOPPED and queue.place(second) == 0
    visitor.clear()
    assert not first.folder.exists() and (second.folder / "photo.png").exists()
    status = visitor.status(queue)
    assert status["run"]["state"] == "waiting" and status["run"]["keep"]
    assert str(tmp_path) not in str(status)


def test_a_refused_run_leaves_the_one_before(tmp_path):
    queue, visitor = Queue(most=1), Visitor(tmp_path)
    visitor.uploads.add("photo.png", png())
    visitor.uploads.add("a.png", png(seed=1), "painting")
    given = {"photo": "photo.png", "styles": [["a.png", 1]]}
    first = visitor.begin(given, queue, lambda words, folder: Steps(), keep=False)
    with pytest.raises(ValueError, match="1 runs wait or paint"):
        visitor.begin(given, queue, lambda words, folder: Steps(), keep=False)
    assert visitor.run is first and first.state is RunState.WAITING and queue.place(first) == 0


def test_a_start_replaces_the_one_before(tmp_path):
    visitor = Visitor(tmp_path)
    visitor.run = Run(Steps(), ["stylize", "photo.png", "-o", settings.OUTPUT], tmp_path)
    for step in (1, 2):
        path = tmp_path / f"step_{step}.png"
        path.write_bytes(png())
        visitor.run.add_picture(step, path)
        visitor.start_from(step)
    assert list(visitor.uploads.known) == ["start_2_after_2.png"]
    path.unlink()
    with pytest.raises(ValueError, match="no longer here"):
        visitor.start_from(2)
    assert list(visitor.uploads.known) == ["start_2_after_2.png"]


def test_a_start_that_is_refused_leaves_the_one_before(tmp_path, monkeypatch):
    visitor = Visitor(tmp_path)
    visitor.run = Run(Steps(), ["stylize", "photo.png", "-o", settings.OUTPUT], tmp_path)
    for step, data in ((1, png()), (2, png(seed=1)), (3, b"no picture")):
        path = tmp_path / f"step_{step}.png"
        path.write_bytes(data)
        visitor.run.add_picture(step, path)
    name = visitor.start_from(1)
    with pytest.raises(ValueError, match="picture"):
        visitor.start_from(3)
    assert list(visitor.uploads.known) == [name]
    assert (tmp_path / name).read_bytes() == png()
    monkeypatch.setattr(limits, "MOST_PICTURES", 1)  # the start that is replaced does not count
    name = visitor.start_from(2)
    assert list(visitor.uploads.known) == [name]
    assert (tmp_path / name).read_bytes() == png(seed=1)
    monkeypatch.setattr(limits, "MOST_PICTURES", 0)
    with pytest.raises(ValueError, match="which is the most"):
        visitor.start_from(1)
    assert list(visitor.uploads.known) == [name]


def test_an_archive_has_the_files_of_the_command_only(tmp_path):
    visitor = Visitor(tmp_path)
    visitor.uploads.add("photo.png", png())
    visitor.uploads.add("a.png", png(seed=1), "painting")
    given = {"photo": "photo.png", "styles": [["a.png", 1]]}
    run = visitor.begin(given, Queue(), lambda words, folder: Steps(), keep=False)
    for name in ("step_00001.png", ".step_00002.png.0123.part"):
        (run.folder / name).write_bytes(png())
    run.add_picture(1, run.folder / "step_00001.png")
    taken = zipfile.ZipFile(io.BytesIO(archive.archive_of(run, run.picture())))
    assert sorted(taken.namelist()) == ["a.png", "command.sh", "painted_after_1.png", "photo.png"]


@pytest.mark.parametrize("kind", ["stylize", "instant"])
def test_a_result_larger_than_the_page_allows_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(limits, "LARGEST_SIDE", 40)
    for name, seed in (("photo.png", 0), ("a.png", 1)):
        (tmp_path / name).write_bytes(png(seed=seed))
    job_of = {"stylize": settings.stylize_job_of, "instant": settings.instant_job_of}[kind]
    words = [kind, "photo.png", "a.png", "-o", "picture.png", "--size"]
    with pytest.raises(ValueError, match="size: the result would have 48 x 32 px") as caught:
        job_of([*words, "48"], tmp_path)
    assert "\n" not in str(caught.value)
    job_of([*words, "40"], tmp_path)


def test_a_run_that_the_command_would_refuse_is_refused_without_paths(tmp_path):
    visitor = Visitor(tmp_path)
    visitor.uploads.add("photo.png", png())
    visitor.uploads.add("a.png", png(seed=1), "painting")
    visitor.uploads.add("mask_keep.png", mask(60, 40), "mask")
    given = {"photo": "photo.png", "styles": [["a.png", 1]], "protect": ["mask_keep.png", 1]}
    with pytest.raises(ValueError, match="other proportions") as caught:
        visitor.begin(given, Queue(), PictureWork.of, keep=False)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)
    assert visitor.run is None and not list(tmp_path.glob("run_*"))


# --- Uploads --------------------------------------------------------------------------------------


def malformed():
    """Yield 50 and more files that are no pictures, with names."""
    good = {"png": png(), "jpg": None, "gif": None, "webp": None, "tiff": None, "bmp": None}
    for kind in good:
        file = io.BytesIO()
        Image.open(io.BytesIO(png())).save(
            file, {"jpg": "JPEG", "tiff": "TIFF"}.get(kind, kind.upper())
        )
        good[kind] = file.getvalue()
    for kind, data in good.items():
        for share in (0.02, 0.1, 0.3, 0.5, 0.8):
            yield f"cut_{share}.{kind}", data[: max(3, int(len(data) * share))]
        yield f"headless.{kind}", data[4:]
    rng = np.random.default_rng(1)
    for number in range(6):
        yield f"noise_{number}.png", rng.bytes(10 ** (number % 4 + 1))
    bomb = png()[:8] + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in [
            (b"IHDR", (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"),
            (b"IDAT", zlib.compress(b"")),
            (b"IEND", b""),
        ]
    )
    yield "bomb.png", bomb
    yield "empty.png", b""
    yield "page.html", b"<!doctype html><script>alert(1)</script>"
    yield "picture.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "program", b"\x7fELF" + bytes(100)
    yield "archive.zip", b"PK\x03\x04" + bytes(100)
    yield "text.txt", b"a photo, honestly"
    yield "postscript.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"
    yield "../../etc/passwd", b"root:x:0:0"
    yield "network.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)


def test_malformed_uploads_give_one_sentence_each_and_leave_nothing(tmp_path):
    uploads, count = Uploads(tmp_path), 0
    for name, data in malformed():
        with pytest.raises(ValueError) as caught:
            uploads.add(name, data)
        text = str(caught.value)
        assert text and "\n" not in text and str(tmp_path) not in text, (name, text)
        assert "Traceback" not in text and len(text) < 400, (name, text)
        count += 1
    assert count >= 50
    assert not uploads.known and not list(tmp_path.iterdir())


def test_uploads_are_bounded_and_a_mask_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MOST_PICTURES", 2)
    monkeypatch.setattr(limits, "MOST_BYTES", 5000)
    uploads = Uploads(tmp_path)
    first = uploads.add("mask_keep.png", mask(), "mask")
    second = uploads.add("mask_keep.png", mask(20, 30), "mask")
    assert second.name == first.name and second.shape == (20, 30) and second.version > first.version
    with pytest.raises(ValueError, match="no picture|not a picture"):
        uploads.add("mask_keep.png", b"not a picture", "mask")
    assert images.load(tmp_path / "mask_keep.png").shape == (20, 30, 3)  # the good one stays
    uploads.add("photo.png", png(8, 8))
    for name in ("another.png", "photo.png"):  # a second photo of that name would be kept as well
        with pytest.raises(ValueError, match="which is the most"):
            uploads.add(name, png(8, 8))
    uploads.remove("photo.png")
    with pytest.raises(ValueError, match="larger than"):
        uploads.add("another.png", bytes(6000))
    with pytest.raises(ValueError, match="no sample"):
        uploads.add_sample("../secret")
    with pytest.raises(ValueError, match="role"):
        uploads.add("another.png", png(8, 8), "king")


def test_a_mask_is_used_with_its_photo_only_and_deleted_with_it(tmp_path):
    visitor = Visitor(tmp_path)
    uploads = visitor.uploads
    first, other = uploads.add("first.png", png()), uploads.add("other.png", png(seed=1))
    uploads.add("a.png", png(seed=2), "painting")
    over = {"mask_keep.png": first.version, "mask_1.png": other.version, "mask_2.png": 0}
    for name, version in over.items():
        uploads.add(name, mask(60, 40), "mask", over=version)

    def given(photo):
        return {
            "photo": photo,
            "styles": [["a.png", 1]],
            "protect": ["mask_keep.png", 1],
            "regions": [["mask_2.png", "a.png"]],
        }

    assert visitor.settings_in(given("first.png")).masks == ["mask_2.png", "mask_keep.png"]
    with pytest.raises(ValueError, match="a part was brushed over another photo; brush it again"):
        visitor.settings_in(given("other.png"))
    with pytest.raises(ValueError, match="brushed over another photo"):
        visitor.settings_in(given("first.png") | {"regions": [["mask_1.png", "a.png"]]})
    uploads.remove("first.png")
    assert uploads.known.keys() == {"other.png", "a.png", "mask_1.png", "mask_2.png"}
    assert not (tmp_path / "mask_keep.png").exists()
    uploads.add("first.png", png())  # it has the name of the removed photo, but is another one
    with pytest.raises(ValueError, match="the photo of this part is no longer here"):
        uploads.add("mask_keep.png", mask(60, 40), "mask", over=first.version)
    assert "mask_keep.png" not in uploads.known


def test_a_sample_is_not_confused_with_an_upload_of_the_same_name(tmp_path):
    uploads = Uploads(tmp_path)
    own = uploads.add("chelsea.jpg", png(8, 12))
    sample = uploads.add_sample("chelsea")
    assert sample.name != own.name and sample.shape != own.shape
    assert uploads.add_sample("chelsea") is sample  # chosen twice, it is kept once
    uploads.remove(sample.name)
    again = uploads.add_sample("chelsea")
    assert again.shape == sample.shape and again.version > sample.version


def test_a_full_disk_loses_no_picture(tmp_path, monkeypatch):
    uploads = Uploads(tmp_path)
    uploads.add("mask_keep.png", mask(20, 30), "mask")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def save(path, image):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(images, "save", save)
    for name, data, role in (("mask_keep.png", mask(), "mask"), ("photo.png", png(), "photo")):
        with pytest.raises(ValueError, match=f"picture: '{name}' cannot be kept: No space left"):
            uploads.add(name, data, role)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert uploads.known.keys() == {"mask_keep.png"}


# --- Security -------------------------------------------------------------------------------------

NAVIGATION = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
BY_NAME = {"host": "localhost:8317", "origin": "http://localhost:8317"}
LOCAL = Guard("127.0.0.1", 8317)
PORT_80 = Guard("127.0.0.1", 80)
OPEN = Guard("0.0.0.0", 8317, "secret")
OWN = {"host": "127.0.0.1:8317"}


@pytest.mark.parametrize(
    ("guard", "method", "path", "headers", "token", "status"),
    [
        (LOCAL, "GET", "/", OWN, "", None),
        (LOCAL, "POST", "/run", BY_NAME, "", None),
        (LOCAL, "GET", "/", {"host": "[::1]:8317"}, "", None),
        (LOCAL, "GET", "/", {"host": "evil.example:8317"}, "", 421),
        (LOCAL, "GET", "/", {"host": "127.0.0.1:9999"}, "", 421),
        (LOCAL, "GET", "/", {"host": "192.168.1.5:8317"}, "", 421),
        (LOCAL, "GET", "/", {}, "", 421),
        (LOCAL, "GET", "/", {"host": "127.0.0.1"}, "", 421),
        (PORT_80, "POST", "/run", {"host": "[::1]", "origin": "http://[::1]"}, "", None),
        (PORT_80, "GET", "/", {"host": "localhost:80"}, "", None),
        (PORT_80, "GET", "/", {"host": "localhost:81"}, "", 421),
        (PORT_80, "GET", "/", {"host": "evil.example"}, "", 421),
        (PORT_80, "GET", "/", {}, "", 421),
        (LOCAL, "POST", "/run", OWN | {"origin": "http://evil.example"}, "", 403),
        (LOCAL, "POST", "/run", OWN | {"origin": "null"}, "", 403),
        (LOCAL, "POST", "/run", OWN | {"origin": "http://localhost:8317"}, "", 403),
        (LOCAL, "GET", "/events", OWN | {"sec-fetch-site": "cross-site"}, "", 403),
        (LOCAL, "GET", "/events", OWN | {"sec-fetch-site": "same-site"}, "", 403),
        (LOCAL, "GET", "/events", OWN | {"sec-fetch-site": "same-origin"}, "", None),
        (LOCAL, "GET", "/", OWN | NAVIGATION | {"sec-fetch-dest": "document"}, "", None),
        (LOCAL, "GET", "/", OWN | NAVIGATION | {"sec-fetch-dest": "iframe"}, "", 403),
        (OPEN, "GET", "/", {"host": "192.168.1.5:8317"}, "secret", None),
        (OPEN, "GET", "/", {"host": "192.168.1.5:8317"}, "", 401),
        (OPEN, "GET", "/", {"host": "192.168.1.5:8317"}, "sécret", 401),
        (OPEN, "GET", "/", {"host": "evil.example:8317"}, "secret", 421),
    ],
)  # fmt: skip
def test_only_requests_of_the_page_itself_are_served(guard, method, path, headers, token, status):
    refused = guard.refusal(method, path, headers, token)
    assert (refused and refused.status) == status


# --- The same pictures as by the command line -----------------------------------------------------


def test_a_run_paused_on_the_page_is_bit_for_bit_that_of_its_command(tmp_path, monkeypatch, capsys):
    words_of = settings.stylize_words
    monkeypatch.setattr(settings, "stylize_words", lambda c: [*words_of(c), *small.SHALLOW_FLAGS])
    queue, visitor = Queue(), Visitor(tmp_path)
    visitor.uploads.add("my photo.png", png())
    visitor.uploads.add("a.png", png(seed=1), "painting")
    visitor.uploads.add("b.png", png(50, 40, seed=2), "painting")
    visitor.uploads.add("mask_keep.png", mask(), "mask")
    given = {
        "photo": "my_photo.png",
        "styles": [["a.png", 0.7], ["b.png", 0.3]],
        "size": SIDE,
        "steps": 4,
        "protect": ["mask_keep.png", 0.5],
    }
    run = visitor.begin(given, queue, PictureWork.of, keep=False)
    add, paused = run.add_picture, []

    def add_and_pause(step, path):
        add(step, path)
        if step >= 1 and not paused:
            paused.append(step)
            queue.pause(run)

    run.add_picture = add_and_pause

    def pause_and_go_on(watch):
        queue.pause(run)
        assert watch.stopped()
        queue.go_on(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MeasuringWatch, "stop_if_asked", pause_and_go_on)
        assert queue.paint_next() and (run.state, queue.place(run)) == (RunState.WAITING, 0)
    assert queue.paint_next()
    assert run.state is RunState.PAUSED and run.progress.step == paused[0] < 4
    queue.go_on(run)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    assert (
        run.progress.step == run.progress.total == 4
        and abs(sum(run.progress.shares.values()) - 1) < 1e-5
    )

    # As a visitor does it: the archive unpacked elsewhere, and its command typed there.
    elsewhere = tmp_path / "elsewhere"
    zipfile.ZipFile(io.BytesIO(archive.archive_of(run, run.picture()))).extractall(elsewhere)
    monkeypatch.chdir(elsewhere)
    said = archive.command_of(run, paused[0])
    assert said["command"].startswith("nst-jax stylize my_photo.png a.png:0.7 b.png:0.3")
    assert cli.main([*shlex.split(said["command"])[1:], "--quiet", "--no-cache"]) == 0, (
        capsys.readouterr()
    )
    assert (shell.pixels("picture.png") == shell.pixels("painted_after_4.png")).all()
    frame = shell.pixels(settings.frame_name(paused[0]))
    assert (frame == shell.pixels(run.picture(paused[0]).path)).all()
    assert archive.command_of(run)["command"] in (elsewhere / "command.sh").read_text()
    assert images.read_metadata(run.picture().path)["finished"]


def shallow_visitor(folder, monkeypatch):
    """Return a visitor with two pictures, whose runs compile quickly, and settings of four updates."""
    words_of = settings.stylize_words
    monkeypatch.setattr(settings, "stylize_words", lambda c: [*words_of(c), *small.SHALLOW_FLAGS])
    visitor = Visitor(folder)
    visitor.uploads.add("photo.png", png())
    visitor.uploads.add("a.png", png(seed=1), "painting")
    return visitor, {"photo": "photo.png", "styles": [["a.png", 1]], "size": SIDE, "steps": 4}


def test_pictures_of_a_run_in_a_square_have_the_photos_shape(tmp_path, monkeypatch):
    """On an accelerator every run lies in a square; here the option puts it into one."""
    visitor, given = shallow_visitor(tmp_path, monkeypatch)
    words_of = settings.stylize_words
    monkeypatch.setattr(settings, "stylize_words", lambda c: [*words_of(c), "--bucket", "64"])
    queue = Queue()
    run = visitor.begin(given, queue, PictureWork.of, keep=False)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    shapes = {one.step: shell.pixels(one.path).shape for one in run.kept}
    assert len(shapes) > 2 and shapes[4][0] != shapes[4][1]
    assert set(shapes.values()) == {shapes[4]}


def test_the_page_shows_that_a_layer_leaves_out_a_region(tmp_path, monkeypatch):
    visitor, given = shallow_visitor(tmp_path, monkeypatch)
    small_part = np.zeros((40, 60), np.uint8)
    small_part[10:20, 10:20] = 255  # 8 px of the painting; a position of relu2_1 sees 10 x 10
    Image.fromarray(small_part).save(tmp_path / "dot.png")
    words_of = settings.stylize_words
    flags = ["--region", f"{tmp_path / 'dot.png'}:a.png", "--set", "terms.region_growth=0"]
    flags += ["--style-layer", "relu2_1=1"]
    monkeypatch.setattr(settings, "stylize_words", lambda c: [*words_of(c), *flags])
    queue = Queue()
    run = visitor.begin({**given, "steps": 1}, queue, PictureWork.of, keep=False)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    (note,) = run_status(run, queue)["notes"]
    said = (
        "`--region[0]`: at 48x32 px, the region is too small or too thin for relu2_1, so the style "
    )
    assert note == f"{said}loss leaves out this layer there"


@pytest.mark.parametrize("stalled", [True, False])
def test_advice_on_a_failed_painting_can_be_followed_on_the_page(tmp_path, monkeypatch, stalled):
    visitor, given = shallow_visitor(tmp_path, monkeypatch)
    words_of = settings.stylize_words
    flags = ["--optimizer", "adam", "--lr", "1e30"]
    if not stalled:
        monkeypatch.setattr(settings, "stylize_words", lambda c: [*words_of(c), *flags])
    monkeypatch.setattr(recorder, "has_stalled", lambda totals, scales: stalled)
    queue = Queue()
    run = visitor.begin(given, queue, PictureWork.of, keep=False)
    assert queue.paint_next() and run.state is RunState.FAILED
    said = (
        "the losses after 4 updates are those of the start, so nothing was painted; "
        if stalled
        else "the losses, or their gradient, are not finite after 1 updates; "
    )
    assert run.why == f"{said}choose another recipe, or less style"


def test_a_painting_that_came_to_rest_far_from_its_goal_has_a_warning(tmp_path, monkeypatch):
    visitor, given = shallow_visitor(tmp_path, monkeypatch)
    monkeypatch.setattr(recorder, "rest_of", lambda totals, scales: Rest(1, 4, 0.97))
    queue = Queue()
    run = visitor.begin(given, queue, PictureWork.of, keep=False)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    said = visitor.status(queue)["run"]["warning"]
    assert said.startswith("the loss has not changed since update 1 of 4 and is still 97 %")
    assert said.endswith(", so the picture is hardly painted; choose another recipe")
    queue.go_back(run, run.kept[0].step)
    assert visitor.status(queue)["run"]["warning"] == ""


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["from a position", "from the start"])
def test_what_is_painted_after_going_back_is_bit_for_bit_the_same(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(positions, "SECONDS", seconds)
    visitor, given = shallow_visitor(tmp_path, monkeypatch)
    queue = Queue()
    run = visitor.begin(given, queue, PictureWork.of, keep=False)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    first = {one.step: shell.pixels(one.path) for one in run.kept}
    back_to = run.kept[1].step
    assert 0 < back_to < 4
    assert bool(list(run.folder.glob("position_*.h5"))) == (seconds == 0)
    queue.go_back(run, back_to)
    assert "--every" in archive.command_of(run)["command"]  # of the picture to which it went back
    queue.go_on(run)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    again = {one.step: shell.pixels(one.path) for one in run.kept}
    for step in first.keys() & again.keys():
        assert (first[step] == again[step]).all()
    assert {0, back_to, 4} <= first.keys() & again.keys()
    assert images.read_metadata(run.picture().path)["finished"]


def test_a_painting_that_starts_from_another_one_has_all_its_commands(
    tmp_path, monkeypatch, capsys
):
    visitor, given = shallow_visitor(tmp_path, monkeypatch)
    queue = Queue()
    run = visitor.begin(given, queue, PictureWork.of, keep=False)
    assert queue.paint_next() and run.state is RunState.DONE, run.why
    for settings_then in (given, given | {"steps": 3, "strength": 0.6}):
        start = visitor.start_from(run.kept[1].step)
        run = visitor.begin(settings_then | {"init": start}, queue, PictureWork.of, keep=False)
        assert queue.paint_next() and run.state is RunState.DONE, run.why
    said = archive.command_of(run)
    assert "One command is not enough" in said["start_note"] and "masks" not in said["start_note"]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("photo.png", "a.png"):
        (elsewhere / name).write_bytes((run.folder / name).read_bytes())
    monkeypatch.chdir(elsewhere)
    lines = [shlex.split(line) for line in (*said["start"].splitlines(), said["command"])]
    assert [words[0] for words in lines] == ["nst-jax", "cp", "nst-jax", "cp", "nst-jax"]
    for program, *words in lines:
        if program == "cp":
            Path(words[1]).write_bytes(Path(words[0]).read_bytes())
            continue
        assert cli.main([*words, "--quiet", "--no-cache"]) == 0, capsys.readouterr()
    assert (shell.pixels("picture.png") == shell.pixels(run.picture().path)).all()
    script = zipfile.ZipFile(io.BytesIO(archive.archive_of(run, run.picture()))).read("command.sh")
    assert all(f"#   {line}" in script.decode() for line in said["start"].splitlines())


def test_positions_are_bounded_and_the_newest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(positions, "SECONDS", 0.0)
    monkeypatch.setattr(positions, "PAUSE", 0.0)
    monkeypatch.setattr(limits, "MOST_POSITION_BYTES", 350)

    def save(path, checkpoint):
        path.write_bytes(bytes(100))

    monkeypatch.setattr(positions.checkpoints, "save", save)
    loaded = []
    monkeypatch.setattr(positions.checkpoints, "load", lambda path: loaded.append(path.name))
    kept = positions.Positions(tmp_path)
    for step in range(10):
        kept.keep_if_due(step, lambda: None)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 350
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-1] == "position_00009.h5" and len(names) >= 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(999, 700, 299))
    kept.keep_if_due(10, lambda: None)  # the disk has room for two more only
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    kept.before(8)
    assert loaded == names[-2:-1]
    assert kept.before(0) is None and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("as_users_do")  # strings take the place of checkpoints here
def test_a_damaged_position_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(positions, "SECONDS", 0.0)
    monkeypatch.setattr(positions, "PAUSE", 0.0)
    monkeypatch.setattr(
        positions.checkpoints, "save", lambda path, step: path.write_text(str(step))
    )

    def load(path):
        if path.read_text() == "damaged":
            raise ValueError("`path`: is damaged")
        return path.read_text()

    monkeypatch.setattr(positions.checkpoints, "load", load)
    kept = positions.Positions(tmp_path)
    for step in (1, 2, 3):
        kept.keep_if_due(step, lambda step=step: step)
    (tmp_path / "position_00003.h5").write_text("damaged")
    (tmp_path / "position_00002.h5").unlink()
    assert kept.before(9) == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["position_00001.h5"]
    (tmp_path / "position_00001.h5").write_text("damaged")
    assert kept.before(9) is None and not list(tmp_path.iterdir())


def test_a_position_larger_than_all_may_be_is_written_once_only(tmp_path, monkeypatch):
    monkeypatch.setattr(positions, "SECONDS", 0.0)
    monkeypatch.setattr(positions, "PAUSE", 0.0)
    monkeypatch.setattr(limits, "MOST_POSITION_BYTES", 50)
    written = []

    def save(path, checkpoint):
        written.append(path)
        path.write_bytes(bytes(100))

    monkeypatch.setattr(positions.checkpoints, "save", save)
    kept = positions.Positions(tmp_path)
    for step in range(1, 4):
        kept.keep_if_due(step, lambda: None)
    assert len(written) == 1 and not list(tmp_path.iterdir())


def test_another_photo_of_the_same_name_has_another_gallery(tmp_path):
    uploads = Uploads(tmp_path)
    uploads.add("photo.png", png())
    first = uploads.gallery("photo.png")
    first.touch()
    uploads.remove("photo.png")
    assert not first.exists()
    uploads.add("photo.png", png(seed=1))
    assert uploads.gallery("photo.png") != first


def test_an_instant_picture_is_bit_for_bit_that_of_its_command(tmp_path, monkeypatch):
    uploads, painter = Uploads(tmp_path), QuickPainter()
    uploads.add("photo.png", png())
    chosen = settings.settings_in(
        {
            "photo": "photo.png",
            "styles": [["waves", 0.5], ["mosaic", 0.5]],
            "size": SIDE,
            "colors": "content-after",
        },
        uploads.known,
    )
    words = settings.instant_words(chosen)
    with pytest.raises(Superseded):
        painter.paint(words, tmp_path, tmp_path / "instant.png", lambda: False)
    painted = painter.paint(words, tmp_path, tmp_path / "instant.png", lambda: True)
    monkeypatch.chdir(tmp_path)
    typed = shlex.split(settings.command_line(painted.words))[1:]
    assert cli.main([*typed, "--quiet", "--no-cache"]) == 0
    assert (shell.pixels("picture.png") == shell.pixels("instant.png")).all()


@pytest.mark.slow
def test_a_painter_that_is_warm_compiles_nothing_for_the_first_pictures(
    tmp_path, compilations, monkeypatch
):
    monkeypatch.setattr(quick, "FIRST_VISIT_SECONDS", 0)
    painter, uploads = QuickPainter(), Uploads(tmp_path)
    painter.warm(tmp_path)
    photo, style = uploads.add_sample("chelsea"), uploads.add_sample("starry_night", "painting")
    camera = uploads.add("camera.png", png(480, 640))
    wide = uploads.add("wide.png", png(300, 540), "painting")
    before = compilations()
    for more in (
        {"strength": 0.85},
        {"strength": 0.3},
        {"size": 256},
        {"photo": camera.name},
        {"photo": camera.name, "styles": [[wide.name, 1]]},
        {"photo": camera.name, "styles": [["waves", 1]]},
    ):
        given = {"photo": photo.name, "styles": [[style.name, 1]]} | more
        words = settings.instant_words(settings.settings_in(given, uploads.known))
        painter.paint(words, tmp_path, tmp_path / "instant.png", lambda: True)
    assert compilations() == before
    assert shell.pixels(tmp_path / "instant.png").shape == (384, 512, 3)


class Turns(QuickPainter):
    """A painter that only notes which picture it paints: its options, or "visitor"."""

    def __init__(self):
        super().__init__()
        self.painted, self.go_on = [], threading.Event()

    def _paint(self, words, folder, output, wanted, *, keep=False):
        with self._turn():
            self.painted.append("visitor" if words == ["visitor"] else words[1:3])
            assert self.go_on.wait(SECONDS)
            return QuickPicture(output, words, 0.0)

    def _prepare_wide_style(self):
        with self._turn():
            self.painted.append(quick.WIDE_STYLE)

    def paint_provisional(self, *given, keep=False):
        pass

    def visit(self):
        self.paint(["visitor"], Path(), Path("out.png"), lambda: True)


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_a_visitor_waits_for_one_picture_that_nobody_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(quick, "FIRST_VISIT_SECONDS", 0)
    painter = Turns()
    warming = threading.Thread(target=painter.warm, args=(tmp_path,))
    warming.start()
    until(lambda: painter.painted)
    visitor = threading.Thread(target=painter.visit)
    visitor.start()
    until(painter._next.locked)  # the visitor waits for its turn
    painter.go_on.set()
    for thread in (warming, visitor):
        thread.join(SECONDS)
    first, *others = ([photo, style] for photo, style, _ in quick.FIRST_PICTURES)
    assert painter.painted == [first, "visitor", *others, quick.WIDE_STYLE]


def test_before_the_first_visit_only_its_picture_is_prepared(tmp_path):
    painter = Turns()
    painter.go_on.set()
    warming = threading.Thread(target=painter.warm, args=(tmp_path,))
    warming.start()
    until(lambda: painter.painted)
    warming.join(0.2)
    assert warming.is_alive() and len(painter.painted) == 1
    painter.visit()
    warming.join(SECONDS)
    first, *others = ([photo, style] for photo, style, _ in quick.FIRST_PICTURES)
    assert painter.painted == [first, "visitor", *others, quick.WIDE_STYLE]


def test_the_first_picture_is_not_painted_again_for_a_visitor(tmp_path, monkeypatch):
    line = ("chelsea.jpg", "starry_night.jpg", 64)
    monkeypatch.setattr(quick, "FIRST_PICTURES", (line,))
    monkeypatch.setattr(QuickPainter, "_prepare_wide_style", lambda self: None)
    painter, uploads, jobs = QuickPainter(), Uploads(tmp_path), []
    painter.warm(tmp_path)
    paint_rows = quick.paint_rows
    monkeypatch.setattr(quick, "paint_rows", lambda *given: jobs.append(1) or paint_rows(*given))

    def paint(**more):
        given = {"photo": line[0], "styles": [[line[1], 1]], "size": line[2]} | more
        words = settings.instant_words(settings.settings_in(given, uploads.known))
        found = painter.paint(words, tmp_path, tmp_path / "instant.png", lambda: True)
        assert found.words == words and found.seconds > 0
        return shell.pixels(found.path)

    uploads.add_sample("chelsea")
    uploads.add_sample("starry_night", "painting")
    first = paint()
    assert not jobs and images.read_metadata(tmp_path / "instant.png")["command"] == "instant"
    assert not (paint(strength=0.5) == first).all() and len(jobs) == 1
    # Another picture under the name of a sample is painted.
    uploads.remove("chelsea.jpg")
    assert uploads.add("chelsea.jpg", png(48, 60)).name == "chelsea.jpg"
    assert paint().shape == (51, 64, 3) and len(jobs) == 2
    uploads.remove("chelsea.jpg")
    uploads.add_sample("chelsea")
    assert (paint() == first).all() and len(jobs) == 2
    # What was kept is what would be painted.
    painter._of_samples.clear()
    assert (paint() == first).all() and len(jobs) == 3


def test_until_its_programs_are_ready_a_picture_is_painted_by_numpy(tmp_path, compilations):
    painter, uploads = QuickPainter(), Uploads(tmp_path)
    uploads.add("photo.png", png(48, 60))
    uploads.add("style.png", png(50, 40, seed=1), "painting")
    output = tmp_path / "instant.png"

    def words(**more):
        given = {"photo": "photo.png", "styles": [["style.png", 1]], "size": 64} | more
        return settings.instant_words(settings.settings_in(given, uploads.known))

    def provisional(wanted=True, **more):
        return painter.paint_provisional(words(**more), tmp_path, output, lambda: wanted)

    before = compilations()
    for more in ({}, {"strength": 0.5}):
        found = provisional(**more)
        assert found.words == words(**more) and found.seconds > 0
    assert compilations() == before
    assert images.read_metadata(output) is None  # it is not what a command line would write
    early = shell.pixels(provisional().path).astype(int)
    with pytest.raises(Superseded):
        provisional(wanted=False)
    # What needs more than the network, another network, or too much time waits for its programs.
    uploads.add("mask_keep.png", mask(48, 60), "mask")
    for more in (
        {"styles": [["mosaic", 1]]},
        {"colors": "content-after"},
        {"realism": 0.5},
        {"protect": ["mask_keep.png", 1]},
        {"size": 768},
        {"size": 2048},
    ):
        assert provisional(**more) is None, more
    painter.paint(words(), tmp_path, output, lambda: True)
    real = shell.pixels(output).astype(int)
    assert np.abs(real - early).max() <= 1 and real.shape == (51, 64, 3)
    assert provisional() is None and provisional(size=63) is None  # in the same square
    assert provisional(size=128) is not None


def test_a_server_that_ends_prepares_no_more_pictures(tmp_path):
    painter = Turns()
    painter.go_on.set()
    warming = threading.Thread(target=painter.warm, args=(tmp_path,))
    warming.start()
    until(lambda: painter.painted)
    painter.close()
    warming.join(SECONDS)
    assert not warming.is_alive() and len(painter.painted) == 1


def test_the_missing_extra_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "starlette", None)
    shell.refused(shell.caller(capsys, "web")("--no-browser"), "pip install 'nst-jax[web]'")
