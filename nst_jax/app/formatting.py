"""Durations, numbers of bytes and long lists as text for people to read."""

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Return a duration in seconds as text, in the units that suit its length.

    Example:
      >>> duration(3.21), duration(75), duration(4000)
      ('3.2 s', '1 min 15 s', '1 h 6 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def span(least: float, most: float) -> str:
    """Return a range of durations as text, or one duration if both ends of the range are about equal.

    Args:
      least: the shortest duration, in seconds.
      most: the longest duration, in seconds.

    Example:
      >>> span(12, 19), span(50, 52)
      ('12 to 19 s', 'about 51 s')
    """
    low, high = duration(least), duration(most)
    if low == high or most < 1.1 * least:
        return f"about {duration((least + most) / 2)}"
    if low.endswith(" s") and high.endswith(" s") and " min " not in low + high:
        low = low.removesuffix(" s")
    return f"{low} to {high}"


def amount(size: int) -> str:
    """Return a number of bytes as text, in kB, MB or GB.

    Example:
      >>> amount(40_000), amount(119_600_000), amount(2_400_000_000)
      ('40 kB', '119.6 MB', '2.4 GB')
    """
    if size < 1e5:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


FEW = 6  # largest number of items of a list that `few` names


def few(words: Sequence[str], between: str = ", ") -> str:
    """Join words to one text; of more than `FEW` words, name the first `FEW` and count the rest.

    Args:
      words: the words, each of which may be any text, such as a file name.
      between: the text between two words.
    """
    more = f" and {len(words) - FEW} more" if len(words) > FEW else ""
    return between.join(words[:FEW]) + more
