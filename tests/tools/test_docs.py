"""The site of docs/: its pages, the hook that links them, the script that builds it. mkdocs itself is not needed."""

import importlib.util
import logging
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hook():
    spec = importlib.util.spec_from_file_location("docs_links", ROOT / "tools/docs_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def convert(hook):
    """A page with this Markdown in a site whose only other page is finetune.md."""
    files = SimpleNamespace(documentation_pages=lambda: [SimpleNamespace(src_uri="finetune.md")])
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    return lambda text: hook.on_page_markdown(text, page=page, config={"docs_dir": str(ROOT / "docs")}, files=files)


def test_every_page_is_once_in_the_navigation():
    pages = re.findall(r"[\w/]+\.md", yaml.dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_a_page_in_backticks_is_linked_but_not_in_code(convert):
    assert convert("See `docs/finetune.md`.") == "See [`docs/finetune.md`](finetune.md)."
    assert convert("```\n`docs/finetune.md`\n```\n") == "```\n`docs/finetune.md`\n```\n"


def test_a_link_out_of_the_site_becomes_its_path(convert):
    assert convert("[the list](../conf/README.md)") == "the list (`conf/README.md`)"


@pytest.mark.parametrize("text", ["`docs/absent.md`", "[x](../absent.md)"])
def test_a_file_that_does_not_exist_is_a_warning(convert, caplog, text):
    with caplog.at_level(logging.WARNING):
        convert(text)
    assert "absent.md does not exist" in caplog.text


@pytest.mark.parametrize(("page", "passes"), [
    ('<a href="https://example.org">text</a><script src="assets/a.js"></script>', True),
    ('<script src="https://example.org/a.js"></script>', False),
    ('<link rel="stylesheet" href="https://example.org/a.css">', False),
    ('<img src="//example.org/a.png">', False),
])
def test_a_site_that_loads_something_from_elsewhere_is_refused(tmp_path, page, passes):
    (tmp_path / "tools").mkdir()
    for name in ("docs.sh", "requirements-docs.txt"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    environment = tmp_path / ".venv-docs"
    (environment / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "tools/requirements-docs.txt", environment / "requirements.txt")
    mkdocs = environment / "bin/mkdocs"
    mkdocs.write_text(f"#!/bin/sh\nmkdir -p site\nprintf '%s\\n' '{page}' > site/index.html\n")
    mkdocs.chmod(0o755)
    result = subprocess.run([tmp_path / "tools/docs.sh"], text=True, capture_output=True)
    assert (result.returncode == 0) == passes, result.stderr
    assert ("loads something from elsewhere: site/index.html" in result.stderr) != passes
