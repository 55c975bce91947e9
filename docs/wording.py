"""Numbers and lists in the sentences of pages that scripts write."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def in_words(texts: Iterable[str], last_word: str = "and") -> str:
    """Return texts as a list in a sentence.

    Example:
      >>> in_words("a"), in_words("ab"), in_words("abc"), in_words("ab", "or")
      ('a', 'a and b', 'a, b and c', 'a or b')
    """
    *most, last = texts
    return f"{', '.join(most)} {last_word} {last}" if most else last


def number_word(number: int) -> str:
    """Return a number as a word, or in digits if it is over ten.

    Example:
      >>> number_word(6), number_word(11)
      ('six', '11')
    """
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def plural(number: Fraction | int, name: str) -> str:
    """Return the name of things of which there are so many.

    Example:
      >>> plural(1, "pair"), plural(2, "pair")
      ('pair', 'pairs')
    """
    return name if number == 1 else f"{name}s"


def from_to(found: Sequence[Any]) -> str:
    """Return the first and the last of sorted values, or the one value.

    Example:
      >>> from_to([1, 2, 5]), from_to([3, 3])
      ('1 to 5', '3')
    """
    return str(found[0]) if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def three_digits(number: float) -> str:
    """Return a number with three digits, or with all digits before the point if they are more.

    Example:
      >>> three_digits(0.46189), three_digits(77.04), three_digits(2063.5)
      ('0.462', '77', '2064')
    """
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
