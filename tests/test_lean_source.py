"""What the single file carries of each source: the same program on the same lines."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

from lean_source import lean  # noqa: E402 - found by the path set above

STATEMENTS = (ast.Return, ast.Raise, ast.If, ast.For, ast.FunctionDef, ast.AugAssign, ast.Call)
CASES = {
    "a comment": ("x = 1  # why\n", "x=1\n"),
    "a hash in a string": ('x = "# no comment"\n', 'x="# no comment"\n'),
    "a docstring of a module": ('"""About."""\nx = 1\n', "\nx=1\n"),
    "a docstring that is all there is": ('class E(Exception):\n    """About."""\n', "class E(Exception):\n pass\n"),
    "a docstring over lines": (
        'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n',
        "def f():\n\n\n\n\n return 1\n",
    ),
    "annotations": (
        "def f(a: int, *b: str, c: 'X' = 2, **d: int) -> Dict[str, int]: return a\n",
        "def f(a,*b,c=2,**d):return a\n",
    ),
    "annotations over lines": (
        "def f(\n    a: Dict[\n        str, int],\n) -> Tuple[\n    int]:\n    pass\n",
        "def f(\na,\n\n):\n\n pass\n",
    ),
    "letters beyond ASCII": ('def f(a: "ä" = "ü") -> "ö": return "ä"  # ä\n', 'def f(a="ü"):return"ä"\n'),
    "fields of a named tuple stay": ("class A(NamedTuple):\n    a: int\n", "class A(NamedTuple):\n a:int\n"),
    "other variables": (
        "a: int = 1\ndef f():\n    b: Dict[str, int] = {}\n    c: int\n",
        "a=1\ndef f():\n b={}\n c:int\n",
    ),
    "imports for annotations": (
        "from typing import (\n    Any,\n    Dict,\n)\na: Any = 1\nB = Dict[str, int]\n",
        "from typing import Dict\n\n\n\na=1\nB=Dict[str,int]\n",
    ),
    "imports for annotations alone": ("from typing import Any\na: Any = 1\n", "pass\na=1\n"),
    "a text over lines": ('if a:\n    b = """c\n    d"""\n', 'if a:\n b="""c\n    d"""\n'),
    "blanks between words": ("a = b if not c else [x for x in 'y' 'z']\n", "a=b if not c else[x for x in'y''z']\n"),
    "blanks after numbers": ("a = 1 if b else 2 or - -3\n", "a=1 if b else 2 or--3\n"),
    "blanks before a prefix": ("a = x if b'' in c else r'\\d' + f (1)\n", "a=x if b''in c else r'\\d'+f(1)\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_only_people_and_checkers_read_is_left_out(name: str):
    source, wanted = CASES[name]
    assert [line.rstrip() for line in lean(source).split("\n")] == [line.rstrip() for line in wanted.split("\n")]


@pytest.mark.parametrize("path", sorted((ROOT / "probe").rglob("*.py")), ids=lambda path: path.name)
def test_each_statement_of_the_probe_stays_on_its_line(path: Path):
    source = path.read_text(encoding="utf-8")
    result = lean(source)
    kept, before = (
        {(type(node), node.lineno) for node in ast.walk(ast.parse(text)) if isinstance(node, STATEMENTS)}
        for text in (result, source)
    )
    assert kept == before
    assert len(result) < len(source)


def test_what_would_change_the_program_is_refused():
    with pytest.raises(ValueError, match="changed the program"):
        lean('x = """a \nb"""\n')  # white space at the end of a line of a text
