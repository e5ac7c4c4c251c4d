"""The recipes of public corpora: stages 1 and 2 by their run.sh on miniature downloads, in a copy of the repository
whose path holds a space and a letter outside ASCII."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from miniatures.covost2 import make_covost2
from miniatures.cvss import make_cvss
from miniatures.fleurs import make_fleurs
from miniatures.voxpopuli import make_voxpopuli
from prestarted import prestarted
from waiting import RUN_LIMIT, wait_until

from audiopalm.core import optional
from audiopalm.core.files import read_json
from audiopalm.data.checks import Options, problems
from audiopalm.data.datadir import read_table

REPOSITORY = Path(__file__).resolve().parents[2]


def make_cvss_unpacked(downloads: Path) -> None:
    make_cvss(downloads)
    for archive in downloads.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(downloads / archive.name.removesuffix(".tar.gz"), filter="data")
        archive.unlink()


MAKERS = {"covost2": make_covost2, "cvss": make_cvss, "fleurs": make_fleurs, "voxpopuli": make_voxpopuli}
UNPACKED = {"covost2": partial(make_covost2, unpacked=True), "cvss": make_cvss_unpacked,
            "fleurs": partial(make_fleurs, layout="folder"), "voxpopuli": partial(make_voxpopuli, layout="finished")}
LANGUAGES = {"covost2": "fr", "cvss": "fr", "fleurs": "fr_fr en_us", "voxpopuli": "en"}


class Recipe:
    """A command that runs the recipe; `.path` is its folder, in a repository of its own."""

    environment = {**os.environ, "AUDIOPALM_PYTHON": sys.executable, "LC_ALL": "C"}

    def __init__(self, root: Path, corpus: str):
        for name in ("audiopalm", "utils", "tools", "conf", "egs/TEMPLATE", f"egs/{corpus}"):
            made = () if name == "audiopalm" else ("data", "dump", "exp")  # by runs of the recipe
            shutil.copytree(REPOSITORY / name, root / name, symlinks=True,
                            ignore=shutil.ignore_patterns("__pycache__", *made))
        self.corpus, self.path = corpus, root / "egs" / corpus
        self.command = [str(self.path / "run.sh"), "--stop_stage", "2", "--downloads", "../../downloads",
                        "--langs", LANGUAGES[corpus], *(["--train_set", "train"] if corpus == "fleurs" else []),
                        "--data_args", "--max_drop 0.9", "--audio_args", "--max_drop 0.9"]

    def __call__(self):
        return subprocess.run(self.command, env=prestarted(LC_ALL="C"), text=True, capture_output=True,
                              timeout=RUN_LIMIT)

    def kill_when(self, pattern: str) -> None:
        """Start it and kill everything that it has started when a file of this name exists, or a little later."""
        process = subprocess.Popen(self.command, env=self.environment, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_until(lambda: list(self.path.glob(pattern)), process)
        with suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()

    def call_again(self):
        """As a user after a kill: a run that is refused while killed processes are still ending is started again."""
        for _ in range(20):
            result = self()
            if "is being written by" not in result.stdout:
                break
        return result

    def files(self):
        """Everything that stages 1 and 2 wrote, but for logs."""
        return {str(path.relative_to(self.path)): path.read_bytes() for folder in ("data", "dump")
                for path in sorted((self.path / folder).rglob("*")) if path.is_file()}


@pytest.fixture(scope="module", params=MAKERS)
def recipe(request, tmp_path_factory):
    """A recipe that has been run on archives."""
    recipe = Recipe(tmp_path_factory.mktemp("archives") / "mon dépôt", request.param)
    MAKERS[request.param](recipe.path.parents[1] / "downloads")
    result = recipe()
    assert result.returncode == 0, result.stderr + result.stdout
    return recipe


def check_sets(recipe: Recipe) -> None:
    for name in ("train", "dev", "test"):
        raw = recipe.path / "dump" / "raw" / name
        assert list(read_table(raw / "text")) == list(read_table(raw / "wav.scp")) == list(read_table(raw / "utt2dur"))
        report = read_json(raw / "format.json")
        assert report["utterances"] == len(read_table(raw / "text")) > 0 and report["seconds"]["min"] > 0.7
        for directory in (recipe.path / "data" / name, raw):
            assert problems(directory, Options(printable=False)) == []
            if not (directory / "segments").exists():  # pieces joined are beyond ESPnet's readers
                check_with_espnet(recipe.path, directory, raw, spoken="wav.scp.en" if recipe.corpus == "cvss" else None)


def test_stages_1_and_2_and_nothing_changes_when_run_again(recipe):
    check_sets(recipe)
    before = recipe.files()
    assert recipe().returncode == 0
    assert recipe.files() == before


@pytest.mark.parametrize("corpus", UNPACKED)
def test_stages_1_and_2_on_what_was_unpacked_by_hand(tmp_path, corpus):
    recipe = Recipe(tmp_path / "mon dépôt", corpus)
    UNPACKED[corpus](recipe.path.parents[1] / "downloads")
    result = recipe()
    assert result.returncode == 0, result.stderr + result.stdout
    check_sets(recipe)


def check_with_espnet(here: Path, directory: Path, raw: Path, spoken: str | None) -> None:
    """ESPnet's own reader opens the set, and reads of it what stage 2 found sound; paths are relative to the recipe, as
    in ESPnet's recipes."""
    optional.install()
    from espnet2.train.dataset import ESPnetDataset

    kind = "kaldi_ark" if directory == raw else "sound"  # stage 2 of these recipes writes archives
    files = [(str(directory / "wav.scp"), "speech", kind), (str(directory / "text"), "text", "text")]
    if spoken:
        files.append((str(directory / spoken), "target_speech", kind))
    before = os.getcwd()
    os.chdir(here)
    try:
        data = ESPnetDataset(files, preprocess=lambda key, values: {
            **values, "text": np.array([ord(letter) for letter in values["text"]])})
        for key in read_table(raw / "text"):
            _, example = data[key]
            assert example["speech"].ndim == 1 and len(example["speech"]) > 8000 and len(example["text"]) > 0
    finally:
        os.chdir(before)


def test_killed_and_started_again_gives_the_same_files(recipe):
    expected = recipe.files()
    for moment in ("dump/unpacked/*", "data/dev/*", "dump/audio/*"):
        for folder in ("data", "dump"):
            shutil.rmtree(recipe.path / folder)
        recipe.kill_when(moment)
        result = recipe.call_again()
        assert result.returncode == 0, result.stderr
        assert {name: content for name, content in recipe.files().items() if ".partial" not in name} == expected, moment
