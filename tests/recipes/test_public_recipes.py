"""The recipes of public corpora: stages 1 and 2 by their run.sh on miniature downloads, in a copy of the repository
whose path holds a space and a letter outside ASCII."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from miniatures import make_covost2, make_cvss, make_fleurs, make_voxpopuli

from audiopalm.data.checks import Options, problems
from audiopalm.data.datadir import read_table
from audiopalm.data.files import read_json
from audiopalm.espnet import shim

REPOSITORY = Path(__file__).resolve().parents[2]
MAKERS = {"covost2": make_covost2, "cvss": make_cvss, "fleurs": make_fleurs, "voxpopuli": make_voxpopuli}
LANGUAGES = {"covost2": "fr", "cvss": "fr", "fleurs": "fr_fr en_us", "voxpopuli": "en"}


@pytest.fixture(params=MAKERS)
def recipe(request, tmp_path):
    """A command that runs the recipe with further arguments; `.path` is its folder."""
    root = tmp_path / "mon dépôt"
    for name in ("audiopalm", "utils", "tools", "egs/TEMPLATE", f"egs/{request.param}"):
        shutil.copytree(REPOSITORY / name, root / name, symlinks=True, ignore=shutil.ignore_patterns(
            "__pycache__", "data", "dump", "exp") if name != "audiopalm" else shutil.ignore_patterns("__pycache__"))
    MAKERS[request.param](root / "downloads")

    class Recipe:
        corpus, path = request.param, root / "egs" / request.param
        command = [str(path / "run.sh"), "--downloads", "../../downloads", "--langs", LANGUAGES[request.param],
                   "--data_args", "--max_drop 0.9", "--audio_args", "--max_drop 0.9"]
        environment = {**os.environ, "AUDIOPALM_PYTHON": sys.executable, "LC_ALL": "C"}

        def __call__(self):
            return subprocess.run(self.command, env=self.environment, text=True, capture_output=True, timeout=120)

        def files(self):
            """Everything that stages 1 and 2 wrote, but for logs."""
            return {str(path.relative_to(self.path)): path.read_bytes() for folder in ("data", "dump")
                    for path in sorted((self.path / folder).rglob("*")) if path.is_file()}

    return Recipe()


def test_stages_1_and_2_and_nothing_changes_when_run_again(recipe):
    result = recipe()
    assert result.returncode == 0, result.stderr + result.stdout
    for name in ("train", "dev", "test"):
        raw = recipe.path / "dump" / "raw" / name
        assert list(read_table(raw / "text")) == list(read_table(raw / "wav.scp")) == list(read_table(raw / "utt2dur"))
        report = read_json(raw / "format.json")
        assert report["utterances"] == len(read_table(raw / "text")) > 0 and report["seconds"]["min"] > 0.7
        for directory in (recipe.path / "data" / name, raw):
            assert problems(directory, Options()) == []
        check_with_espnet(recipe.path, name, spoken="wav.scp.en" if recipe.corpus == "cvss" else None)
    before = recipe.files()
    assert recipe().returncode == 0
    after = recipe.files()
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name] and not name.endswith("format.json")] == []


def check_with_espnet(directory: Path, name: str, spoken: str | None) -> None:
    """ESPnet's own reader opens the set; paths are relative to the recipe, as in ESPnet's recipes."""
    shim.install()
    from espnet2.train.dataset import ESPnetDataset

    raw = directory / "dump" / "raw" / name
    files = [(str(raw / "wav.scp"), "speech", "sound"), (str(raw / "text"), "text", "text")]
    if spoken:
        files.append((str(raw / spoken), "target_speech", "sound"))
    here = os.getcwd()
    os.chdir(directory)
    try:
        data = ESPnetDataset(files, preprocess=lambda key, values: {
            **values, "text": np.array([ord(letter) for letter in values["text"]])})
        for key in read_table(raw / "text"):
            _, example = data[key]
            assert example["speech"].ndim == 1 and len(example["speech"]) > 8000 and len(example["text"]) > 0
    finally:
        os.chdir(here)


@pytest.mark.parametrize("recipe", ["covost2"], indirect=True)
@pytest.mark.parametrize("moment", ["dump/unpacked/*", "data/dev/*", "dump/audio/*"])
def test_killed_and_started_again_gives_the_same_files(recipe, moment):
    assert recipe().returncode == 0
    expected = recipe.files()
    for folder in ("data", "dump"):
        shutil.rmtree(recipe.path / folder)
    process = subprocess.Popen(recipe.command, env=recipe.environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(recipe.path.glob(moment)):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert recipe().returncode == 0
    found = {name: content for name, content in recipe.files().items() if ".partial" not in name}
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name] and not name.endswith("format.json")] == []
