"""Paired significance: sacreBLEU's p, jiwer's errors drawn by hand, and what is not comparable."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest
from scoring_data import SPANISH, write_decode, write_set

from audiopalm.bin import compare, score
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import write_table

WORDS = "uno dos tres cuatro cinco seis siete ocho nueve diez".split()


def texts(seed, change):
    """40 sentences of five words; `change` is how likely a word is another one."""
    draw, sentences = random.Random(0), {}
    noise = random.Random(seed)
    for number in range(40):
        words = [draw.choice(WORDS) for _ in range(5)]
        sentences[f"ana-es-{number:02d}"] = " ".join(noise.choice(WORDS) if noise.random() < change else word
                                                     for word in words)
    return sentences


@pytest.fixture
def two(tmp_path, monkeypatch):
    """exp/score of two systems, the second with fewer errors."""
    monkeypatch.chdir(write_set(tmp_path))
    reference = texts(0, 0)
    for name in ("text", "text.en"):
        write_table(tmp_path / "dump/raw/test" / name, reference)
    for name, value in (("utt2lang", "es"), ("utt2spk", "ana")):
        write_table(tmp_path / "dump/raw/test" / name, dict.fromkeys(reference, value))
    for name, seed, change in (("a", 1, 0.4), ("b", 2, 0.3)):
        for task, target in (("asr", None), ("ast", "en")):
            folder = write_decode(tmp_path / name, f"{task}_es" + ("_en" if target else ""), task, "es", target,
                                  {task: texts(seed, change)})
        run_score(monkeypatch, name)
    assert folder.exists() and len(SPANISH) == 3
    return tmp_path


def run_score(monkeypatch, name, *options):
    monkeypatch.setattr(sys, "argv", ["score", "--decode_dir", f"{name}/exp/decode", "--data_dir", "dump/raw",
                                      "--output", f"{name}/score", "--results", f"{name}/results.json", "--report",
                                      f"{name}/RESULTS.md", "--judges", "", *options])
    score.main()


def p_values(monkeypatch, capsys, *options):
    monkeypatch.setattr(sys, "argv", ["compare", "a", "b", *options])
    capsys.readouterr()
    compare.main()
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| test")]
    return {line[0].split()[-1]: float(line[4]) for line in lines}


def test_p_of_bleu_is_that_of_sacrebleu(two, monkeypatch, capsys):
    found = p_values(monkeypatch, capsys, "--metrics", "bleu")
    for name in ("a", "b"):
        lines = (two / name / "score/test/ast_es_en/ast.hyp").read_text().splitlines()
        (two / f"{name}.txt").write_text("".join(line.partition(" ")[2] + "\n" for line in lines))
    (two / "ref.txt").write_text("".join(f"{text}\n" for text in texts(0, 0).values()))
    command = ["sacrebleu", "ref.txt", "-i", "a.txt", "b.txt", "-m", "bleu", "--paired-bs", "-f", "json"]
    said = json.loads(subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], cwd=two,
                                     capture_output=True, text=True, check=True).stdout)
    assert found["bleu"] == pytest.approx(said[1]["BLEU"]["p_value"], abs=6e-4) and 0 < found["bleu"] < 0.9


def test_p_of_wer_by_hand(two, monkeypatch, capsys):
    found = p_values(monkeypatch, capsys, "--metrics", "wer")
    reference, systems = list(texts(0, 0).values()), [list(texts(1, 0.4).values()), list(texts(2, 0.3).values())]
    draw, differences = random.Random(3), []
    for _ in range(400):
        names = draw.choices(range(40), k=40)
        wer = [jiwer.wer([reference[i] for i in names], [system[i] for i in names]) for system in systems]
        differences.append(wer[0] - wer[1])
    measured = jiwer.wer(reference, systems[0]) - jiwer.wer(reference, systems[1])
    mean = sum(differences) / len(differences)
    by_hand = sum(abs(value - mean) >= abs(measured) for value in differences) / len(differences)
    assert found["wer"] == pytest.approx(by_hand, abs=0.06) and 0 < found["wer"] < 0.6


def test_a_system_does_not_differ_from_itself(two, monkeypatch, capsys):
    shutil.rmtree(two / "b")
    shutil.copytree(two / "a", two / "b")
    assert set(p_values(monkeypatch, capsys).values()) == {1.0}


def test_other_references_normalisers_and_figures_are_refused(two, monkeypatch, capsys):
    run_score(monkeypatch, "b", "--translations", "none")
    with pytest.raises(AudioPaLMError, match="test ast es-en bleu: different normalisers, basic and none"):
        p_values(monkeypatch, capsys)
    write_table(two / "dump/raw/test/text", texts(0, 0) | {"ana-es-00": "otra cosa"})
    run_score(monkeypatch, "b")
    with pytest.raises(AudioPaLMError, match="test asr es wer: different utterances or references"):
        p_values(monkeypatch, capsys)
    with pytest.raises(AudioPaLMError, match="no figure is in both"):
        p_values(monkeypatch, capsys, "--sets", "dev")
