"""What an inbox remembers of what left it, against a memory that forgets nothing."""

from hypothesis import given
from hypothesis import strategies as st

from site_db.leaving import Leaving

IDS = [bytes([number]) * 16 for number in range(6)]
steps = st.lists(
    st.one_of(
        st.just(("begin", None)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("leave"), st.sets(st.sampled_from(IDS), min_size=1)),
    ),
    max_size=40,
)


@given(steps)
def test_who_looks_is_told_all_that_left_since_they_began(taken: list[tuple[str, object]]):
    leaving = Leaving()
    looking: list[tuple[int, set[bytes]]] = []  # the turn of each who looks, and what left since
    for what, value in taken:
        if what == "begin":
            looking.append((leaving.begin(), set()))
        elif what == "leave":
            assert isinstance(value, set)
            leaving.leave(value)
            for _, left in looking:
                left |= value
        elif looking:
            assert isinstance(value, int)
            leaving.end(looking.pop(value % len(looking))[0])
        for turn, left in looking:
            assert leaving.since(turn, IDS) == left
            assert leaving.since(turn, IDS[:1]) == left & {IDS[0]}


def test_nothing_is_remembered_for_nobody():
    leaving = Leaving()
    leaving.leave({IDS[0]})
    turn = leaving.begin()
    assert leaving.since(turn, IDS) == set()
    later = leaving.begin()
    leaving.leave({IDS[1]})
    leaving.end(turn)
    assert leaving.since(later, IDS) == {IDS[1]}
    leaving.end(later)
    assert leaving.since(later, IDS) == set()
