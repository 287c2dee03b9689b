"""The command line read without argparse is the one that argparse reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import by_hand

VALUES = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8)
FLAGS = [option.flag for option in by_hand.RUN]
LINES = st.tuples(
    st.sampled_from(list(by_hand.COMMANDS)),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(FLAGS), VALUES),
            st.tuples(st.just("--deadline"), st.sampled_from(["1", "60.5", "never"])),
            st.tuples(st.just("--format"), st.sampled_from(["json", "classad"])),
            st.tuples(st.just("--image"), VALUES),
        ),
        max_size=5,
    ),
)


@given(LINES)
def test_what_is_read_plainly_is_what_argparse_reads(line: tuple[str, list[tuple[str, str]]]):
    arguments = [line[0], *(word for pair in line[1] for word in pair)]
    plain = by_hand.read_plain(arguments)
    if plain is not None:
        assert vars(plain) == vars(by_hand._parser().parse_args(arguments))


def test_a_usual_line_is_read_plainly():
    plain = by_hand.read_plain(["run", "--image", "/a", "--image", "/b", "--only", "cvmfs, host", "--deadline", "9"])
    assert plain is not None
    assert (plain.image, plain.only, plain.deadline, plain.format) == (["/a", "/b"], ["cvmfs", "host"], 9.0, "json")


@pytest.mark.parametrize(
    "line", ["", "run --help", "run --image=/a", "explain", "run --deadline soon", "run --format xml", "run --imag /a", "walk"]
)
def test_all_else_is_left_to_argparse(line: str):
    assert by_hand.read_plain(line.split()) is None
