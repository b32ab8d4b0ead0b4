"""Every code block of every document is run, or checked as far as it can be without what it needs."""

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from documents import Block, make_working_copy, read_blocks, read_inline
from dvc.cli import parse_args
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from imports import ROOT
from ruamel.yaml import YAML
from typer.testing import CliRunner

from fourdistill import FourDistillPipeline
from fourdistill.cli import app
from fourdistill.params import load_params

STEPS = 2  # of the diffusion, where a command or a call leaves them to the default
BLOCKS = read_blocks()
INLINE = read_inline("fourdistill", "dvc", "make", "python")
SHELL = [block for block in BLOCKS if block.language in ("", "sh")]
PYTHON = [block for block in BLOCKS if block.language == "python"]
PARAMS = [block for block in BLOCKS if block.language == "yaml"]
NEEDS_HUB = {"docs/stable-diffusion.md"}  # its Python is only compiled
NOT_CODE = {"mermaid", "text", "csv", "json"}

# Commands that are not run, by how they begin. Their options are checked if they are `fourdistill`'s.
EXCEPTIONS = {
    "source .venv/bin/activate": "changes the shell that it is typed into; `make install` makes the environment",
    "fourdistill demo": "serves until it is stopped: tests/demo",
    "fourdistill fetch pose2sim": "downloads: tests/network/test_real_captures.py",
    "fourdistill fetch neural-3d-video": "downloads: tests/sources/test_sources_fetch.py, from a local server",
    "fourdistill inspect data/raw/dnerf": "needs a scene that is not part of the repository",
    "fourdistill generate --base data/base/sd15": "needs Stable Diffusion",
    "hf download": "downloads gigabytes",
    "mkdir data/base/sd15": "belongs to the download",
    "mv data/base/ip/": "belongs to the download",
    "pip install fourdistill[gsplat]": "needs a CUDA device",
    "dvc exp run -S reconstruct.enabled=true -S reconstruct.representation=gsplat": "needs a CUDA device",
    "fourdistill push-shards": "needs a server: tests/shards/loader/test_shards_loader_s3.py",
    "mkdir -p /tmp/s3": "belongs to the next",
    "echo {": "belongs to the next",
    "weed server": "a server: tests/s3_server.py starts it with the same options",
    "export AWS_": "belongs to the server",
    "python -c import fsspec": "needs the server",
    "sbatch": "needs SLURM",
    "jupyter execute": "takes half a minute: tests/examples/test_examples_quickstart.py runs the notebook",
}
NOT_CHECKED = {  # of the text
    "fourdistill --install-completion": "changes the shell's start-up file",
    "python -m pipeline.train": "a stage: tests/test_config.py starts them all",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project that the blocks run in, one after the other."""
    (sync,) = [block.text for block in BLOCKS if block.language == "csv"]
    return make_working_copy(tmp_path_factory.mktemp("project"), sync)


@pytest.fixture(autouse=True)
def in_project(project, monkeypatch):
    """Run in the copy, with its own params.yaml as it was."""
    monkeypatch.chdir(project)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_bytes((ROOT / name).read_bytes())


def check_fourdistill(*words: str) -> None:
    """Run a command in this process, with few steps."""
    done = CliRunner().invoke(app, words, default_map={"generate": {"steps": STEPS}})
    assert done.exit_code == 0, done.output


def check_dvc(*words: str) -> None:
    """Options exist, stages too, and what is set makes parameters that the stages accept."""
    arguments = parse_args(list(words))
    if words[0] == "repro" or words[:2] == ("exp", "run"):
        stages = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
        assert set(arguments.targets) <= set(stages)
    given = getattr(arguments, "set_param", None) or []
    runs = get_hydra_sweeps({"params.yaml": given}) if given and arguments.queue else [{"params.yaml": given}]
    for run in runs:
        Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        apply_overrides("params.yaml", run["params.yaml"])
        load_params()


def check_make(*targets: str) -> None:
    """The Makefile has the target."""
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def check_python(script: str, *words: str) -> None:
    """The script exists, and accepts its options: with --help they are parsed and nothing is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *words, "--help"])
        patch.syspath_prepend((ROOT / script).parent)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not ended.value.code


def check_accelerate(*words: str) -> None:
    """The options are accelerate's, and the files exist."""
    assert words[0] == "launch"
    arguments = launch_command_parser().parse_args(words[1:])
    assert (ROOT / arguments.config_file).is_file() and (ROOT / arguments.training_script).is_file()


def check_sed(*words: str) -> None:
    """It changes what it names, to valid YAML."""
    path = Path(words[-1])
    before = YAML(typ="safe").load(path.read_text())
    subprocess.run(["sed", *words], check=True)
    assert YAML(typ="safe").load(path.read_text()) != before


CHECKS = {
    "fourdistill": check_fourdistill,
    "dvc": check_dvc,
    "make": check_make,
    "python": check_python,
    "accelerate": check_accelerate,
    "sed": check_sed,
}


def exception(words: list[str]) -> str | None:
    """How the exception begins that a command is, or None."""
    return next((beginning for beginning in EXCEPTIONS if " ".join(words).startswith(beginning)), None)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_work_as_written(block: Block):
    for program, *words in block.commands():
        if not exception([program, *words]):
            assert program in CHECKS, f"{block}: {program}: neither checked nor an exception"
            CHECKS[program](*words)
        elif program == "fourdistill":
            check_fourdistill(*words, "--help")


@pytest.mark.parametrize("document", sorted({document for document, _ in INLINE}))
def test_commands_in_the_text_exist(document):
    """They may be shortened, so nothing is run: options are checked, arguments may be missing."""
    for program, *words in [words for name, words in INLINE if name == document]:
        if " ".join([program, *words]) not in NOT_CHECKED:
            CHECKS[program](*words, *(["--help"] if program == "fourdistill" else []))


def test_every_exception_is_of_a_command():
    met = {exception(words) for block in SHELL for words in block.commands()}
    assert not EXCEPTIONS.keys() - met
    assert not NOT_CHECKED.keys() - {" ".join(words) for _, words in INLINE}


@pytest.mark.parametrize("document", sorted({block.document for block in PYTHON}))
def test_python_runs_as_written(document, monkeypatch):
    """The blocks of a document share their names, as in a reader's session."""
    call = inspect.unwrap(FourDistillPipeline.__call__)
    defaults = {it.name: it.default for it in inspect.signature(call).parameters.values() if it.default is not it.empty}
    monkeypatch.setattr(call, "__defaults__", tuple({**defaults, "num_inference_steps": STEPS}.values()))
    names: dict[str, object] = {}
    for block in PYTHON:
        if block.document == document:
            code = compile(block.text, str(block), "exec")
            if document not in NEEDS_HUB:
                exec(code, names)


@pytest.mark.parametrize("block", PARAMS, ids=str)
def test_parameters_are_valid(block: Block, tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text(block.text)
    assert load_params(over=over) != load_params()


def test_every_block_is_of_a_known_language():
    known = {*SHELL, *PYTHON, *PARAMS} | {block for block in BLOCKS if block.language in NOT_CODE}
    assert not [str(block) for block in BLOCKS if block not in known]
