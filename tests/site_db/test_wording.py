"""Numbers in sentences: one node, two nodes."""

import pytest

from site_db.rules import default_rules
from site_db.wording import Count


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes"), (12_000, "12,000 nodes")]
)
def test_what_is_counted_follows_the_number(number: int, said: str):
    assert f"{Count(number):node}" == said


def test_without_a_word_it_is_a_number_like_any_other():
    assert (f"{Count(1200)}", f"{Count(1200):,}", f"{Count(7):03}") == ("1200", "1,200", "007")


@pytest.mark.parametrize("kind", ["yes", "no", "mixed", "unknown"])
def test_sentences_of_verdicts_say_what_they_count(kind: str):
    words = dict.fromkeys(("yes", "no", "unknown", "window_days"), 1) | {"title": "It", "reason": "gpu_none"}
    sentence = default_rules().sentences[kind].format(**words, measured=Count(1), nodes=Count(1))
    assert "1 measured node" in sentence or "1 node " in sentence
    assert "nodes" not in sentence
