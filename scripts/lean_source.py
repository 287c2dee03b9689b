"""Takes from Python source what only people and checkers read: docstrings, comments, annotations, blanks.

The single file compiles its sources at every start, and carries them. Each statement stays on its line, so that the
places that an error names are those of the repository.
"""

from __future__ import annotations

import ast
import io
import tokenize


def lean(source: str) -> str:
    """The same program, line by line, without docstrings, comments and annotations that it does not use itself.

    Raises ValueError where what is left is not the same program; that would be a fault of this module.
    """
    tree, reduced = ast.parse(source), _without_annotations(ast.parse(source))
    used = {node.id for node in ast.walk(reduced) if isinstance(node, ast.Name)}
    lines = source.encode().split(b"\n")
    cuts = [*_comments(source), *_docstrings(tree), *_annotations(tree, lines), *_variables(tree), *_typing(tree, used)]
    result = _indented_by_one(_tight(_without(lines, cuts)))
    if ast.dump(ast.parse(result)) != ast.dump(_without_imports(reduced, used)):
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
        (_start(owner.body[0]), _end(owner.body[0]), b"pass" if _is_empty_without(owner) else b"")
        for owner in ast.walk(tree)
        if _has_docstring(owner)
    ]


def _has_docstring(owner: ast.AST) -> bool:
    return isinstance(owner, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(owner, clean=False) is not None


def _is_empty_without(owner: ast.AST) -> bool:
    """Whether a docstring is all that an owner of one has."""
    return not isinstance(owner, ast.Module) and len(owner.body) == 1  # type: ignore[attr-defined]  # it has


def _annotations(tree: ast.Module, lines: list[bytes]) -> list[Cut]:
    cuts: list[Cut] = []
    for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
        for argument in _annotated(function):
            line, column = _start(argument)
            cuts.append(((line, column + len(argument.arg)), _end(argument), b""))
        if function.returns:
            line, column = _start(function.returns)
            arrow = lines[line].rindex(b"->", 0, column)
            cuts.append(((line, len(lines[line][:arrow].rstrip())), _end(function.returns), b""))
    return cuts


def _annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument for argument in every if argument and argument.annotation]


def _variables(tree: ast.Module) -> list[Cut]:
    """Annotations of variables with a value; those of a class's body may be fields of a named tuple."""
    return [(_end(node.target), _end(node.annotation), b"") for node in _plain_variables(tree)]


def _plain_variables(tree: ast.Module) -> list[ast.AnnAssign]:
    in_classes = {id(node) for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef) for node in owner.body}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and id(node) not in in_classes]
    return [node for node in found if node.value and node.simple]


def _typing(tree: ast.Module, used: set[str]) -> list[Cut]:
    """Imports of names that only the annotations used."""
    return [
        (_start(node), _end(node), f"from typing import {', '.join(names)}".encode() if names else b"pass")
        for node, names in _typing_names(tree, used)
    ]


def _typing_names(tree: ast.Module, used: set[str]) -> list[tuple[ast.ImportFrom, list[str]]]:
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "typing"]
    return [(node, [each.name for each in node.names if each.name in used]) for node in imports]


def _without_imports(tree: ast.Module, used: set[str]) -> ast.Module:
    for node, names in _typing_names(tree, used):
        kept = ast.ImportFrom("typing", [ast.alias(name) for name in names], 0)
        tree.body[tree.body.index(node)] = kept if names else ast.Pass()
    return tree


def _without_annotations(tree: ast.Module) -> ast.Module:
    """The syntax tree that the lean source has to have, but for imports that nothing uses any more."""
    variables = {id(node) for node in _plain_variables(tree)}
    for owner in ast.walk(tree) if variables else ():
        for name, value in ast.iter_fields(owner):
            if isinstance(value, list):
                setattr(owner, name, [_assignment(node) if id(node) in variables else node for node in value])
    for node in ast.walk(tree):
        if _has_docstring(node):
            node.body[:1] = [ast.Pass()] if _is_empty_without(node) else []  # type: ignore[attr-defined]  # it has
        if isinstance(node, FUNCTIONS):
            node.returns = None
            for argument in _annotated(node):
                argument.annotation = None
    return tree


def _assignment(node: ast.AnnAssign) -> ast.Assign:
    return ast.Assign([node.target], node.value)


SOLID = (tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING)


def _tight(source: str) -> str:
    """No blank between what stays two tokens without it."""
    lines = source.split("\n")
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for number in range(len(tokens) - 1, 0, -1):
        one, two = tokens[number - 1], tokens[number]
        solid = one.type in SOLID and two.type in SOLID and one.end[0] == two.start[0]
        if solid and not (_is_word(one.string[-1]) and _is_word(two.string[0])):
            row, line = two.start[0] - 1, lines[two.start[0] - 1]
            lines[row] = line[: one.end[1]] + line[two.start[1] :]
    return "\n".join(lines)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


LAYOUT = (tokenize.INDENT, tokenize.DEDENT, tokenize.NL, tokenize.ENDMARKER)


def _indented_by_one(source: str) -> str:
    """A blank for each level, none before a line that goes on another one; lines within a text stay as they are."""
    lines = source.split("\n")
    result = list(lines)
    depth, begins = 0, True
    for kind, _, (line, column), _, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind in LAYOUT:
            depth += (kind == tokenize.INDENT) - (kind == tokenize.DEDENT)
            continue
        if not lines[line - 1][:column].strip():
            result[line - 1] = (" " * depth if begins else "") + lines[line - 1][column:]
        begins = kind == tokenize.NEWLINE
    return "\n".join(result)


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
