"""Rooms that one can read: every function of src/ddfnet fits on a screen."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "ddfnet"
LINES, LEVELS, ARGUMENTS = 60, 4, 8
BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, Function, bool]]:
    """Each function with its name within the module, and whether its first argument is the object or the class."""
    for node in ast.iter_child_nodes(tree):
        name = f"{outer}.{node.name}".lstrip(".") if isinstance(node, Function | ast.ClassDef) else outer
        if isinstance(node, Function):
            static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
            yield name, node, isinstance(tree, ast.ClassDef) and not static
        yield from functions(node, name)


def lines(function: Function) -> int:
    """From `def` to the end, without the docstring and without the functions inside, which are held to it themselves."""

    def extent(node: ast.stmt) -> int:
        return (node.end_lineno or node.lineno) - node.lineno + 1

    def inner(node: ast.AST) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child
            else:
                yield from inner(child)

    docstring = extent(function.body[0]) if ast.get_docstring(function) is not None else 0
    return extent(function) - docstring - sum(map(extent, inner(function)))


def levels(node: ast.AST) -> int:
    """Blocks within blocks; functions inside are held to it themselves, and `elif` is no deeper than its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            continue
        otherwise = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, levels(child) + (isinstance(child, BLOCKS) and not otherwise))
    return deepest


def arguments(function: Function, method: bool) -> int:
    """Those that may be given by position; `self` and `cls` are not, nor is what a registered op's schema says."""
    if any("library" in ast.unparse(each) or "register" in ast.unparse(each) for each in function.decorator_list):
        return 0
    return len(function.args.posonlyargs) + len(function.args.args) - method


def excesses(source: str) -> dict[str, str]:
    """What exceeds a limit, by the function's name within its module."""
    found = {}
    for name, function, method in functions(ast.parse(source)):
        counts = (
            (lines(function), LINES, "lines"),
            (levels(function), LEVELS, "levels"),
            (
                arguments(function, method),
                ARGUMENTS,
                "arguments",
            ),
        )
        over = [what for count, limit, what in counts if count > limit]
        if over:
            found[name] = ", ".join(over)
    return found


def all_excesses() -> dict[str, str]:
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        module = path.relative_to(SRC).with_suffix("").as_posix()
        found |= {f"{module}: {name}": what for name, what in excesses(path.read_text(encoding="utf-8")).items()}
    return found


def test_functions_fit_on_a_screen() -> None:
    assert all_excesses() == {}


BODY = "\n".join(["    x = 1"] * 59)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"def f():\n{BODY}", {}),
        (f"def f():\n{BODY}\n    y = 1", {"f": "lines"}),
        (f'def f():\n    """One.\n\n    Two.\n    """\n{BODY}', {}),
        (f"def f():\n    def g():\n        pass\n{BODY}", {}),
        ("def f():\n if a:\n  for b in c:\n   while d:\n    with e:\n     pass", {}),
        ("def f():\n if a:\n  for b in c:\n   while d:\n    with e:\n     if g:\n      pass", {"f": "levels"}),
        ("def f():\n if a: pass\n elif b: pass\n elif c: pass\n elif d: pass\n elif e: pass", {}),
        ("def f(a, b, c, d, e, g, h, i, *, j, k): pass", {}),
        ("def f(a, b, c, d, e, g, h, i, j): pass", {"f": "arguments"}),
        ("class A:\n def f(self, a, b, c, d, e, g, h, i): pass", {}),
        ("class A:\n @staticmethod\n def f(a, b, c, d, e, g, h, i, j): pass", {"A.f": "arguments"}),
        ("@torch.library.custom_op('a::b')\ndef f(a, b, c, d, e, g, h, i, j): pass", {}),
    ],
)
def test_an_excess_is_found(source: str, expected: dict[str, str]) -> None:
    assert excesses(source) == expected


if __name__ == "__main__":
    for name, what in all_excesses().items():
        print(f"{name}: {what}")
