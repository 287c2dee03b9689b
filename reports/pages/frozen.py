"""Answers for an export: all its pages are made from one state, so an answer that is there holds until the end."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from reports.pages.kept import Kept
from site_db.store import Store

Answer = TypeVar("Answer")
# Those that pages share are asked for again and again, and so stay; those of single pages go.
_MOST_ANSWERS = 256


class Frozen(Kept):
    """Answers that never grow old. For one thread. `answers` may be handed on to another process."""

    def __init__(self, store: Store, answers: OrderedDict[Hashable, Any] | None = None) -> None:
        super().__init__(store)
        self.answers = OrderedDict() if answers is None else answers

    def ask(self, key: Hashable, question: Callable[[], Answer]) -> Answer:
        """The answer to `question`, which `key` names: the first one that was given."""
        if key not in self.answers:
            self.answers[key] = question()
            if len(self.answers) > _MOST_ANSWERS:
                self.answers.popitem(last=False)
        self.answers.move_to_end(key)
        value: Answer = self.answers[key]
        return value
