"""What a release says of itself is one and the same everywhere, and a built wheel works outside the repository."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from imports import ROOT
from ruamel.yaml import YAML

import fourdistill

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(name):
    return YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version_and_licence():
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == fourdistill.__version__
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_has_this_version_below_what_is_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1] == f"{fourdistill.__version__} - {read_yaml('CITATION.cff')['date-released']}"


def test_ci_tests_the_versions_of_python_that_are_declared():
    tested = read_yaml(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    declared = [line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert tested == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of a package unpacked from a wheel, which was built from a copy of the sources."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fourdistill", source / "fourdistill", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(wheels)], cwd=source, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    assert wheel.name.startswith(f"fourdistill-{fourdistill.__version__}-")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run_installed(site, folder, *arguments):
    """Run the command line of an unpacked wheel in a folder outside the repository."""
    code = (
        "import sys, fourdistill.cli as cli; assert cli.__file__.startswith(sys.argv.pop(1)), cli.__file__; cli.app()"
    )
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code, str(site), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_wheel_contains_every_file_of_the_package(installed):
    tracked = {path.relative_to(ROOT) for path in (ROOT / "fourdistill").rglob("*") if path.is_file()}
    wanted = {path for path in tracked if path.suffix != ".pyc"}
    assert not [path for path in sorted(wanted) if not (installed / path).is_file()]


def test_a_wheel_works_outside_the_repository(installed, tmp_path):
    done = run_installed(installed, tmp_path, "--help")
    assert done.returncode == 0 and "generate" in done.stdout, done.stderr


def test_outside_the_repository_one_line_says_what_a_picture_needs(installed, tmp_path):
    image = str(ROOT / "examples/backflip.png")
    done = run_installed(installed, tmp_path, "generate", "--image", image, "--time", "0.2", "--out", "later.png")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: --base: expected a folder or a Hub id, because the default, data/base/mini")
