"""Which queue a task goes to: what was asked, what the type says, and the operators' rules. Plain rules.

A submit may lower its type's queue; to raise it needs the scope :data:`RAISE`. Then the first rule that
matches has the last word, up or down: it is the operators' decision, who answer for all tenants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.states import Queue

RAISE = "tasks:raise"
"""The scope that a submit needs for a queue above its type's."""

ORDER = (Queue.CRITICAL, Queue.NORMAL, Queue.BATCH)
"""From the most urgent on."""

_WILD = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it matches, all of it, and the queue for that.

    ``type`` and the labels' values may hold ``*`` for any characters, also none. ``over`` and ``under``
    are bounds of the estimated seconds, exclusive; a task whose length nobody knows yet is neither.
    None, and no label, ask for nothing.
    """

    name: str
    queue: str
    tenant_id: int | None = None
    type: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    over: float | None = None
    under: float | None = None

    @property
    def by_length(self) -> bool:
        """Tell whether it asks how long the task will take."""
        return self.over is not None or self.under is not None

    def matches(
        self, tenant_id: int, type_name: str, labels: Mapping[str, str], seconds: float | None
    ) -> bool:
        """Tell whether a task falls under the rule; ``seconds`` is its estimated length."""
        if self.tenant_id is not None and self.tenant_id != tenant_id:
            return False
        if self.type is not None and not fits(self.type, type_name):
            return False
        if self.by_length:
            if seconds is None:
                return False
            if self.over is not None and seconds <= self.over:
                return False
            if self.under is not None and seconds >= self.under:
                return False
        return all(
            name in labels and fits(pattern, labels[name]) for name, pattern in self.labels.items()
        )


def is_above(queue: str, other: str) -> bool:
    """Tell whether a queue is more urgent than another."""
    return ORDER.index(Queue(queue)) < ORDER.index(Queue(other))


def first_match(
    rules: Iterable[Rule],
    tenant_id: int,
    type_name: str,
    labels: Mapping[str, str],
    seconds: float | None,
) -> Rule | None:
    """Return the first rule, in the order given, that a task falls under."""
    return next((rule for rule in rules if rule.matches(tenant_id, type_name, labels, seconds)), None)


def fits(pattern: str, text: str) -> bool:
    """Tell whether a text has the form of a pattern, in which ``*`` is any characters, also none.

    Each part between two stars is taken where it first occurs, so the time is bounded by the product of
    the lengths, whatever the pattern: no regular expression of a stranger's making is ever run.
    """
    first, *rest = pattern.split(_WILD)
    if not rest:
        return text == pattern
    last = rest.pop()
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in rest:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
