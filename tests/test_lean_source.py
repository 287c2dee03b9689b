"""What the single file carries of each source: the same program on the same lines."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

from lean_source import lean  # noqa: E402 - found by the path set above

CASES = {
    "a comment": ("x = 1  # why\n", "x = 1\n"),
    "a hash in a string": ('x = "# no comment"\n', 'x = "# no comment"\n'),
    "a docstring of a module": ('"""About."""\nx = 1\n', "\nx = 1\n"),
    "a docstring that is all there is": ('class E(Exception):\n    """About."""\n', "class E(Exception):\n    pass\n"),
    "a docstring over lines": (
        'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n',
        "def f():\n    pass\n\n\n\n    return 1\n",
    ),
    "annotations": (
        "def f(a: int, *b: str, c: 'X' = 2, **d: int) -> Dict[str, int]: return a\n",
        "def f(a, *b, c = 2, **d) : return a\n",
    ),
    "annotations over lines": (
        "def f(\n    a: Dict[\n        str, int],\n) -> Tuple[\n    int]:\n    pass\n",
        "def f(\n    a,\n\n) :\n\n    pass\n",
    ),
    "letters beyond ASCII": ('def f(a: "ä" = "ü") -> "ö": return "ä"  # ä\n', 'def f(a = "ü") : return "ä"\n'),
    "fields of a named tuple stay": ("class A(NamedTuple):\n    a: int\n", "class A(NamedTuple):\n    a: int\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_only_people_and_checkers_read_is_left_out(name: str):
    source, wanted = CASES[name]
    assert [line.rstrip() for line in lean(source).split("\n")] == [line.rstrip() for line in wanted.split("\n")]


@pytest.mark.parametrize("path", sorted((ROOT / "probe").rglob("*.py")), ids=lambda path: path.name)
def test_each_statement_of_the_probe_stays_on_its_line(path: Path):
    source = path.read_text(encoding="utf-8")
    result = lean(source)
    kept = {node.lineno for node in ast.walk(ast.parse(result)) if isinstance(node, ast.Return | ast.Raise | ast.Assign)}
    before = {node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Return | ast.Raise | ast.Assign)}
    assert kept == before
    assert len(result) < len(source)


def test_what_would_change_the_program_is_refused():
    with pytest.raises(ValueError, match="changed the program"):
        lean('x = """a \nb"""\n')  # white space at the end of a line of a text
