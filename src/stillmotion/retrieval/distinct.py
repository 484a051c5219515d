"""What is equal is scored once: in different passes, equal inputs could differ in the last digit."""

from collections.abc import Hashable, Sequence


def distinct(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Places of the first of each kind of key, and for each key the number of its kind.

    Example:
        `a b a` are of the kinds 0, 1 and 0, whose first places are 0 and 1.
    """
    number_of: dict[Hashable, int] = {}
    numbers = [number_of.setdefault(key, len(number_of)) for key in keys]
    first_of = {number: place for place, number in reversed(list(enumerate(numbers)))}
    return [first_of[number] for number in range(len(number_of))], numbers
