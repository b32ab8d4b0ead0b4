import shutil

import nbformat
import pytest
from imports import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "examples/quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_stored_without_outputs(notebook):
    assert [cell.outputs for cell in code_cells(notebook)] == [[] for _ in code_cells(notebook)]
    assert all(cell.execution_count is None for cell in code_cells(notebook))


def test_it_runs_and_every_step_shows_a_picture(notebook, tmp_path):
    examples = tmp_path / "examples"  # a copy, since the notebook writes an animation to its folder
    shutil.copytree(NOTEBOOK.parent, examples)
    for folder in ("data", "models"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    run = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": examples}})
    run.execute()
    for cell in code_cells(notebook):
        kinds = {kind for output in cell.outputs if "data" in output for kind in output.data}
        assert kinds & {"image/png", "image/gif"}, cell.source
    assert (examples / "orbit.gif").stat().st_size > 10_000
