"""tools/check_install.py, and the pinned versions that it reads."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from prestarted import run_python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check_install():
    spec = importlib.util.spec_from_file_location("check_install", ROOT / "tools" / "check_install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_of_this_environment_has_a_line_for_each_package_and_its_exit_code():
    result = run_python(ROOT / "tools" / "check_install.py")
    lines = result.stdout.splitlines()
    assert f"[x] torch: {importlib.metadata.version('torch')}" in lines
    assert any(line.startswith("[x] computing: ") and "threads; bfloat16 is" in line for line in lines)
    missing = [line for line in lines if line.startswith("[ ]")]
    assert result.returncode == (1 if missing else 0)


def test_a_wrong_or_missing_package_is_named(check_install, capsys):
    assert not check_install.check("numpy", lambda: check_install.installed("numpy", "0.1"))
    assert not check_install.check("nothing", lambda: check_install.installed("no-such-package", "1"))
    assert check_install.check("fine", lambda: "yes")
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("[ ] numpy: ValueError: ") and output[0].endswith("0.1 is wanted")
    assert output[1].startswith("[ ] nothing: PackageNotFoundError")
    assert output[2] == "[x] fine: yes"


def test_versions_are_those_of_the_shell_scripts(check_install):
    assert f"\nTORCH={check_install.TORCH}\n" in (ROOT / "tools" / "setup.sh").read_text()
    assert f"\nESPNET={check_install.ESPNET}\n" in (ROOT / "tools" / "install_espnet.sh").read_text()


# tools/setup.sh does not install them. Code that needs them names them (tests/training/test_log.py,
# tests/codec/test_classic.py).
ON_REQUEST = {"wandb", "pycodec2"}
TYPES_ONLY = {"_typeshed"}  # for type checkers; no module at run time
KNOWN = sys.stdlib_module_names | {"audiopalm"} | ON_REQUEST | TYPES_ONLY
NEEDS_ESPNET = ("audiopalm.espnet", "audiopalm.codec.soundstream_quantiser")


def requirement_names(requirements):
    return {re.split("[<>=;\\[ ]", requirement)[0] for requirement in requirements}


def test_pip_install_brings_the_imports_of_inference_and_extras_the_others():
    """`pip install .` brings every import of audiopalm.inference; extras bring the others at the top of modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = requirement_names(project["dependencies"])
    extras = set().union(*map(requirement_names, project["optional-dependencies"].values()))
    providers = importlib.metadata.packages_distributions()
    code = ("import sys, audiopalm.inference\n"
            "print(*{name.partition('.')[0] for name in sys.modules if not name.startswith('_')})")
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split())
    imported = set()
    for path in (ROOT / "audiopalm").rglob("*.py"):
        if not ".".join(path.relative_to(ROOT).with_suffix("").parts).startswith(NEEDS_ESPNET):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                imported |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else (
                    {node.module} if isinstance(node, ast.ImportFrom) and node.module else set())
    imported = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"audiopalm"}

    def packages(names):
        return {provider.lower().replace("_", "-") for name in names for provider in providers.get(name, [name])[:1]}

    assert packages(imported & loaded) - required == set()
    assert packages(imported) - required - extras == set()
    assert not {"lightning_fabric", "matplotlib", "sacrebleu", "jiwer", "pyarrow", "gradio", "espnet2"} & loaded


def test_every_import_of_the_package_is_pinned(check_install):
    """A module imported anywhere in audiopalm comes from the standard library, torch, espnet or requirements.txt."""
    pinned = {name.lower().replace("_", "-") for name in
              check_install.pinned_packages(ROOT / "tools" / "requirements.txt")} | {"torch", "espnet"}
    providers = importlib.metadata.packages_distributions()
    unknown = set()
    for path in (ROOT / "audiopalm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else [])
            for name in {name.split(".")[0] for name in names} - KNOWN:
                packages = {provider.lower().replace("_", "-") for provider in providers.get(name, [])}
                if not packages & pinned:
                    unknown.add(f"{path.relative_to(ROOT)}: {name}")
    assert sorted(unknown) == []
