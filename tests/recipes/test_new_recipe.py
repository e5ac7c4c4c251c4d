"""egs/TEMPLATE/new_recipe.sh: the recipe that it makes goes from recordings with texts to a score."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from prestarted import prestarted
from tiny import shrink

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.corpora.folder import prepare
from audiopalm.data.checks import Options, problems
from audiopalm.data.datadir import read_table

REPOSITORY = Path(__file__).resolve().parents[2]


def make_folder(root: Path) -> None:
    for name in ("train", "dev", "test"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            stem = root / name / f"anna-{number}"
            soundfile.write(f"{stem}.wav", np.random.default_rng(number).normal(0, 0.1, 44100), 44100)
            stem.with_suffix(".txt").write_text(f"\ufefffrase número {number}\n")
    (root / "train/anna-0.en.txt").write_text("sentence number zero")
    shutil.copy(root / "train/anna-1.wav", root / "train/anna-0.en.wav")


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "a copy"
    for name in ("utils", "tools", "conf", "egs/TEMPLATE", "egs/mini/pretrained"):
        shutil.copytree(REPOSITORY / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    # No copy, so that the kernels that numba has compiled for it are found, which takes 10 s.
    (root / "audiopalm").symlink_to(REPOSITORY / "audiopalm")
    return root


def call(*command):
    return subprocess.run([str(part) for part in command], text=True, capture_output=True,
                          env=prestarted())


def test_a_new_recipe_passes_stages_1_and_2(repository):
    script = repository / "egs/TEMPLATE/new_recipe.sh"
    made = call(script, "anna")
    assert made.returncode == 0 and "run.sh --langs en --stop_stage 2" in made.stdout, made.stderr
    files = {str(path.relative_to(repository / "egs/anna")) for path in (repository / "egs/anna").rglob("*")}
    assert files == {"README.md", "cmd.sh", "db.sh", "local", "local/data.sh", "path.sh", "run.sh"}
    make_folder(repository / "egs/anna/downloads")
    result = call(repository / "egs/anna/run.sh", "--langs", "es", "--stop_stage", "2")
    assert result.returncode == 0, result.stderr
    for name in ("train", "dev", "test"):
        raw = repository / "egs/anna/dump/raw" / name
        assert problems(raw, Options()) == [] and read_table(raw / "utt2spk") == {f"anna-{i}": "anna" for i in range(3)}
        assert read_table(raw / "text")["anna-2"] == "frase número 2"
    raw = repository / "egs/anna/dump/raw/train"
    assert read_table(raw / "text.en") == {"anna-0": "sentence number zero"}
    assert read_table(raw / "wav.scp.en").keys() == {"anna-0"}
    again = call(script, "anna")
    assert again.returncode == 1 and "exists already" in again.stderr
    assert "no name for a recipe" in call(script, "../anna").stderr


def test_a_new_recipe_goes_on_to_a_score(repository):
    assert call(repository / "egs/TEMPLATE/new_recipe.sh", "anna").returncode == 0
    recipe = repository / "egs/anna"
    make_folder(recipe / "downloads")
    shrink(repository / "conf/small")
    (recipe / "conf").mkdir()
    (recipe / "conf/decode.yaml").write_text("tasks: [{task: asr}]\ndecoding: {text_tokens: 8}\n")
    result = call(recipe / "run.sh", "--langs", "es", "--nj", "1")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    assert "reads   conf/decode.yaml (of the recipe)\n" in result.stdout
    assert "reads   ../../conf/small/lm.yaml (shared by recipes)\n" in result.stdout
    rows = read_json(recipe / "exp/results.json")
    assert {(row["recipe"], row["set"], row["task"], row["source"]) for row in rows} == {
        ("anna", "dev", "asr", "es"), ("anna", "test", "asr", "es"), ("anna", "units", "units", None)}
    assert {row["n"] for row in rows if row["task"] == "asr"} == {3} and (recipe / "exp/pack.zip").is_file()


OWN_DATA = """#!/usr/bin/env bash
# Kaldi data directories by the commands of a shell, with tabs and an order of their own.
set -euo pipefail
for set in train dev test; do
    mkdir -p data/$set
    for file in downloads/$set/*.wav; do
        case $file in *.en.wav) continue ;; esac
        name=$(basename "$file" .wav)
        printf '%s\t%s\n' "$name" "$file" >> data/$set/wav.scp
        printf '%s\t%s\n' "$name" "$(tail -c +4 "${file%.wav}.txt")" >> data/$set/text
        echo "$name anna" >> data/$set/utt2spk
        echo "$name es" >> data/$set/utt2lang
    done
    utt2spk_to_spk2utt.pl data/$set/utt2spk > data/$set/spk2utt
done
"""


def test_any_commands_may_stand_in_local_data_sh(repository):
    assert call(repository / "egs/TEMPLATE/new_recipe.sh", "anna").returncode == 0
    recipe = repository / "egs/anna"
    make_folder(recipe / "downloads")
    (recipe / "local/data.sh").write_text(OWN_DATA)
    result = call(recipe / "run.sh", "--stop_stage", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert read_table(recipe / "dump/raw/train/text")["anna-2"] == "frase número 2"
    (recipe / "local/data.sh").write_text(OWN_DATA.replace("mkdir", "rm -rf data/$set; mkdir").replace("+4", "+99"))
    result = call(recipe / "run.sh", "--stop_stage", "2")
    assert result.returncode == 1 and "text: anna-0 has no value (3 such lines)" in result.stdout


def test_recordings_without_text_and_texts_without_recording_are_counted(tmp_path):
    make_folder(tmp_path / "in")
    (tmp_path / "in/train/anna-0.txt").unlink()
    (tmp_path / "in/train/anna-1.txt").write_text(" \n")
    (tmp_path / "in/train/anna-9.txt").write_text("alone")
    prepare(ReaderOptions(tmp_path / "in", tmp_path / "out", tmp_path, ["es"], max_drop=0.9))
    report = read_json(tmp_path / "out/train/report.json")
    assert report["kept"] == 1 and report["dropped"] == {"recording without text": 1, "empty text": 1,
                                                         "text without recording": 1}
    with pytest.raises(AudioPaLMError, match="more than --max_drop 0.05"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "strict", tmp_path, ["es"]))


def test_several_languages_lie_in_a_folder_for_each(tmp_path):
    for code in ("cs", "nl"):
        make_folder(tmp_path / "one")
        for name in ("train", "dev", "test"):
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            shutil.move(tmp_path / "one" / name, tmp_path / "in" / name / code)
    prepare(ReaderOptions(tmp_path / "in", tmp_path / "out", tmp_path))
    train = tmp_path / "out/train"
    assert read_table(train / "utt2lang") == {
        f"anna-{index}-{code}": code for index in range(3) for code in ("cs", "nl")}
    assert set(read_table(train / "utt2spk").values()) == {"anna"} and problems(train, Options()) == []
    assert read_table(train / "wav.scp.en").keys() == {"anna-0-cs", "anna-0-nl"}
    prepare(ReaderOptions(tmp_path / "in", tmp_path / "dutch", tmp_path, ["nl"]))
    assert set(read_table(tmp_path / "dutch/train/utt2lang").values()) == {"nl"}
    shutil.rmtree(tmp_path / "in/dev/cs")
    with pytest.raises(AudioPaLMError, match="dev/cs does not exist; each language needs a folder in"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "less", tmp_path))
    shutil.copy(tmp_path / "in/dev/nl/anna-0.wav", tmp_path / "in/train")
    with pytest.raises(AudioPaLMError, match=r"train/anna-0.wav lies beside folders \(cs nl\)"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "less", tmp_path))
    (tmp_path / "in/dev/dutch").mkdir()
    with pytest.raises(AudioPaLMError, match="unknown language 'dutch'"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "less", tmp_path))


def test_wrong_folders_and_languages_are_refused(tmp_path):
    make_folder(tmp_path / "in")
    with pytest.raises(AudioPaLMError, match="one language"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "out", tmp_path))
    with pytest.raises(AudioPaLMError, match="unknown language 'xx'"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "out", tmp_path, ["xx"]))
    shutil.rmtree(tmp_path / "in/dev")
    with pytest.raises(AudioPaLMError, match="dev does not exist"):
        prepare(ReaderOptions(tmp_path / "in", tmp_path / "out", tmp_path, ["es"]))
