"""The recipes of public corpora from stage 1 to scores: on miniature downloads, with tiny models and a few steps."""

import shutil
import subprocess
from pathlib import Path

import pytest
from miniatures.covost2 import make_covost2
from miniatures.cvss import make_cvss
from miniatures.fleurs import make_fleurs
from miniatures.voxpopuli import make_voxpopuli
from prestarted import prestarted
from tiny import OVERRIDES, shrink
from waiting import RUN_LIMIT

from audiopalm.core.files import read_json
from audiopalm.data.datadir import read_table

REPOSITORY = Path(__file__).resolve().parents[2]
MAKERS = {"covost2": make_covost2, "cvss": make_cvss, "fleurs": make_fleurs, "voxpopuli": make_voxpopuli}
DECODE = {"decoding": {"text_tokens": 8, "audio_tokens": 12}}
SOUNDSTREAM = {"model": {"hidden_dim": 8, "filters": 2, "levels": 2, "size": 16}, "scale_channels": 16,
               "stft_channels": 2, "batch": {"crops": 2, "crop_seconds": 0.64}, "training": {"steps": 4},
               "adversarial_from": 2}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    recipes = [f"egs/{name}" for name in MAKERS]
    for name in ("utils", "tools", "conf", "egs/TEMPLATE", "egs/mini/pretrained", *recipes):
        shutil.copytree(REPOSITORY / name, root / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "downloads"))
    # No copy, so that the kernels that numba has compiled for it are found, which takes 10 s.
    (root / "audiopalm").symlink_to(REPOSITORY / "audiopalm")
    shrink(root / "conf/full", codec=SOUNDSTREAM)
    return root


def run(repository: Path, corpus: str, *arguments: str) -> Path:
    """The folder of a recipe after its stages."""
    recipe = repository / "egs" / corpus
    MAKERS[corpus](recipe / "downloads")
    result = subprocess.run([recipe / "run.sh", "--audio_args", "--max_drop 0.9", "--nj", "1", *arguments], text=True,
                            capture_output=True, timeout=RUN_LIMIT, env=prestarted())
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    return recipe


def scores(recipe: Path) -> set[tuple]:
    """{(set, task, source, target, metric)} of the model."""
    return {(row["set"], row["task"], row["source"], row["target"], row["metric"])
            for row in read_json(recipe / "exp/results.json") if row["system"] == "model"}


def test_covost2_and_its_models_on_fleurs(repository):
    shrink(repository / "egs/covost2/conf", decode=DECODE)
    covost2 = run(repository, "covost2", "--langs", "fr", "--data_args", "--max_drop 0.9", "--stop_stage", "12")
    assert scores(covost2) >= {("dev", "ast", "fr", "en", "bleu"), ("test", "ast", "fr", "en", "bleu"),
                               ("test", "asr", "fr", None, "wer"), ("test", "asr+ast", "fr", "en", "bleu")}
    assert not (covost2 / "exp/acoustic").exists() and not (covost2 / "dump/tokens/test/codec.scp").exists()

    fleurs = run(repository, "fleurs", "--langs", "fr_fr en_us", "--data_args", "--max_drop 0.9")
    assert scores(fleurs) >= {("test", "ast", "fr", "en", "bleu"), ("test", "asr", "en", None, "wer")}
    assert not (fleurs / "exp/lm").exists() and not (fleurs / "dump/raw/train").exists()


def test_cvss_speaks_and_is_judged(repository):
    shrink(repository / "egs/cvss/conf", decode=DECODE)
    recipe = run(repository, "cvss", "--langs", "fr", "--data_args", "--max_drop 0.9", "--skip_stages", "13")
    assert scores(recipe) >= {("test", task, "fr", "en", "asr_bleu") for task in ("s2st", "asr+ast+s2st")}
    assert len(read_table(recipe / "exp/decode/test/s2st_fr_en/wav.scp")) == 2
    assert (recipe / "exp/pack.zip").is_file()


def test_voxpopuli_with_interpretation(repository):
    """The second command of its README.md, as far as decoding."""
    shrink(repository / "egs/voxpopuli/conf", lm_s2st=OVERRIDES["lm"], decode=DECODE)
    recipe = run(repository, "voxpopuli", "--langs", "en", "--data_args", "--max_drop 0.9 --targets de",
                 "--lm_config", "conf/lm_s2st.yaml", "--stop_stage", "10")
    assert len(read_table(recipe / "exp/decode/test/asr_en/asr")) == 2
    assert len(read_table(recipe / "exp/decode/test/s2st_en_de/units.scp")) == 1
