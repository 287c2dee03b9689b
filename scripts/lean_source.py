"""Takes from Python source what only people and checkers read: docstrings, comments, annotations of functions.

The single file compiles its sources at every start, and carries them. Each statement stays on its line, so that the
places that an error names are those of the repository.
"""

from __future__ import annotations

import ast
import io
import tokenize


def lean(source: str) -> str:
    """The same program without docstrings, comments and annotations of functions, line by line.

    Raises ValueError where what is left is not the same program; that would be a fault of this module.
    """
    tree = ast.parse(source)
    lines = source.encode().split(b"\n")
    cuts = [*_comments(source), *_docstrings(tree), *_annotations(tree, lines)]
    result = _without(lines, cuts)
    if ast.dump(ast.parse(result)) != ast.dump(_reduced(ast.parse(source))):
        raise ValueError("leaving out docstrings and annotations changed the program")
    return result


# From (line, column) to (line, column), counted from 0 and in bytes of UTF-8 as ast does, and what takes its place.
Cut = tuple[tuple[int, int], tuple[int, int], bytes]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _comments(source: str) -> list[Cut]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [(start[0] - 1, line[: start[1]], text) for kind, text, start, _, line in tokens if kind == tokenize.COMMENT]
    places = [(number, len(before.encode()), len(text.encode())) for number, before, text in found]
    return [((number, start), (number, start + size), b"") for number, start, size in places]


def _docstrings(tree: ast.Module) -> list[Cut]:
    return [
        (_start(owner.body[0]), _end(owner.body[0]), b"" if isinstance(owner, ast.Module) else b"pass")
        for owner in ast.walk(tree)
        if _has_docstring(owner)
    ]


def _has_docstring(owner: ast.AST) -> bool:
    return isinstance(owner, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(owner, clean=False) is not None


def _annotations(tree: ast.Module, lines: list[bytes]) -> list[Cut]:
    cuts: list[Cut] = []
    for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
        for argument in _annotated(function):
            line, column = _start(argument)
            cuts.append(((line, column + len(argument.arg)), _end(argument), b""))
        if function.returns:
            line, column = _start(function.returns)
            arrow = lines[line].rindex(b"->", 0, column)
            cuts.append(((line, arrow), _end(function.returns), b""))
    return cuts


def _annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument for argument in every if argument and argument.annotation]


def _reduced(tree: ast.Module) -> ast.Module:
    """The syntax tree that the lean source has to have."""
    for node in ast.walk(tree):
        if _has_docstring(node):
            node.body[:1] = [] if isinstance(node, ast.Module) else [ast.Pass()]  # type: ignore[attr-defined]  # it has
        if isinstance(node, FUNCTIONS):
            node.returns = None
            for argument in _annotated(node):
                argument.annotation = None
    return tree


def _start(node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
    return node.lineno - 1, node.col_offset


def _end(node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
    return int(node.end_lineno or 0) - 1, int(node.end_col_offset or 0)  # the parser sets both


def _without(lines: list[bytes], cuts: list[Cut]) -> str:
    lines = list(lines)
    for (first, start), (last, end), instead in sorted(cuts, reverse=True):
        lines[first] = lines[first][:start] + instead + lines[last][end:]
        for after in range(first + 1, last + 1):
            lines[after] = b""
    return b"\n".join(line.rstrip() for line in lines).decode()
