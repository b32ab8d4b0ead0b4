"""Which of our own modules a file imports, read from its syntax tree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "fourdistill"
_PLACE = re.compile(rf"{PACKAGE}(\.\w+)+:\w+")


def module_file(name: str) -> Path | None:
    """A dotted name => its file relative to the root, or None if it is not one of our modules."""
    path = ROOT / name.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(ROOT)
    return None


def direct_imports(file: Path) -> set[str]:
    """Dotted names of our modules that a file (relative to the root) imports anywhere, inside functions too.

    `"package.module:name"`, which `pkgutil.resolve_name` imports, is one of them.
    """
    names = set()
    for node in _that_run(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide from this check"
            # `from package import name`: name is a module, or is defined in the package.
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Constant) and _PLACE.fullmatch(str(node.value)):
            names.add(str(node.value).partition(":")[0])
    return {name for name in names if name.split(".")[0] == PACKAGE and module_file(name)}


def _that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree except those below `if TYPE_CHECKING:`, which only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _that_run(node)


def transitive_imports(file: Path) -> set[Path]:
    """Our files (relative to the root) that running a file executes, except `__init__.py` files without code.

    The package's own `__init__.py` only maps names to modules for users; our modules do not use it.
    """
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        for name in direct_imports(waiting.pop()):
            parts = name.split(".")
            for depth in range(2, len(parts) + 1):  # importing a.b.c runs a/__init__.py and a/b/__init__.py too
                path = module_file(".".join(parts[:depth]))
                if path is not None and path not in seen:
                    seen.add(path)
                    waiting.append(path)
    return {path for path in seen if path.name != "__init__.py" or _does_something(path)}


def _does_something(path: Path) -> bool:
    """Whether an `__init__.py` contains more than a docstring and constants such as `__version__`."""
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return any(not (isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Constant)) for node in body)
