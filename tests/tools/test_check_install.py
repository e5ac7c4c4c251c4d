"""tools/check_install.py and the pins it reads."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check_install():
    spec = importlib.util.spec_from_file_location("check_install", ROOT / "tools" / "check_install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_environment(check_install):
    result = subprocess.run([sys.executable, ROOT / "tools" / "check_install.py"], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert f"[x] torch: {importlib.metadata.version('torch')}" in lines
    assert any(line.startswith("[x] computing: ") and "threads; bfloat16 is" in line for line in lines)
    missing = [line for line in lines if line.startswith("[ ]")]
    assert result.returncode == (1 if missing else 0)


def test_wrong_and_missing_packages(check_install, capsys):
    assert not check_install.check("numpy", lambda: check_install.installed("numpy", "0.1"))
    assert not check_install.check("nothing", lambda: check_install.installed("no-such-package", "1"))
    assert check_install.check("fine", lambda: "yes")
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("[ ] numpy: ValueError: ") and output[0].endswith("0.1 is wanted")
    assert output[1].startswith("[ ] nothing: PackageNotFoundError")
    assert output[2] == "[x] fine: yes"


def test_versions_agree_with_the_shell_scripts(check_install):
    assert f"\nTORCH={check_install.TORCH}\n" in (ROOT / "tools" / "setup.sh").read_text()
    assert f"\nESPNET={check_install.ESPNET}\n" in (ROOT / "tools" / "install_espnet.sh").read_text()


# Not installed by tools/setup.sh: who asks for them and lacks them is told (tests/train/test_log.py,
# tests/codec/test_classic.py).
ON_REQUEST = {"wandb", "pycodec2"}


def test_setup_py_requires_what_the_package_cannot_start_without():
    """The packages that are imported when a module is imported, whatever is installed beside; espnet/ has its own."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = {word.arg: word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords}
    required = {re.split("[>=;]", item.value)[0] for item in lists["install_requires"].elts}
    names = {"scipy", "safetensors", "tensorboard", "tqdm"}  # of imports inside functions, or of modules of torch
    for path in (ROOT / "audiopalm").rglob("*.py"):
        if path.parent.name != "espnet":
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else (
                    {node.module} if isinstance(node, ast.ImportFrom) and node.module else set())
    providers = importlib.metadata.packages_distributions()
    found = {provider.lower().replace("_", "-") for name in names
             for provider in providers.get(name.split(".")[0], [name])[:1]
             if name.split(".")[0] not in sys.stdlib_module_names | {"audiopalm"}}
    assert found - required == set()
    assert {"tqdm", "tensorboard"} <= required


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
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"audiopalm"} - ON_REQUEST:
                found = {provider.lower().replace("_", "-") for provider in providers.get(name, [])}
                if not found & pinned:
                    unknown.add(f"{path.relative_to(ROOT)}: {name}")
    assert sorted(unknown) == []
