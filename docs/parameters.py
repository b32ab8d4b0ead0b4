"""The reference of all parameters, docs/parameters.md, from params.yaml and its comments.

python docs/parameters.py  # after a change of params.yaml
"""

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

import typer
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

ROOT = Path(__file__).parents[1]
SOURCE, OUT = ROOT / "params.yaml", ROOT / "docs/parameters.md"
HEAD = """# Parameters

Every key of `params.yaml` with its default, one table per section. Keys are relative to their section: change one with
`dvc exp run -S train.max_steps=160`, or in the file. [Try other values](experiments.md) explains how.

*This page is made from the comments of `params.yaml` by `python docs/parameters.py`; edit them there.*
"""
LONGEST = 48  # characters of a default; longer lists are cut


def make_page(text: str) -> str:
    """The content of params.yaml => the content of the page."""
    values, lines = YAML().load(text), text.splitlines()
    sections = {key: value for key, value in values.items() if isinstance(value, CommentedMap)}
    others = [row for key in values if key not in sections for row in read_rows(values, key, key, lines)]
    parts = [HEAD, "## Top level\n", table(others)]
    for name, section in sections.items():
        about = [comment_at(values, name, lines), comment_before(section, lines)]
        parts += [f"## {name}\n", *[fill(f"{capitalised(comment)}.\n", 120) + "\n" for comment in about if comment]]
        parts.append(table([row for key in section for row in read_rows(section, key, key, lines)]))
    return "\n".join(parts)


def read_rows(parent: CommentedMap, key: str, name: str, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(dotted name, default, meaning) of a key; of a group, a row if it has a comment, then those of its keys."""
    value, meaning = parent[key], comment_at(parent, key, lines)
    if isinstance(value, CommentedMap):
        if meaning:
            yield name, "", meaning
        for inner in value:
            yield from read_rows(value, inner, f"{name}.{inner}", lines)
        return
    code, _, _ = lines[parent.lc.key(key)[0]].partition(": ")[2].partition(" # ")
    yield name, f"`{shown(value) if isinstance(value, list) else code}`", meaning


def comment_at(parent: CommentedMap, key: str, lines: list[str]) -> str:
    """What follows `#` in the line of a key."""
    return lines[parent.lc.key(key)[0]].partition(" # ")[2]


def comment_before(section: CommentedMap, lines: list[str]) -> str:
    """The lines of comment between the heading of a section and its first key."""
    first = found = section.lc.key(next(iter(section)))[0]
    while lines[found - 1].lstrip().startswith("#"):
        found -= 1
    return " ".join(line.strip(" #") for line in lines[found:first]).removesuffix(".")


def shown(value: object) -> str:
    """A list as YAML in one line, cut where it is long."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        text = ", ".join(map(shown, value))
        return f"[{text}]" if len(text) <= LONGEST else f"[{text[: text.rindex(',', 0, LONGEST)]}, …]"
    return str(value)


def table(rows: list[tuple[str, str, str]]) -> str:
    """Rows as a table in Markdown."""
    lines = [f"| `{name}` | {default} | {escaped(meaning)} |" for name, default, meaning in rows]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *lines, ""])


def escaped(text: str) -> str:
    """The text for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def capitalised(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[0].upper() + text[1:]


def main() -> None:
    """Write docs/parameters.md from params.yaml."""
    OUT.write_text(make_page(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
