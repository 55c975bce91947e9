"""Checks that public functions make of their arguments, once and before any work.

To refuse a value, a function here raises TypeError or ValueError. The message gives the argument's name
(as in the user's call), what was expected, what was given, and unless it is obvious, what to do next.
"""

import difflib
import math
from collections.abc import Iterable, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`; None if no known name is similar enough.

    Each known name is compared as a whole, and also cut to the length of `name`. Case is ignored.
    """
    name = name.lower()

    def likeness(other: str) -> tuple[float, float]:
        whole = difflib.SequenceMatcher(None, name, other.lower()).ratio()
        # The beginning is compared too, so that "gatsy" finds the much longer "gatys-pytorch".
        beginning = difflib.SequenceMatcher(None, name, other.lower()[: len(name)]).ratio()
        return max(whole, beginning), whole

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= LIKE else None


# The least similarity at which `nearest_name` suggests a known name: a ratio of `difflib`, from 0 to 1.
LIKE = 0.75


def unknown(argument: str, name: Any, known: Iterable[str], what: str) -> ValueError:
    """Return the error for an unknown name; it suggests a similar known name, or lists all known names.

    Args:
      argument: the name of the user's argument, used in the message.
      name: the unknown name that the user gave. It may be a value that is no string, such as a number.
      known: all known names.
      what: the kind of thing that the name stands for, such as "recipe".
    """
    known = list(known)
    near = nearest_name(name, known) if isinstance(name, str) else None
    hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(map(repr, known))}"
    return ValueError(f"`{argument}`: there is no {what} {name!r}; {hint}")


def one_of(argument: str, name: Any, known: Iterable[str], what: str) -> None:
    """Refuse a value that is not one of the known names; the arguments are those of `unknown`.

    Raises:
      TypeError: if `name` is not a string.
      ValueError: if it is not among the known names.
    """
    known = list(known)
    if not isinstance(name, str):
        raise TypeError(f"`{argument}`: expected a name such as {known[0]!r}, got {name!r}")
    if name not in known:
        raise unknown(argument, name, known, what)


def image_shape(
    argument: str, shape: tuple[Any, ...], *, smallest: int, needs: str = "the network needs"
) -> None:
    """Refuse the shape of an image if it is not [..., h, w, 3], or if h or w is under `smallest`.

    `needs` is the beginning of the phrase that says why a smaller image is refused.
    """
    if len(shape) < 3 or shape[-1] != 3:
        raise ValueError(
            f"`{argument}`: expected an image [..., height, width, 3] (RGB, channels last), "
            f"got shape {list(shape)}{_grey_hint(shape)}"
        )
    # Each side is compared alone. `min(height, width)` would fail when `jax.export` traces a program
    # for pictures of any size: JAX cannot tell which of two symbolic dimensions is smaller.
    if any(side < smallest for side in shape[-3:-1]):
        raise ValueError(
            f"`{argument}`: {shape[-2]}x{shape[-3]} px is too small; "
            f"{needs} at least {smallest} px on each side"
        )


def floating(argument: str, dtype: Any) -> None:
    """Refuse an image whose dtype is not floating point, since integer arithmetic would overflow.

    A dtype of another package, such as torch's, is refused as well, and that of JAX's random keys.
    """
    try:
        is_floating = jnp.issubdtype(dtype, jnp.floating)
        are_keys = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    except TypeError:
        raise TypeError(
            f"`{argument}`: expected an array of NumPy or JAX, got one of {dtype}; "
            "`np.asarray(...)` makes one"
        ) from None
    if are_keys:
        raise TypeError(f"`{argument}`: expected floating point in [0, 1], got random keys")
    if not is_floating:
        hint = "divide it by 255" if dtype == np.uint8 else "scale it to [0, 1]"
        raise ValueError(
            f"`{argument}`: expected floating point in [0, 1], got {np.dtype(dtype)}; {hint} first"
        )


def one_image(
    argument: str,
    image: Any,
    *,
    smallest: int,
    advice: str = "",
    needs: str = "the network needs",
) -> None:
    """Refuse anything but one floating-point image [h, w, 3] with sides of at least `smallest` px.

    Args:
      argument: the caller's name for `image`, used in messages.
      image: the value to check.
      smallest: the least number of px on a side.
      advice: what to do with a batch of images, for the message that refuses it; may be empty.
      needs: the beginning of the phrase that says why a smaller image is refused.

    Raises:
      TypeError: if the value is no array.
      ValueError: if it is an array of another shape or dtype.
    """
    array(argument, image, "`nst_jax.images.load` reads a file")
    image_shape(argument, image.shape, smallest=smallest, needs=needs)
    if len(image.shape) != 3:
        raise ValueError(
            f"`{argument}`: expected one image [height, width, 3], got shape {list(image.shape)}"
            + (f"; {advice}" if advice else "")
        )
    floating(argument, image.dtype)


def same_shape(argument: str, shape: Any, other: str, expected: Any) -> None:
    """Refuse an array whose shape is not that of another one.

    Args:
      argument: the caller's name for the array, used in messages.
      shape: its shape.
      other: the caller's name for the other array, used in messages.
      expected: the shape that the array must have.
    """
    if tuple(shape) != tuple(expected):
        raise ValueError(
            f"`{argument}`: expected the shape of `{other}`, {list(expected)}, got {list(shape)}; "
            "resize it first"
        )


def two_images(
    argument: str,
    image: Any,
    other: str,
    photo: Any,
    *,
    smallest: int = 1,
    advice: str = "`jax.vmap` takes a batch",
    needs: str = "a window needs",
) -> None:
    """Refuse anything but two floating-point images [h, w, 3] of the same size.

    Args:
      argument: the caller's name for `image`, used in messages.
      image: the first image.
      other: the caller's name for `photo`, used in messages.
      photo: the second image.
      smallest: the least number of px on a side.
      advice: what to do with a batch of images, for the message that refuses it.
      needs: the beginning of the phrase that says why smaller images are refused.

    Raises:
      TypeError, ValueError: as in `one_image`.
      ValueError: if the images differ in size.
    """
    for name, one in ((argument, image), (other, photo)):
        one_image(name, one, smallest=smallest, advice=advice, needs=needs)
    same_shape(other, photo.shape, argument, image.shape)


def not_masked(argument: str, value: Any) -> None:
    """Refuse a masked array of NumPy with masked elements.

    NumPy's functions would use the numbers under the mask, which may be anything. A masked array
    without masked elements is accepted.
    """
    if np.ma.is_masked(value):
        raise ValueError(
            f"`{argument}`: is a masked array with masked elements; fill them by `array.filled(0.5)`, "
            "and pass their mask as an opacity if they shall not count"
        )


def not_keys(argument: str, value: Any, expected: str) -> None:
    """Refuse JAX's typed random keys, which NumPy cannot read, where numbers are expected.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check; it may be of any type.
      expected: what is expected, as words for the message.
    """
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        got = f"random keys of the shape {list(value.shape)}" if value.ndim else "a random key"
        raise TypeError(f"`{argument}`: expected {expected}, got {got}")


def not_traced(argument: str, value: Any) -> None:
    """Refuse a pytree that contains JAX tracers; for functions that need concrete values."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise TypeError(
            f"`{argument}`: got a tracer, as inside `jax.jit`, `jax.vmap` or `jax.grad`; this function "
            "needs values, and compiles what it runs. Traceable are `nst_jax.measure`, `losses_of`, "
            "`init`, `step` and `run`; `stylize_many` paints a batch"
        )


def image(argument: str, value: Any, *, several: str = "") -> np.ndarray:
    """Check a picture and return it as float32 [h, w, 3] in [0, 1] on the host.

    Args:
      argument: the caller's name for the value, used in messages.
      value: an array [h, w, 3]: floating point in [0, 1], or uint8, which is divided by 255.
      several: name of the function that takes a batch of such pictures, for the message that refuses a
        batch; "" if there is none.

    Returns:
      float32 NumPy array. Values up to 0.01 outside [0, 1] are accepted, and are not clipped.

    Raises:
      TypeError: if the value is not an array, is a tracer, or has random keys of JAX.
      ValueError: for a wrong rank, dtype, channel count or range, for NaN or infinite values, and for
        an empty array, or a masked array with masked elements.
    """
    not_traced(argument, value)
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"`{argument}`: expected an array [height, width, 3], got {type(value).__name__}; "
            f"{_array_hint(value)}"
        )
    not_keys(argument, value, "an array [height, width, 3]")
    not_masked(argument, value)
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError) as error:
        if isinstance(value, jax.Array):  # the error is of JAX itself, such as a failed transfer
            raise
        raise TypeError(
            f"`{argument}`: NumPy makes no array of this {type(value).__name__}: {error}"
        ) from error
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(
            f"`{argument}`: expected one image [height, width, 3] (RGB, channels last), "
            f"got shape {list(array.shape)}{_shape_hint(argument, array.shape, several)}"
        )
    if array.size == 0:
        raise ValueError(f"`{argument}`: the image is empty, got shape {list(array.shape)}")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"`{argument}`: expected floating point in [0, 1] or uint8, got {array.dtype}; "
            "scale it to [0, 1] first"
        )
    array = array.astype(np.float32)
    _check_range(argument, array)
    return array


def _shape_hint(argument: str, shape: tuple[int, ...], several: str) -> str:
    """Return a hint on what to do with an array of this shape, which is no image; "" if there is none.

    The hint says how to convert the array to an image. For a batch of images, it names the function
    `several`, or if that is "", the first image of the batch.
    """
    if len(shape) == 4:
        return f"; for a batch use `{several}`" if several else f"; give one, as by `{argument}[0]`"
    if len(shape) == 2 or shape[-1:] == (1,):
        return _grey_hint(shape)
    if len(shape) == 3 and shape[-1] == 4:
        return "; drop the alpha channel with `image[..., :3]`"
    if len(shape) == 3 and shape[0] == 3:
        return "; move the channels last with `image.transpose(1, 2, 0)`"
    return ""


def _grey_hint(shape: tuple[int, ...]) -> str:
    """Return a hint on how to give a grey picture three channels; "" for shapes of other pictures."""
    grey = "; repeat a grey picture three times along a last axis"
    if len(shape) == 2:
        return f"{grey} with `np.stack([image] * 3, axis=-1)`"
    return f"{grey} with `np.repeat(image, 3, axis=-1)`" if shape[-1:] == (1,) else ""


def _array_hint(value: Any) -> str:
    """Return a hint on how to make an array from a value that is not an array."""
    file = "`nst_jax.images.load` reads a file"
    if _is_list(value):
        return f"`np.asarray(...)` makes an array of numbers in lists, {file}"
    if _is_pillows(value):
        return f"`np.asarray(picture.convert('RGB'))` makes an array of a picture of Pillow, {file}"
    return file


def _is_list(value: Any) -> bool:
    # Subclasses are left out: a named tuple, such as `Targets`, is not meant as a list of numbers.
    return type(value) in (list, tuple)


def _is_pillows(value: Any) -> bool:
    return hasattr(value, "getbands")  # recognises Pillow's images without importing Pillow


def _check_range(argument: str, array: np.ndarray) -> None:
    """Refuse pixels that are not finite, or more than 0.01 outside [0, 1]."""
    low, high = float(np.min(array, initial=np.inf)), float(np.max(array, initial=-np.inf))
    if not np.isfinite([low, high]).all():
        raise ValueError(f"`{argument}`: has NaN or infinite values")
    # Values up to 0.01 outside [0, 1] are allowed, since resampling overshoots slightly. A wider range
    # means another pixel convention, such as 0..255.
    if low < -0.01 or high > 1.01:
        hint = "; divide it by 255" if low >= 0 and high > 2 else ""
        raise ValueError(
            f"`{argument}`: expected values in [0, 1], got {low:.4g} to {high:.4g}{hint}"
        )


def number(
    argument: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    means: str = "",
) -> None:
    """Refuse anything but a finite number, or an array of finite numbers, within the given bounds.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check.
      above: the value must be greater than this number; None sets no bound.
      least: the value must be this number or greater; None sets no bound.
      below: the value must be less than this number; None sets no bound.
      most: the value must be this number or less; None sets no bound.
      means: what a number means, such as "1 is the photograph", for the message that refuses a number
        outside the bounds; may be empty.

    Raises:
      TypeError: if the value is neither a real number nor an array of real numbers, or is a tracer.
      ValueError: if a number is not finite, or outside the bounds.
    """
    if (
        # A quick test for the usual case, since NumPy is slow for the many numbers of a batch. It does
        # not accept infinity, NaN or numbers too large for NumPy's int64: the checks below decide on
        # these.
        type(value) in (int, float)
        and abs(value) < 2**63
        and (above is None or value > above)
        and (least is None or value >= least)
        and (below is None or value < below)
        and (most is None or value <= most)
    ):
        return
    if isinstance(value, (list, tuple)):
        kind = type(value).__name__
        raise TypeError(
            f"`{argument}`: expected a number, got the {kind} {value!r}; a sweep is an array, "
            "`numpy.asarray([...])`"
        )
    not_traced(argument, value)
    not_keys(argument, value, "a number")
    array = np.asarray(_as_float(value) if type(value) is int else value)
    # JAX's function also knows bfloat16.
    kinds = jnp.floating, jnp.integer
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(f"`{argument}`: expected a number, got {value!r}")
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(
            f"`{argument}`: expected a finite number, got {_refused(value, array, finite)}"
        )
    wide = None if least is None or most is None else f"{_bound(least)} to {_bound(most)}"
    for bound, compared, expected in (
        (above, np.greater, "more than {}"),
        (least, np.greater_equal, wide or "{} or more"),
        (below, np.less, "less than {}"),
        (most, np.less_equal, wide or "{} or less"),
    ):
        if bound is not None and not (allowed := compared(array, bound)).all():
            raise ValueError(
                f"`{argument}`: expected {expected.format(_bound(bound))}"
                f"{means and f' ({means})'}, got {_refused(value, array, allowed)}"
            )


def _bound(number: float) -> str:
    """Return a bound as text; one that is an `int` with all its digits."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def _refused(value: Any, array: np.ndarray, allowed: Any) -> str:
    """Return as text a number that is refused; of an array, the first that is not allowed.

    Args:
      value: the value, as the caller gave it.
      array: the same as an array of NumPy.
      allowed: whether each number of the array is allowed: an array, or one boolean.
    """
    if array.ndim:
        return f"{array[~allowed][0]} in an array of the shape {list(array.shape)}"
    is_long = type(value) is int and abs(value) >= 10**30  # its digits would fill the message
    return str(array.item() if is_long else value)


def known_number(argument: str, value: Any, **bounds: Any) -> None:
    """Check a number as `number` does, unless it is a tracer, whose value is not known yet.

    This is for functions that JAX can trace with the number as an argument. `bounds` are the further
    arguments of `number`.
    """
    if not isinstance(value, jax.core.Tracer):
        number(argument, value, **bounds)


def not_array(argument: str, value: Any, several: str) -> None:
    """Refuse an array where one number is expected.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check.
      several: the functions that take a number for each picture, as text for the message.
    """
    if shape := getattr(value, "shape", ()):
        raise ValueError(
            f"`{argument}`: expected one number, got an array of the shape {list(shape)}; {several} "
            "one number for each picture"
        )


def _as_float(value: int) -> float:
    """Return a whole number as a float, even if NumPy's integers are too small for the number.

    If floats are too small for it, too, the result is infinity, with the sign of the number.
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole(
    argument: str,
    value: Any,
    *,
    least: int | None = None,
    below: int | None = None,
    most: int | None = None,
) -> None:
    """Refuse a value that is not a whole number, or is outside the bounds, which are those of `number`.

    Without an upper bound, 2^63 and larger numbers are refused, which are too large for NumPy's int64.
    """
    not_traced(argument, value)
    not_keys(argument, value, "a whole number")
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{argument}`: expected a whole number, got {value!r}")
    if below is None and most is None:
        below = 2**63
    number(argument, value, least=least, below=below, most=most)


def flag(argument: str, value: Any) -> None:
    """Refuse a value other than True and False, such as a text, which would count as True.

    NumPy's True and False are accepted.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{argument}`: expected True or False, got {value!r}")


def function(argument: str, value: Any, call: str) -> None:
    """Refuse a value that cannot be called; `call` shows, for the message, how it will be called."""
    if not callable(value):
        raise TypeError(f"`{argument}`: expected a function, called as `{call}`, got {value!r}")


def whole_scalar(argument: str, value: Any, *, most: int | None = None) -> None:
    """Refuse anything but a whole number from 0 to `most`, or a scalar array of integers.

    This is for functions that JAX can trace with the number as an argument: the value of an array is
    not checked. If `most` is None, the number may be as large as `whole` allows.
    """
    if isinstance(value, (jax.Array, np.ndarray)):
        if value.shape or not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(
                f"`{argument}`: expected a whole number, got an array of {value.dtype} of the shape "
                f"{list(value.shape)}"
            )
        return
    whole(argument, value, least=0, most=most)


def same_length(argument: str, values: Sized, other: str, others: Sized) -> None:
    """Refuse `values` unless it is a list or tuple as long as `others`.

    Args:
      argument: the caller's name for `values`, used in messages.
      values: the value to check.
      other: the caller's name for `others`, used in messages.
      others: the values that `values` must match in number.
    """
    if not isinstance(values, (list, tuple)):
        raise TypeError(
            f"`{argument}`: expected a list or tuple with one for each of the {len(others)} `{other}`, "
            f"got {type(values).__name__}"
        )
    if len(values) != len(others):
        raise ValueError(
            f"`{argument}`: expected one for each of the {len(others)} `{other}`, got {len(values)}"
        )


def instance(argument: str, value: Any, kind: type, advice: str) -> None:
    """Refuse a value that is not an instance of `kind`; the message ends with `advice`."""
    if not isinstance(value, kind):
        raise TypeError(
            f"`{argument}`: expected {kind.__name__}, got {type(value).__name__}; {advice}"
        )


def weights_of_vgg(params: Any, kind: type, advice: str) -> None:
    """Refuse a value that is not the weights of VGG-19, whose features the losses compare.

    Args:
      params: the value to check.
      kind: the class `Params`. It is passed, so that this module need not import it.
      advice: what to do, for the end of the message.
    """
    instance("params", params, kind, advice)
    if "conv1_1" not in params.layers:
        raise ValueError(
            f"`params`: expected the weights of VGG-19, got those of another network, of the family "
            f"{params.family!r}; {advice}"
        )


def array(argument: str, value: Any, advice: str) -> None:
    """Refuse a value that is no array, that is, has no shape or no dtype.

    Arrays of NumPy and JAX, tracers and `jax.ShapeDtypeStruct`s are accepted. The error message ends
    with `advice`. For a list or a Pillow image, it ends by saying how to make an array of it instead.
    """
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"`{argument}`: expected an array [height, width, 3], got {type(value).__name__}; "
            f"{_array_hint(value) if _is_list(value) or _is_pillows(value) else advice}"
        )


def in_words(value: Any) -> str:
    """Return what a value is, for messages about what a user's own function returned.

    Example:
      >>> in_words(None), in_words([1]), in_words(np.ones(2, np.float32))
      ('None', 'a list', 'an array of float32 of the shape [2]')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of {value.dtype} of the shape {list(value.shape)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def returned_array(
    argument: str,
    function: str,
    value: Any,
    shape: tuple[int, ...],
    *,
    numbers: str = "floating-point numbers",
) -> None:
    """Refuse what a user's own function returned, unless it is a floating-point array of a shape.

    Only types and shapes are read, so the function can be called while JAX traces.

    Args:
      argument: the caller's name for the function, used in messages.
      function: the kind of function, such as "pooling", for messages.
      value: what it returned.
      shape: the shape that the array must have.
      numbers: which numbers the array must have, as words for the message.

    Raises:
      TypeError: if the value is no array.
      ValueError: if the array has another shape, or is not floating point.
    """
    returned = f"`{argument}`: the {function} returned {in_words(value)}"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{returned}, expected an array of the shape {list(shape)}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{returned}, expected the shape {list(shape)}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{returned}, expected {numbers}")


def returned_image(argument: str, function: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Check what a user's own function returned in place of an image, and return it as an array.

    Args:
      argument: the caller's name for the function, used in messages.
      function: the kind of function, such as "start", for messages.
      value: what it returned: an array of JAX or NumPy, or an object that NumPy can make an array of.
      shape: the shape that the image must have.

    Raises:
      TypeError: if the value is no array.
      ValueError: if the array has another shape, is not floating point, or has NaN or infinite values.
        The values of tracers are not checked.
    """
    if not isinstance(value, (jax.Array, np.ndarray)) and hasattr(value, "__array__"):
        value = np.asarray(value)
    returned_array(argument, function, value, shape, numbers="floating point in [0, 1]")
    if not isinstance(value, jax.core.Tracer) and not np.isfinite(np.asarray(value)).all():
        raise ValueError(
            f"`{argument}`: the {function} returned NaN or infinite values, expected values in [0, 1]"
        )
    return value


def not_class(argument: str, value: Any, expected: str) -> None:
    """Refuse a class where an instance of it is meant; to forget the parentheses is a common mistake.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check.
      expected: what is expected, as words for the message.
    """
    if isinstance(value, type):
        raise TypeError(
            f"`{argument}`: expected {expected}, got the class {value.__name__}; write "
            f"`{value.__name__}()`"
        )


def random_key(argument: str, key: Any, *, several: bool = False) -> None:
    """Refuse a value unless it is None or a JAX random key, typed or raw.

    A raw key is an array of uint32 with one axis; its length depends on JAX's default generator of
    random numbers.

    Args:
      argument: the name of the argument.
      key: its value.
      several: whether an array of keys, of any shape, is allowed, too.

    Raises:
      TypeError: if the value is no random key, or is a tracer, as inside `jax.jit`.
      ValueError: if a raw key has another length, or if the value is an array of keys and `several` is
        false.
    """
    if key is None:
        return
    not_traced(argument, key)
    made_by = "`jax.random.key(0)` makes one"
    typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and getattr(key, "dtype", None) != np.uint32:
        raise TypeError(f"`{argument}`: expected a random key, got {key!r}; {made_by}")
    shape = np.shape(key)
    if not typed:
        numbers = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
        if shape[-1:] != numbers:
            raise ValueError(
                f"`{argument}`: expected a random key, got an array of uint32 of the shape "
                f"{list(shape)}; {made_by}"
            )
        shape = shape[:-1]
    if shape and not several:
        raise ValueError(
            f"`{argument}`: expected one random key, got an array of keys of the shape {list(shape)}; "
            "give one of them"
        )


def single(recipe: Any) -> None:
    """Refuse a recipe (the settings of a run) that has arrays in place of numbers.

    Only `stylize_many` accepts such a recipe: it paints one picture for each number of the array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"`recipe`: `{name}` is an array of the shape {list(np.shape(leaf))}; one picture "
                "needs one number, and `stylize_many` paints one picture for each number of an array"
            )


def images(argument: str, values: Any) -> list[np.ndarray]:
    """Check one image, a batch [n, h, w, 3] or a sequence of images; return a list of images."""
    if hasattr(values, "shape"):
        if len(values.shape) == 3:
            return [image(argument, values)]
        if len(values.shape) != 4:
            raise ValueError(
                f"`{argument}`: expected an image [height, width, 3], a batch [n, height, width, "
                f"3] or a list of images, got shape {list(values.shape)}{_grey_hint(values.shape)}"
            )
    elif isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(
            f"`{argument}`: expected images, got {type(values).__name__}; {_array_hint(values)}"
        )
    found = [image(f"{argument}[{index}]", value) for index, value in enumerate(values)]
    if not found:
        raise ValueError(f"`{argument}`: is empty; give at least one image")
    return found


# A style share is the weight of a style in a mixture. It must be less than this number, so that the sum
# of several shares is finite in float32. Shares are divided by their sum, which must not be tiny:
# if it is at most 1 / LARGEST_SHARE, the shares are refused, as if all were 0.
LARGEST_SHARE = 1e30


def shares(argument: str, values: Any) -> np.ndarray:
    """Return the weights of styles in a mixture, divided by their sum, as float32 [styles].

    Args:
      argument: the caller's name for the weights, used in messages.
      values: the weights, numbers in a list, tuple or array.

    Raises:
      TypeError: if a weight is not a number.
      ValueError: if a weight is an array of numbers, is negative, not finite, or 1e30 or more; or if
        the sum of all weights is 0, or at most 1e-30.
    """
    for share in values:
        number(argument, share, least=0, below=LARGEST_SHARE)
        one_share(argument, share)
    total = float(np.sum(values))
    if not total > 1 / LARGEST_SHARE:
        raise ValueError(f"`{argument}`: all shares are 0; give at least one style a larger share")
    return (np.asarray(values, np.float64) / total).astype(np.float32)


def one_share(argument: str, share: Any) -> None:
    """Refuse an array of numbers as the weight of a single style in a mixture."""
    if np.ndim(share):
        raise ValueError(
            f"`{argument}`: expected one number for each style, got an array of the shape "
            f"{list(np.shape(share))} for one of them"
        )


def one_or_several(argument: str, value: Any) -> list[np.ndarray]:
    """Check one image [h, w, 3], or a list or tuple of them; return a list of images.

    An array [n, h, w, 3] is refused.
    """
    if isinstance(value, (list, tuple)):
        return images(argument, value)
    return [image(argument, value)]
