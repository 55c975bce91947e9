"""The preview of a run: a picture of the same content and styles that a feed-forward network paints."""

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np

from nst_jax import images, prepare, provenance
from nst_jax.app import cache, cluster, programs
from nst_jax.app.job import PictureJob
from nst_jax.app.progress import Display
from nst_jax.app.writing import resized_alpha, write_picture
from nst_jax.controls.regions import controls_of
from nst_jax.feed_forward import given_styles, instant_painter
from nst_jax.recipes.sizes import LongEdge

LARGEST = 384  # largest side of a preview, px; a larger preview would take too long


def write_preview(job: PictureJob, display: Display) -> bool:
    """Write a preview to the path of the result, if the run also writes unfinished pictures there.

    The first canvas comes when targets are measured and programs compiled, which may take a minute. A
    run that resumes gets no preview, since the result's file already shows a better picture. If the
    preview cannot be made, the run goes on without it.

    Args:
      job: the checked job.
      display: receives a note with the reason if the preview cannot be made.

    Returns:
      Whether the preview was written.
    """
    outputs = job.outputs
    if (
        not job.may_preview
        or outputs.every is None
        or job.resume is not None
        or not cluster.is_first()
    ):
        return False
    try:
        image = _painted(job, display)
        inputs = {
            role: {"name": file.name, "digest": file.digest} for role, file in job.inputs.items()
        }
        facts = {
            "preview": "arbitrary",
            "inputs": inputs,
            "steps_done": 0,
            "finished": False,
            "versions": provenance.versions(),
        }
        write_picture(
            outputs.picture,
            image,
            alpha=resized_alpha(job.content.alpha, image),
            metadata=facts if job.metadata else None,
            overwrite=outputs.overwrite,
        )
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        display.say(f"note: there is no preview: {' '.join(str(error).split())}")
        return False
    return True


def _painted(job: PictureJob, display: Display) -> np.ndarray:
    shape = job.plan.scales[-1].shape
    if max(shape) > LARGEST:
        shape = LongEdge(LARGEST).shape(*shape)
    kept = programs.instant_kept_in(cache.programs_folder(), display.say)
    painter = instant_painter.InstantPainter(programs=kept)
    with ThreadPoolExecutor(1) as reader:
        network = reader.submit(lambda: painter.arbitrary)  # reads the weights meanwhile
        rule = given_styles.style_rule(None)
        # Resized with Pillow, which is quicker than compiling a program for one picture.
        styles = [
            images.bicubic_8bit(picture.image, rule.shape(*picture.image.shape[:2]))
            for picture in job.styles
        ]
        content = images.bicubic_8bit(job.content.image, shape)
        network.result()
    recipe = job.plan.recipe
    shapes = tuple(one.shape[:2] for one in styles)
    # Regions are not previewed: the network gives the whole picture one style.
    given = None if job.given is None else job.given._replace(regions=())
    prepared = prepare.prepared_of(
        jnp.asarray(content),
        tuple(map(jnp.asarray, styles)),
        (prepare.Scale(shape, shapes, 1),),
        recipe,
        controls=given and controls_of(given, shape, shapes),
    )
    seen = [np.asarray(one) for one in recipe.terms.blended_styles(prepared.styles)]
    style = instant_painter.style_of(seen, recipe.terms.style_shares)
    painted = painter.paint([painter.request(np.asarray(prepared.content), style)])[0]
    finish = prepare.Finisher(prepared, recipe)
    return np.asarray(finish(jnp.asarray(painted), prepared.scales[0]))
