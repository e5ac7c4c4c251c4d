"""--init_pack: a recipe of new languages goes on training a packed model, through every stage, on a miniature."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packed import make_pack
from prestarted import prestarted
from tiny import OVERRIDES, shrink

from audiopalm.core.files import read_json, sha256
from audiopalm.inference import AudioPaLM
from audiopalm.lm.trained import read_trained
from audiopalm.vocabulary.joint import load_vocabulary

REPOSITORY = Path(__file__).resolve().parents[2]
TEXTS = {"cs": "tři čtvrtě na osm číslo", "nl": "het is zes uur nummer"}
LM = {**OVERRIDES["lm"], "mixture": [{"task": "asr"}, {"task": "ast"}]}


def make_folder(downloads: Path) -> None:
    """downloads/<set>/<language>/<name>.wav with a text, and its translation into English."""
    for name in ("train", "dev", "test"):
        for code, text in TEXTS.items():
            folder = downloads / name / code
            folder.mkdir(parents=True)
            for index in range(3):
                samples = 0.1 * np.sin(np.arange(24000) * 0.05 * (index + 1))
                soundfile.write(folder / f"anna-{code}{index}.wav", samples, 16000)
                (folder / f"anna-{code}{index}.txt").write_text(f"{text} {index}")
                (folder / f"anna-{code}{index}.en.txt").write_text("one two three")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A new recipe after all its stages."""
    root = tmp_path_factory.mktemp("finetune")
    for name in ("utils", "tools", "conf", "egs/TEMPLATE", "egs/mini/pretrained"):
        shutil.copytree(REPOSITORY / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    # No copy, so that the kernels that numba has compiled for it are found, which takes 10 s.
    (root / "audiopalm").symlink_to(REPOSITORY / "audiopalm")
    make_pack(root / "pack")
    environment = prestarted()
    subprocess.run([root / "egs/TEMPLATE/new_recipe.sh", "fish"], check=True, env=environment)
    recipe = root / "egs/fish"
    make_folder(recipe / "downloads")
    shrink(root / "conf/small", lm=LM)
    (recipe / "conf").mkdir()
    (recipe / "conf/decode.yaml").write_text("tasks: [{task: asr}, {task: ast}]\ndecoding: {text_tokens: 8}\n")
    result = subprocess.run([recipe / "run.sh", "--langs", "cs nl", "--init_pack", "../../pack"], env=environment,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    return recipe


def test_units_and_codec_are_those_of_the_pack(recipe):
    for name in ("units", "codec"):
        model = f"{name}/model.safetensors"
        assert sha256(recipe / "exp" / model) == sha256(recipe / "../../pack" / model)
    assert read_json(recipe / "exp/units/report.json")["recordings"] > 0


def test_languages_and_pieces_are_added_behind_the_known_ones(recipe):
    known, old = load_vocabulary(recipe / "../../pack/vocabulary")
    vocabulary, new = load_vocabulary(recipe / "exp/vocabulary")
    assert vocabulary.languages == ["en", "es", "cs", "nl"] and vocabulary.text_size > known.text_size
    assert new.encode("[ASR Spanish]") == old.encode("[ASR Spanish]")
    assert len(new.encode(TEXTS["cs"])) < len(old.encode(TEXTS["cs"]))
    sizes = [json.loads((recipe / f"exp/{name}/config.json").read_text())["model"]["vocabulary_size"]
             for name in ("textlm", "lm")]
    assert sizes == [vocabulary.size] * 2
    assert {(one.task, one.source) for one in read_trained(recipe / "exp/lm")} == {
        (task, code) for task in ("asr", "ast") for code in TEXTS}


def test_the_scores_and_the_new_pack(recipe):
    rows = read_json(recipe / "exp/results.json")
    assert {(row["set"], row["task"], row["source"]) for row in rows if row["task"] != "units"} == {
        (name, task, code) for name in ("dev", "test") for task in ("asr", "ast") for code in TEXTS}
    model = AudioPaLM.from_pretrained(recipe / "exp/pack")
    answer = model(recipe / "downloads/test/nl/anna-nl0.wav", task="[ASR Dutch]")
    assert answer.text.keys() == {"asr"}
