"""`stylize` in long-lived processes: threads, event loops, worker processes, repeated calls."""

import asyncio
import gc
import multiprocessing
import pickle
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import images
from nst_jax.app import cli
from nst_jax.app.interrupts import STOPPING
from nst_jax.recipes import toml
from tests import small

# One fixture paints what other processes must paint bit for bit.
pytestmark = pytest.mark.optimized

FAST = small.shallowest(steps=3)


@pytest.fixture(scope="module")
def painted(params, content, style):
    """What a call alone gives."""
    return np.asarray(nst.stylize(params, content, style, recipe=FAST))


def handlers():
    return [signal.getsignal(number) for number in STOPPING]


# --- Threads --------------------------------------------------------------------------------------


def test_two_threads_paint_what_one_paints(params, content, style, painted):
    together = threading.Barrier(2)

    def paint(content):
        together.wait(60)
        return np.asarray(nst.stylize(params, content, style, recipe=FAST))

    flipped = content[:, ::-1]
    other = np.asarray(nst.stylize(params, flipped, style, recipe=FAST))
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(paint, (content, flipped))
        assert_array_equal(one, painted)
        assert_array_equal(two, other)


def test_two_threads_may_compile_two_shapes_at_once(params, content, style):
    together = threading.Barrier(2)

    def paint(content):
        together.wait(60)
        return np.asarray(nst.stylize(params, content, style, recipe=FAST))

    pictures = content[:17], content[:, :19]  # shapes that no other test has compiled
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(paint, pictures))
    for picture, image in zip(pictures, found, strict=True):
        assert_array_equal(image, nst.stylize(params, picture, style, recipe=FAST))


def test_runs_that_take_turns_do_not_mix(params, content, style, painted):
    runs = [nst.paint(params, content, style, recipe=FAST, every=1) for _ in range(2)]
    for shots in zip(*runs, strict=True):
        last = shots
    for shot in last:
        assert_array_equal(shot.image, painted)


def test_no_call_touches_the_handlers_of_signals(params, content, style, painted):
    before = handlers()
    nst.stylize(params, content, style, recipe=FAST)
    assert handlers() == before


def test_the_command_line_runs_outside_the_main_thread(tmp_path, content, style, capsys):
    paths = [str(tmp_path / name) for name in ("photo.png", "art.png", "out.png")]
    images.save(paths[0], content)
    images.save(paths[1], style)
    (tmp_path / "fast.toml").write_text(toml.to_toml(FAST))
    before = handlers()
    argv = ["stylize", *paths[:2], "-o", paths[2], "--recipe", str(tmp_path / "fast.toml"), "-q"]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cli.main, argv).result() == 0, capsys.readouterr().err
    assert images.load(paths[2]).shape == (24, 32, 3)
    assert handlers() == before


# --- Event loops ----------------------------------------------------------------------------------


def test_an_event_loop_runs_while_a_thread_paints(params, content, style, painted):
    async def main():
        loop, asked, answered = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        answers = []

        def paint():
            for shot in nst.paint(params, content, style, recipe=FAST, every=1):
                answered.clear()
                loop.call_soon_threadsafe(asked.set)
                answers.append(answered.wait(60))  # only a loop that runs can answer
                image = shot.image
            return image

        async def answer():
            while True:
                await asked.wait()
                asked.clear()
                answered.set()

        answering = asyncio.create_task(answer())
        image = await asyncio.to_thread(paint)
        answering.cancel()
        return image, answers

    image, answers = asyncio.run(main())
    assert answers == [True] * 4  # the start and three updates
    assert_array_equal(image, painted)


def test_a_cancelled_call_leaves_nothing_behind(params, content, style, painted):
    stop, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def paint():
        for _ in nst.paint(params, content, style, recipe=FAST, every=1):
            begun.set()
            if stop.wait(60):
                break
        ended.set()

    async def main():
        task = asyncio.create_task(asyncio.to_thread(paint))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stop.set()  # a thread cannot be cancelled: it is told to stop between two snapshots
        assert await asyncio.to_thread(ended.wait, 60)
        return await asyncio.to_thread(nst.stylize, params, content, style, recipe=FAST)

    assert_array_equal(asyncio.run(main()), painted)


# --- Worker processes -----------------------------------------------------------------------------


def test_what_a_worker_is_sent_can_be_pickled(params, content, style, painted):
    shots = nst.paint(params, content, style, recipe=FAST, every=2)
    shot = next(shots)
    key, plan = jax.random.key(0), nst.plan(content, style, recipe=FAST)
    sent = params, content, style, plan, key, shots.checkpoint(), shot
    params, content, style, plan, key, checkpoint, again = pickle.loads(pickle.dumps(sent))
    assert_array_equal(again.image, shot.image)
    assert_array_equal(nst.stylize(params, content, style, plan=plan, key=key), painted)
    recipe = pickle.loads(pickle.dumps(FAST))
    resumed = nst.paint(params, content, style, recipe=recipe, resume=checkpoint)
    assert_array_equal(resumed.finish().image, painted)


def test_a_run_cannot_be_pickled_and_says_what_can(params, content, style):
    shots = nst.paint(params, content, style, recipe=FAST)
    with pytest.raises(TypeError, match=r"a run cannot be pickled.*`checkpoint\(\)`"):
        pickle.dumps(shots)


@pytest.mark.slow
def test_a_spawned_process_paints_the_same(params, content, style, painted):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        image = pool.submit(nst.stylize, params, content, style, recipe=FAST).result()
        assert_array_equal(image, painted)
        wrong = pool.submit(nst.stylize, params, content, style, recipe=FAST, steps=0)
        with pytest.raises(ValueError, match="`steps`"):
            wrong.result()


# --- Repeated calls -------------------------------------------------------------------------------


def test_calls_compile_once_and_keep_nothing(params, content, style, painted, compilations):
    nst.stylize(params, content, style, recipe=FAST)
    gc.collect()
    compiled, kept = compilations(), len(jax.live_arrays())
    for _ in range(5):
        assert_array_equal(nst.stylize(params, content, style, recipe=FAST), painted)
    gc.collect()
    assert compilations() == compiled
    assert len(jax.live_arrays()) == kept
