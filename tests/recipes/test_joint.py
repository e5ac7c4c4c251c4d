"""egs/joint from stage 1 to the report on miniatures of all its corpora, and egs/fleurs with its models.

The mixture of speech to speech trains through a real Slurm where it is installed, in two processes on two nodes, and
decodes and speaks in its jobs.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from miniatures.archives import lay_out
from miniatures.covost2 import make_covost2
from miniatures.cvss import make_cvss
from miniatures.fleurs import make_fleurs
from miniatures.sound import mp3, wav
from miniatures.voxpopuli import make_voxpopuli
from prestarted import prestarted
from schedulers import PATH, scheduler
from tiny import OVERRIDES, shrink
from waiting import RUN_LIMIT

from audiopalm.core.config import load_config
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.checks import Options, problems
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.mixture import expand
from audiopalm.lm.training import LMConfig

REPOSITORY = Path(__file__).resolve().parents[2]
DECODE = {"decoding": {"text_tokens": 8}}
SPEAK = {"decoding": {"text_tokens": 8, "audio_tokens": 12}}
HEADER = "client_id\tpath\tsentence\n"


def make_downloads(downloads: Path) -> None:
    """All corpora in one folder. Of the later release of Common Voice CoVoST 2 has clips 20 and 30 for dev and test;
    Ukrainian is in no other corpus."""
    make_covost2(downloads)
    make_cvss(downloads)
    make_voxpopuli(downloads / "voxpopuli", language="fr")
    for language in ("fr", "uk"):
        sets = {"train": (1, 20, 30, 61), "dev": (2, 20, 62), "test": (63,)}
        tables = {f"{name}.tsv": (HEADER + "".join(
            f"{number:064x}\tcommon_voice_{language}_{number}.mp3\tPhrase {number}.\n" for number in numbers)).encode()
            for name, numbers in sets.items()}
        clips = {f"clips/common_voice_{language}_{number}.mp3": mp3(seed=number)
                 for numbers in sets.values() for number in numbers}
        lay_out(downloads / "common_voice" / language, tables | clips)
    lay_out(downloads / "texts", {"news.fr-en.tsv": b"Un.\tOne.\nDeux.\tTwo.\n\tEmpty.\n",
                                  "ted.fr-en.fr": b"Trois.\nQuatre.\n",
                                  "ted.fr-en.en": b"Three.\nFour.\n", "tone.wav": wav(16000, "PCM_16")})


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for name in ("utils", "tools", "conf", "egs/TEMPLATE", "egs/mini/pretrained", "egs/joint",
                 "egs/fleurs"):
        shutil.copytree(REPOSITORY / name, root / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "downloads"))
    # No copy, so that the kernels that numba has compiled for it are found, which takes 10 s.
    (root / "audiopalm").symlink_to(REPOSITORY / "audiopalm")
    shrink(root / "conf/full")
    shrink(root / "egs/joint/conf", decode=DECODE, decode_s2st=SPEAK, lm_s2st=OVERRIDES["lm"])
    make_downloads(root / "egs/joint/downloads")
    make_fleurs(root / "egs/fleurs/downloads")
    return root


def run(recipe: Path, *arguments: str, **variables: str) -> str:
    """What it showed."""
    result = subprocess.run([recipe / "run.sh", "--audio_args", "--max_drop 0.9", "--nj", "1", *arguments], text=True,
                            capture_output=True, timeout=RUN_LIMIT, env=prestarted(**variables))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def prepared(repository) -> Path:
    """The recipe after stages 1 and 2 of the mixture of speech to speech, with all there is."""
    joint = repository / "egs/joint"
    run(joint, "--mixture", "s2st", "--langs", "fr uk", "--data_args", "--max_drop 0.9 --targets de", "--mt_text",
        "downloads/texts", "--synthesize_mt", """sh -c 'cp downloads/texts/tone.wav "$1"' {text} {out}""",
        "--stop_stage", "2")
    return joint


@contextmanager
def own_slurm(repository: Path) -> Iterator[dict[str, str] | None]:
    """What the clients of a Slurm of two nodes need, to which the recipe's cmd.sh sends trainings and inference; None
    where Slurm is not installed."""
    if not all(shutil.which(name, path=PATH) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        yield None
        return
    commands = repository / "egs/joint/cmd.sh"
    before = commands.read_text()
    commands.write_text("export train_cmd=run.pl cuda_cmd=slurm.pl decode_cmd=slurm.pl\n")
    try:
        with scheduler("start_slurm.sh", "2") as folder:
            yield {"SLURM_CONF": f"{folder}/slurm.conf"}
    finally:
        commands.write_text(before)


@pytest.fixture(scope="module")
def reported(repository, prepared) -> tuple[str, bool]:
    """What stages 3 to 13 of the same mixture showed, and whether they ran through Slurm."""
    with own_slurm(repository) as slurm:
        shared = [word for name in ("units", "textlm", "lm", "acoustic")
                  for word in (f"--{name}_args", "training.micro_batches=2")] if slurm else []
        shown = run(prepared, *shared, "--mixture", "s2st", "--langs", "fr uk", "--mt_text", "downloads/texts",
                    "--test_sets", "cvss_test", "--train_codec", "false", "--pretrained", "../mini/pretrained/pack",
                    "--stage", "3", "--stop_stage", "13", "--num_nodes", "2" if slurm else "1", OMP_NUM_THREADS="1",
                    **(slurm or {}))
    return shown, bool(slurm)


def corpora(directory: Path) -> dict[str, set[str]]:
    """{corpus: ends of the ids of its utterances}"""
    found: dict[str, set[str]] = {}
    for name in read_table(directory / "text"):
        found.setdefault(name.partition("-")[0], set()).add(name.rpartition("-")[2])
    return found


def test_the_mixture_of_speech_to_speech(prepared, tmp_path):
    """The sets of stages 1 and 2, and what each entry of the mixture draws from."""
    data, raw = prepared / "data", prepared / "dump/raw"
    for directory in (data / "train_s2st", raw / "train_s2st", raw / "dev_s2st", raw / "voxpopuli_test"):
        assert problems(directory, Options(printable=False)) == []
    train, dev = (corpora(data / f"{name}_s2st") for name in ("train", "dev"))
    assert train.keys() == dev.keys() == {"common_voice", "covost2", "cvss", "spoken_mt", "voxpopuli"}
    clips = {f"common_voice_{language}_{number}" for language in ("fr", "uk") for number in (1, 20, 30, 61)}
    assert train["common_voice"] == clips - {"common_voice_fr_20", "common_voice_fr_30"}
    assert "common_voice_fr_2" not in dev["common_voice"] and "common_voice_fr_20" in dev["common_voice"]
    assert read_json(data / "train_s2st/languages.json") == {"translated": ["fr"], "transcribed_only": ["uk"]}
    # A clip is there once, whichever corpora have it: CoVoST 2's and CVSS's are the same file.
    audio = {name.partition("-")[0]: path for name, path in read_table(raw / "train_s2st/wav.scp").items()
             if name.endswith("common_voice_fr_1")}
    assert audio["covost2"] == audio["cvss"] != audio["common_voice"]

    tokens = tmp_path / "tokens"
    for suffix in ("", ".de", ".en"):
        units = {name: [1, 2] for name in read_table(raw / f"train_s2st/wav.scp{suffix}")}
        write_table(tokens / f"units{suffix}.scp", write_ark(tokens / f"units{suffix}.ark", units))
    write_json(tokens / "meta.json", {"units_rate": 25, "units_size": 3, "units_sha256": "none"})
    examples = ExampleSet(raw / "train_s2st", tokens, text_dir=data / "mt_text/train")
    mixture = load_config(LMConfig, REPOSITORY / "egs/joint/conf/lm_s2st.yaml").mixture
    drawn = {(cell.task.name, cell.target, examples.id(row).partition("-")[0]) for cell in expand(mixture, examples)
             for row in cell.rows}
    assert {found for found in drawn if "s2st" in found[0]} == {
        ("s2st", "de", "voxpopuli"), ("s2st", "en", "cvss"), ("s2st", "en", "spoken_mt"),
        ("asr+ast+s2st", "en", "cvss"), ("asr+ast+s2st", "en", "spoken_mt")}
    assert {found[2] for found in drawn if found[0] == "asr"} == {"common_voice", "covost2", "voxpopuli"}
    assert {found[2] for found in drawn if found[0] == "mt"} == {"covost2", "mt"}


def test_speech_to_speech_up_to_the_report(prepared, reported):
    joint, (shown, through_slurm) = prepared, reported
    if through_slurm:
        # Trainings of stages 3, 7, 8 and 9.
        assert shown.count("submitted by slurm.pl") == 4 and shown.count(" in 2 processes, ") == 4
        for stage, name in ((5, "encode_shards"), (10, "decode_shards"), (11, "synthesize_shards")):
            script, = (joint / f"exp/s2st/log/stage{stage}/q").glob("*.sh")
            assert f"audiopalm.bin.{name}" in script.read_text()
    speech = {path.suffix for path in joint.glob("exp/s2st/decode/*/*/wav/*")}
    assert speech == {".ark", ".json"}
    assert {(row["recipe"], row["set"], row["task"]) for row in read_json(joint / "exp/s2st/results.json")} == {
        ("joint_s2st", "cvss_test", "s2st"), ("joint_s2st", "cvss_test", "asr+ast+s2st"),
        ("joint_s2st", "dev_s2st", "s2st"), ("joint_s2st", "units", "units")}
    assert "ASR-BLEU" in (joint / "exp/s2st/report/index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("reported")
def test_all_stages_beside_it_and_the_models_on_fleurs(repository):
    """The other mixture, from stage 1 to the report, on the units of the first; else nothing of that is touched."""
    joint, fleurs = repository / "egs/joint", repository / "egs/fleurs"
    before = (joint / "data/train_s2st/text").read_bytes()
    run(joint, "--langs", "fr uk", "--data_args", "--max_drop 0.9", "--test_sets", "", "--stop_stage", "13",
        "--skip_stages", "3 9 11 14", "--units_exp", "exp/s2st/units")
    assert corpora(joint / "dump/raw/train_ast").keys() == {"common_voice", "covost2", "voxpopuli"}
    assert (joint / "data/train_s2st/text").read_bytes() == before
    usage = (joint / "exp/ast/log/usage.tsv").read_text()
    assert usage.count("--text_dir data/mt_text/train") == 2  # stages 7 and 8
    rows = read_json(joint / "exp/ast/results.json")
    assert {row["recipe"] for row in rows} == {"joint_ast"}
    assert {(row["set"], row["task"]) for row in rows} == {("dev_ast", "asr+ast"), ("units", "units")}
    assert (joint / "exp/ast/report/index.html").is_file()

    run(fleurs, "--models", "../joint/exp/ast", "--units_exp", "../joint/exp/s2st/units",
        "--langs", "fr_fr en_us", "--data_args", "--max_drop 0.9",
        "--train_set", "test", "--valid_set", "test", "--test_sets", "", "--stop_stage", "10")
    decoded = {path.parent.name for path in fleurs.glob("exp/decode/test/*/meta.json")}
    assert decoded == {"ast_fr_en", "asr_fr", "asr_en"}


@pytest.mark.parametrize("arguments, message", [
    (["--mixture", "tts"], "--mixture takes ast or s2st, not 'tts'"), (["--size", "2B"], "not '2B'"),
    (["--langs", "et"], "common_voice has none of --langs et"),
    (["--corpora", "covost"], "unknown corpus 'covost'"),
    (["--corpora", "covost2 spoken_mt", "--langs", "fr"], "run audiopalm.stages.speak_texts first")])
def test_what_is_wrong_is_said(repository, arguments, message):
    result = subprocess.run([repository / "egs/joint/run.sh", "--stop_stage", "1", "--datadir", "other", *arguments],
                            text=True, capture_output=True, env=prestarted())
    assert result.returncode == 1 and message in result.stdout + result.stderr, result.stdout + result.stderr
