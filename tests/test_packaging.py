"""The package mapping of docs/decisions/0001: links, setup.cfg, folders and every way to install agree."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist")


def options(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    return parser


def mapping(root: Path) -> dict[str, str]:
    """package → top-level folder, as setup.cfg maps them."""
    lines = options(root)["options"]["package_dir"].split("\n")
    return {name.strip(): folder.strip() for name, _, folder in (line.partition("=") for line in lines if line.strip())}


def links(root: Path) -> dict[str, str]:
    """package → what its link inside infonce_ref says."""
    return {f"infonce_ref.{p.name}": os.readlink(p) for p in (root / "infonce_ref").iterdir() if p.is_symlink()}  # noqa: PTH115


def packages(root: Path) -> list[str]:
    """The folders with an __init__.py, under their true names: the links are followed."""
    folders = os.walk(root / "infonce_ref", followlinks=True)
    return sorted(
        ".".join(Path(folder).relative_to(root).parts) for folder, _, files in folders if "__init__.py" in files
    )


def disagreements(root: Path) -> list[str]:
    """Where links, mapping and list of packages don't say the same."""
    found = []
    if links(root) != {name: f"../{folder}" for name, folder in mapping(root).items()}:
        found.append(f"links {links(root)}, mapping {mapping(root)}")
    if packages(root) != sorted(options(root)["options"]["packages"].split()):
        found.append(f"folders {packages(root)}")
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is in the repository, links as links."""
    copy = tmp_path / "tree"
    for name in ("infonce_ref", "backends", "conformance"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=LEFT_OUT)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def test_links_mapping_and_list_agree() -> None:
    """Each mapped package has its relative link, each link its mapping, each package its line in setup.cfg."""
    assert disagreements(ROOT) == []


def test_a_missing_link_is_found(tree: Path) -> None:
    """A mapped package without its link."""
    (tree / "infonce_ref" / "backends").unlink()
    assert len(disagreements(tree)) > 0


def test_a_link_that_leads_elsewhere_is_found(tree: Path) -> None:
    """An absolute link works on one machine only."""
    (tree / "infonce_ref" / "backends").unlink()
    (tree / "infonce_ref" / "backends").symlink_to(ROOT / "backends")
    assert len(disagreements(tree)) == 1


def test_an_unlisted_package_is_found(tree: Path) -> None:
    """A new subpackage that setup.cfg doesn't name would be missing from the wheel."""
    (tree / "conformance" / "new").mkdir()
    (tree / "conformance" / "new" / "__init__.py").touch()
    assert len(disagreements(tree)) == 1


def python(*arguments: str | Path, cwd: Path, executable: Path | str = sys.executable) -> str:
    """What `python …` prints; it must succeed."""
    run = subprocess.run([executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def in_wheel(wheel: Path) -> list[str]:
    """The files that a wheel installs, less its metadata."""
    return sorted(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)


def in_tree(root: Path) -> list[str]:
    """The files that a wheel must install: all of the package, through its links."""
    folders = os.walk(root / "infonce_ref", followlinks=True)
    return sorted(str((Path(folder) / name).relative_to(root)) for folder, _, names in folders for name in names)


@pytest.mark.slow
def test_wheel_holds_every_file_once_under_its_true_name(tree: Path) -> None:
    """From the tree and from the source distribution alike; nothing lies at the top but infonce_ref."""
    expected = in_tree(tree)
    python("-m", "build", "--wheel", "--outdir", "from_tree", ".", cwd=tree)
    shutil.rmtree(tree / "build", ignore_errors=True)
    python("-m", "build", "--outdir", "from_sdist", ".", cwd=tree)  # the source distribution, and from that the wheel

    (wheel,) = (tree / "from_tree").glob("*.whl")
    (second,) = (tree / "from_sdist").glob("*.whl")
    (source,) = (tree / "from_sdist").glob("*.tar.gz")
    assert in_wheel(wheel) == expected
    assert in_wheel(second) == expected
    with tarfile.open(source) as archive:
        assert not [member.name for member in archive if not (member.isfile() or member.isdir())]


def installed(folder: Path, *arguments: str | Path) -> Path:
    """The python of a new environment in which `pip install` was given `arguments`."""
    venv.create(folder, with_pip=True)
    executable = folder / "bin" / "python"
    python("-m", "pip", "install", "-q", *arguments, cwd=folder, executable=executable)
    return executable


SEEN = """
import importlib.util, infonce_ref.backends, infonce_ref.conformance.clauses as clauses
assert len(clauses.sentences()) > 0
assert not any(importlib.util.find_spec(name) for name in ("backends", "conformance"))
print(clauses.__file__)
"""


@pytest.mark.slow
def test_base_install_pulls_numpy_and_array_api_compat_only(tree: Path, tmp_path: Path) -> None:
    """`pip install .` into an empty environment, which then imports the packages from its own files."""
    executable = installed(tmp_path / "env", tree)
    listed = python("-m", "pip", "list", "--format=json", cwd=tmp_path, executable=executable)
    names = {entry["name"].lower().replace("_", "-") for entry in json.loads(listed)} - {"pip", "setuptools"}
    assert names == {"infonce-ref", "numpy", "array-api-compat"}

    assert str(tmp_path / "env") in python("-c", SEEN, cwd=tmp_path, executable=executable)
    call = "import numpy as np; from infonce_ref import info_nce; print(info_nce(np.eye(2), np.eye(2)).shape)"
    assert python("-c", call, cwd=tmp_path, executable=executable).strip() == "()"


@pytest.mark.slow
def test_editable_install_reads_the_tree(tree: Path, tmp_path: Path) -> None:
    """`pip install -e .` imports both packages from the tree, under their true names only."""
    executable = installed(tmp_path / "env", "-e", tree)
    assert str(tree) in python("-c", SEEN, cwd=tmp_path, executable=executable)


def collected(root: Path) -> list[Path]:
    """The real files that pytest, run in `root` without arguments, collects; a file twice if it is collected twice."""
    listing = python("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", cwd=root)
    names = dict.fromkeys(line.split("::")[0] for line in listing.splitlines() if "::" in line)
    return [(root / name).resolve() for name in names]


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """A small tree of the same form, one doctest in a linked folder."""
    (tmp_path / "conformance").mkdir()
    (tmp_path / "infonce_ref").mkdir()
    (tmp_path / "infonce_ref" / "__init__.py").touch()
    (tmp_path / "infonce_ref" / "conformance").symlink_to("../conformance")
    (tmp_path / "conformance" / "__init__.py").write_text('"""\n>>> 1 + 1\n2\n"""\n')
    return tmp_path


def test_pytest_collects_nothing_twice(documented: Path) -> None:
    """With the repository's settings a module behind a link is collected once, even when everything is asked for."""
    settings = re.sub("testpaths = .*", 'testpaths = ["."]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (documented / "pyproject.toml").write_text(settings, encoding="utf-8")
    assert collected(documented) == [documented / "conformance" / "__init__.py"]


def test_collecting_twice_is_seen(documented: Path) -> None:
    """Without those settings the same module is collected under both names."""
    (documented / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = ["--doctest-modules", "--import-mode=importlib"]\n'
    )
    assert collected(documented) == 2 * [documented / "conformance" / "__init__.py"]
