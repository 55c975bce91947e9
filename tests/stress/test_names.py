"""Names that mean something to a shell or a terminal, links, pipes, and streams that nobody reads."""

import os
import re

import numpy as np
import pytest

from nst_jax import images
from tests.stress import processes
from tests.stress import trials as stress

# Names of results. The two long ones leave no room for a temporary name that is longer.
NAMES = [
    "-o.png",
    "--help.png",
    "a b.png",
    " .png",
    "n\u00e4me.png",
    "na\u0308me.png",
    "\U0001f408.png",
    "[x].png",
    "{x}.png",
    "*.png",
    "a;b.png",
    "$HOME.png",
    "~.png",
    "%s.png",
    "a'b\"c.png",
    "a:0.5.png",
    "a\\b.png",
    "two\nlines.png",
    "tab\t.png",
    "\x1b[2Jcleared.png",
    "\x9b2J.png",
    "gnp.\u202etxt.png",
    "\udcff.png",  # not UTF-8
    "..png.png",
    "a" * 240 + ".png",
    "a" * 251 + ".png",
]


@stress.counts(2, len(NAMES))
def test_names(program, usual, trials):
    def trial(rng, number):
        folder, name = program.folder / f"name-{number}", NAMES[number]
        folder.mkdir()
        content = folder / f"in-{name}"[:255] if len(name) < 240 else folder / "in.png"
        content.write_bytes((program.folder / "photo.png").read_bytes())
        argv = ["stylize", "--recipe", program.folder / "fast.toml", "-o", f"./{name}", "--"]
        _, out, err = program.finish(*argv, content.name, program.folder / "art.png", cwd=folder)
        assert np.array_equal(images.load(folder / name), usual)
        assert sorted(os.listdir(folder)) == sorted([name, content.name])
        for line in (*out.split("\n"), *err.split("\n")):
            assert line.isprintable(), ascii(line)
        return "painted"

    stress.run("names", trials, trial)


# --- Links and files of other kinds -------------------------------------------------------------------


def link_to_a_file(program, folder):
    """The file that the link names is replaced, and the link stays."""
    target = program.folder / "target.png"
    target.write_bytes((program.folder / "art.png").read_bytes())
    (folder / "out.png").symlink_to(target)
    return 0, target


def link_to_nothing(program, folder):
    (folder / "out.png").symlink_to(program.folder / "new.png")
    return 0, program.folder / "new.png"


def link_to_a_link(program, folder):
    (folder / "out.png").symlink_to(folder / "middle.png")
    (folder / "middle.png").symlink_to("../chain.png")
    return 0, program.folder / "chain.png"


def link_to_a_folder(program, folder):
    """The result is written in the folder, with the usual name."""
    (program.folder / "results").mkdir()
    (folder / "out.png").symlink_to(program.folder / "results")
    return 0, program.folder / "results" / "photo_art.png"


def link_to_itself(program, folder):
    (folder / "out.png").symlink_to("out.png")
    return 2, None


def link_into_a_missing_folder(program, folder):
    (folder / "out.png").symlink_to("missing/out.png")
    return 2, None


def link_to_the_content(program, folder):
    (folder / "out.png").symlink_to(program.folder / "photo.png")
    return 2, None


def hard_link_to_the_style(program, folder):
    (folder / "out.png").hardlink_to(program.folder / "art.png")
    return 2, None


def a_pipe(program, folder):
    os.mkfifo(folder / "out.png")
    return 2, None


def a_protected_file(program, folder):
    (folder / "out.png").write_bytes(b"x")
    (folder / "out.png").chmod(0o444)
    return 2, None


PLACES = [
    link_to_a_file,
    link_to_nothing,
    link_to_a_link,
    link_to_a_folder,
    link_to_itself,
    link_into_a_missing_folder,
    link_to_the_content,
    hard_link_to_the_style,
    a_pipe,
    a_protected_file,
]


@stress.counts(2, len(PLACES))
def test_places_of_results(program, usual, trials):
    def trial(rng, number):
        # Of the few, one is painted and one is refused.
        make = PLACES[number if trials == len(PLACES) else 6 * number]
        folder = program.folder / make.__name__
        folder.mkdir()
        code, written = make(program, folder)
        kept = {name: (program.folder / name).read_bytes() for name in ("photo.png", "art.png")}
        argv = ["stylize", "photo.png", "art.png", "--recipe", "fast.toml", "--overwrite"]
        argv += ["-o", folder / "out.png"]
        _, _, err = program.finish(*argv, codes=(code,))
        for name, data in kept.items():
            assert (program.folder / name).read_bytes() == data
        assert {"out.png"} <= set(os.listdir(folder)) <= {"out.png", "middle.png"}
        if written is None:
            assert re.search(r"`--?o(utput)?`.*out\.png", err), err
            return "refused before the run"
        assert (folder / "out.png").is_symlink()
        assert np.array_equal(images.load(written), usual)
        return "painted"

    stress.run("links and other places of results", trials, trial)


def content_that_is_a_pipe(folder):
    os.mkfifo(folder / "in.png")


def content_that_is_a_folder(folder):
    (folder / "in.png").mkdir()


def content_that_links_to_itself(folder):
    (folder / "in.png").symlink_to("in.png")


def content_that_is_a_device(folder):
    (folder / "in.png").symlink_to("/dev/zero")


def content_that_is_empty(folder):
    (folder / "in.png").touch()


def content_that_is_missing(folder):
    del folder


CONTENTS = [
    content_that_is_a_pipe,
    content_that_is_a_folder,
    content_that_links_to_itself,
    content_that_is_a_device,
    content_that_is_empty,
    content_that_is_missing,
]
READERS = [
    ["stylize", "IN", "art.png", "-o", "out.png"],
    ["plan", "IN", "art.png"],
    ["info", "IN"],
    ["weights", "info", "IN"],
    ["weights", "convert", "IN", "-o", "out.h5"],
]


@stress.counts(1, len(CONTENTS) * len(READERS))
def test_inputs_that_are_no_files(program, trials):
    def trial(rng, number):
        words, make = READERS[number % len(READERS)], CONTENTS[number // len(READERS)]
        folder = program.folder / f"input-{number}"
        folder.mkdir()
        make(folder)
        argv = [folder / "in.png" if word == "IN" else word for word in words]
        _, _, err = program.finish(*argv, codes=(2,), seconds=60)
        assert len(err.splitlines()) == 1 and "in.png" in err, err
        assert not {"out.png", "out.h5"} & set(os.listdir(program.folder))
        return "refused"

    stress.run("inputs that are no files", trials, trial)


# --- Streams ------------------------------------------------------------------------------------------


def nobody(program, argv, *streams):
    """Run with streams whose readers are gone at once, as after `2>&1 | head -0`."""
    process = program.start(*argv)
    for name in streams:
        getattr(process, name).close()
    process.wait(processes.PROGRAM_SECONDS)
    for stream in (process.stdout, process.stderr):
        stream.close()
    return process.returncode


def full(program, argv, *streams):
    """Run with streams that cannot be written, as a log on a full disk."""
    with open("/dev/full", "wb") as device:
        process = program.start(*argv, **dict.fromkeys(streams, device))
        processes.ended(process, argv)
    return process.returncode


def closed(program, argv, *streams):
    """Run with streams that are closed from the beginning, as by `2>&-`."""
    numbers = {"stdin": 0, "stdout": 1, "stderr": 2}
    closing = " ".join(f"{numbers[name]}>&-" for name in streams)
    process = program.start(*argv, after=f"exec {closing}")
    processes.ended(process, argv)
    return process.returncode


STREAMS = [
    (nobody, ("stderr",)),
    (full, ("stderr",)),
    (closed, ("stderr",)),
    (nobody, ("stdout",)),
    (full, ("stdout",)),
    (closed, ("stdout",)),
    (closed, ("stdin",)),
    (nobody, ("stdout", "stderr")),
    (full, ("stdout", "stderr")),
    (closed, ("stdin", "stdout", "stderr")),
]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@stress.counts(1, 3 * len(STREAMS))
def test_streams_that_cannot_be_written(program, usual, trials):
    def trial(rng, number):
        how, streams = STREAMS[number % len(STREAMS)]
        kind = number // len(STREAMS)
        name = "out.png" if kind == 0 else "grid.png" if kind == 1 else "out/photo_art.png"
        argv = [
            ["stylize", "photo.png", "art.png", "-o", "out.png"],
            [
                "sweep",
                "photo.png",
                "art.png",
                "--tv-weight",
                "0,1",
                "--size",
                "32",
                "-o",
                "grid.png",
            ],
            ["batch", "photo.png", "--styles", "art.png", "-o", "out"],
        ][kind]
        code = how(program, [*argv, "--recipe", "fast.toml"], *streams)
        # Progress is optional; the path of the result on standard output is not.
        assert code in ((0, 1) if "stdout" in streams else (0,)), (how.__name__, streams, code)
        image = images.load(program.folder / name)
        assert kind != 0 or np.array_equal(image, usual)
        for path in (*program.folder.glob("out/*"), *program.folder.glob("[og][ur][ti]*.png")):
            path.unlink()
        return f"painted, exit code {code}"

    stress.run("streams that cannot be written", trials, trial)
