"""The fenced code blocks of the documents, the commands in them, and a copy of the project to run them in."""

import csv
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from grid_scenes import frame_rows, write_frames
from imports import ROOT
from PIL import Image
from tiny_scenes import SIZE

from fourdistill.evaluation.folder import COLUMNS

FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
LINKS = {name: name for name in ("examples", "data/base", "data/raw/mocap", "models/mini-adapter")} | {
    "models/adapter": "models/mini-adapter"
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its document relative to the root, the line of its fence, its language, its lines."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of every command of a shell's block, without comments and the variables set before it."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("&;|"):
                    found += [words] if words else []
                    words = []
                elif words or not ASSIGNMENT.fullmatch(word):
                    words.append(word)
        return found


def read_documents() -> dict[str, str]:
    """The text of every document, by its path relative to the root."""
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")]
    paths = [*named, *sorted((ROOT / "docs").glob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def read_blocks() -> list[Block]:
    """All fenced blocks of the documents, in order."""
    return [
        Block(document, text.count("\n", 0, fence.start()) + 1, fence[2], fence[3])
        for document, text in read_documents().items()
        for fence in FENCE.finditer(text)
    ]


def read_inline(*programs: str) -> list[tuple[str, list[str]]]:
    """(document, words) of every command with arguments in the text between the blocks, of these programs."""
    found = []
    for document, text in read_documents().items():
        spans = [" ".join(span.split()) for span in INLINE.findall(FENCE.sub("", text))]
        found += [(document, shlex.split(span)) for span in spans if span.partition(" ")[0] in programs and " " in span]
    return found


def make_working_copy(folder: Path, sync: str) -> Path:
    """A copy of the project after `make repro`, with a user's capture; `sync` is the content of its sync.csv.

    What a command may write to is copied, the rest is linked. `models/adapter` is the shipped adapter.
    """
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name, target in LINKS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / target)
    phones = folder / "data/raw/phones/jump"
    phones.mkdir(parents=True)
    for number in range(4):
        (phones / f"phone{number}.mp4").symlink_to(ROOT / f"data/raw/mocap/scene035_jump/cam0{number}.mp4")
    (phones / "sync.csv").write_text(sync)
    write_evaluation(folder)
    return folder


def write_evaluation(folder: Path) -> None:
    """What an evaluation leaves: a grid of frames with its tables, and generated images with their commands."""
    rows, rng = frame_rows("walk", "test"), np.random.default_rng(0)
    for row in rows:
        path = folder / "data/frames" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path, quality=95)
    write_frames(folder / "data/frames.parquet", rows)
    generated = folder / "reports/evaluation/generated"
    generated.mkdir(parents=True)
    with (generated / "commands.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, (camera, frame, sweep) in enumerate([(0, 0, "t"), (0, 4, "t"), (0, 8, "t"), (1, 6, "")]):
            target = f"cam{camera:02d}"
            shutil.copy(folder / f"data/frames/walk/{target}/{frame:06d}.jpg", generated / f"{number}.jpg")
            table.writerow([f"{number}.jpg", "walk", "cam00", 4, target, frame, sweep])
