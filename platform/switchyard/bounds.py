"""How many slots a pool may have, as people write it: ``2..8``, or ``4`` for always four.

Read alike by the setting ``SWITCHYARD_POOLS`` and by the command ``switchyard scale``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from switchyard.handler import QUEUES

MAX_SLOTS = 256
_WRITTEN = re.compile(r"(\d{1,3})(?:\.\.(\d{1,3}))?", re.ASCII)


class WrongBounds(ValueError):
    """The text is no bounds; the message says what is, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The fewest and the most slots that a pool has, both inclusive; equal ones fix its size."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    def clamp(self, slots: int) -> int:
        """Return the number of slots within the bounds that is nearest to ``slots``."""
        return max(self.least, min(self.most, slots))


def read_bounds(text: str) -> Bounds:
    """Read ``2..8`` or ``4``.

    Raises:
        WrongBounds: it is neither, or not between 0 and :data:`MAX_SLOTS` in this order.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise WrongBounds(f"{text!r} is neither a number of slots (4) nor a range (2..8)")
    least = int(match[1])
    most = least if match[2] is None else int(match[2])
    if least > most:
        raise WrongBounds(f"{text} begins above its end")
    if most > MAX_SLOTS:
        raise WrongBounds(f"{text} is more than {MAX_SLOTS} slots")
    return Bounds(least, most)


def read_pools(pairs: Iterable[str]) -> dict[str, Bounds]:
    """Read pairs such as ``critical=2..8``, each queue at most once, in the order given.

    Raises:
        WrongBounds: naming the first pair that is wrong.
    """
    found: dict[str, Bounds] = {}
    for pair in pairs:
        queue, equals, text = pair.partition("=")
        if not equals or queue not in QUEUES:
            raise WrongBounds(f"{pair!r} does not begin with {'=, '.join(QUEUES)}=")
        if queue in found:
            raise WrongBounds(f"{queue} is named twice")
        try:
            found[queue] = read_bounds(text)
        except WrongBounds as error:
            raise WrongBounds(f"{queue}: {error}") from None
    return found
