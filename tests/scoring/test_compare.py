"""Paired significance: p is that of sacreBLEU, or of resampled errors of jiwer. Unlike scores are refused."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest
from commands import call
from scoring_data import write_decode, write_set

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import write_table

WORDS = "uno dos tres cuatro cinco seis siete ocho nueve diez".split()


def texts(seed, change):
    """40 sentences of five words, each of which is replaced by a random word with probability `change`."""
    draw, sentences = random.Random(0), {}
    noise = random.Random(seed)
    for number in range(40):
        words = [draw.choice(WORDS) for _ in range(5)]
        sentences[f"ana-es-{number:02d}"] = " ".join(noise.choice(WORDS) if noise.random() < change else word
                                                     for word in words)
    return sentences


@pytest.fixture
def systems(tmp_path, monkeypatch):
    """The scores of two systems, `a` and `b`. The second has fewer errors."""
    monkeypatch.chdir(write_set(tmp_path))
    reference = texts(0, 0)
    for name in ("text", "text.en"):
        write_table(tmp_path / "dump/raw/test" / name, reference)
    for name, value in (("utt2lang", "es"), ("utt2spk", "ana")):
        write_table(tmp_path / "dump/raw/test" / name, dict.fromkeys(reference, value))
    for name, seed, change in (("a", 1, 0.4), ("b", 2, 0.3)):
        for task, target in (("asr", None), ("ast", "en")):
            write_decode(tmp_path / name, f"{task}_es" + ("_en" if target else ""), task, "es", target,
                         {task: texts(seed, change)})
        score_system(name)
    return tmp_path


def score_system(name, *options):
    call("score", "--decode_dir", f"{name}/exp/decode", "--data_dir", "dump/raw", "--output", f"{name}/score",
         "--results", f"{name}/results.json", "--report", f"{name}/RESULTS.md", "--judges", "", *options)


def p_values(capsys, *options):
    capsys.readouterr()
    call("compare", "a", "b", *options)
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| test")]
    return {line[0].split()[-1]: float(line[4]) for line in lines}


def test_p_of_bleu_is_that_of_sacrebleu(systems, capsys):
    p = p_values(capsys, "--metrics", "bleu")
    for name in ("a", "b"):
        lines = (systems / name / "score/test/ast_es_en/ast.hyp").read_text().splitlines()
        (systems / f"{name}.txt").write_text("".join(line.partition(" ")[2] + "\n" for line in lines))
    (systems / "ref.txt").write_text("".join(f"{text}\n" for text in texts(0, 0).values()))
    command = ["sacrebleu", "ref.txt", "-i", "a.txt", "b.txt", "-m", "bleu", "--paired-bs", "-f", "json"]
    printed = json.loads(subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], cwd=systems,
                                        capture_output=True, text=True, check=True).stdout)
    assert p["bleu"] == pytest.approx(printed[1]["BLEU"]["p_value"], abs=6e-4) and 0 < p["bleu"] < 0.9


def test_p_of_wer_is_that_of_resampled_utterances(systems, capsys):
    p = p_values(capsys, "--metrics", "wer")
    reference, hypotheses = list(texts(0, 0).values()), [list(texts(1, 0.4).values()), list(texts(2, 0.3).values())]
    draw, differences = random.Random(3), []
    for _ in range(400):
        names = draw.choices(range(40), k=40)
        wer = [jiwer.wer([reference[i] for i in names], [texts[i] for i in names]) for texts in hypotheses]
        differences.append(wer[0] - wer[1])
    measured = jiwer.wer(reference, hypotheses[0]) - jiwer.wer(reference, hypotheses[1])
    mean = sum(differences) / len(differences)
    by_hand = sum(abs(value - mean) >= abs(measured) for value in differences) / len(differences)
    assert p["wer"] == pytest.approx(by_hand, abs=0.06) and 0 < p["wer"] < 0.6


def test_a_system_does_not_differ_from_itself(systems, capsys):
    shutil.rmtree(systems / "b")
    shutil.copytree(systems / "a", systems / "b")
    assert set(p_values(capsys).values()) == {1.0}


def test_scores_with_other_references_normalisers_or_sets_are_refused(systems, capsys):
    score_system("b", "--translations", "none")
    with pytest.raises(AudioPaLMError, match="test ast es-en bleu: different normalisers, basic and none"):
        p_values(capsys)
    write_table(systems / "dump/raw/test/text", texts(0, 0) | {"ana-es-00": "otra cosa"})
    score_system("b")
    with pytest.raises(AudioPaLMError, match="test asr es wer: different utterances or references"):
        p_values(capsys)
    with pytest.raises(AudioPaLMError, match="no figure is in both"):
        p_values(capsys, "--sets", "dev")
