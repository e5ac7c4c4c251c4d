"""A task is one row: two new ones go from the mixture to scores through the functions of every stage."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from packed import make_pack
from scoring_data import replace_models, write_wav

from audiopalm import tasks
from audiopalm.codec.registry import hash_codes
from audiopalm.core.files import sha256, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.generation.sampling import DecodingConfig
from audiopalm.lm.mixture import Mixture, MixtureEntry, trained_tasks
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import save_model
from audiopalm.report.results_page import markdown
from audiopalm.scoring.results import select
from audiopalm.scoring.score_run import ScoreOptions, score_run
from audiopalm.stages.decode import DecodeConfig, DecodedSet, DecodeEntry, decode_sets
from audiopalm.stages.jobs import Launcher
from audiopalm.stages.synthesize import SpeechOptions, synthesize_set
from audiopalm.vocabulary.joint import load_vocabulary

# A translation that is spoken before it is written, and speech that is transcribed and then spoken again.
ROWS = """
from audiopalm import tasks
for row in (tasks.Task("s2st+ast", "S2ST AST", tasks.AUDIO, (tasks._S2ST, tasks._AST), True),
            tasks.Task("asr+tts", "ASR TTS", tasks.AUDIO, (tasks._ASR, tasks._TTS), False)):
    tasks.TASKS[row.name] = row
"""
SPANISH, ENGLISH = ["ana-es-1", "ana-es-2", "luis-es-1"], ["ana-en-1", "ana-en-2", "luis-en-1"]


@pytest.fixture
def new_rows(tmp_path, monkeypatch):
    """The rows in this process and in the jobs of stage 10, which are processes of their own."""
    before = dict(tasks.TASKS)
    exec(ROWS, {})
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(ROWS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    yield
    for name in tasks.TASKS.keys() - before:
        del tasks.TASKS[name]


def make_set(root: Path, pack: Path) -> tuple[Path, Path]:
    """A data directory with Spanish and English recordings of two speakers, and its tokens."""
    data, tokens, random = root / "raw/test", root / "tokens/test", np.random.default_rng(0)
    utterances = SPANISH + ENGLISH
    write_table(data / "wav.scp", {name: write_wav(root / f"audio/{name}.wav", 200 + 50 * place)
                                   for place, name in enumerate(utterances)})
    write_table(data / "wav.scp.en", {name: write_wav(root / f"audio/{name}.en.wav", 210) for name in SPANISH})
    write_table(data / "text", {name: "uno dos" if "-es-" in name else "one two" for name in utterances})
    write_table(data / "text.en", dict.fromkeys(SPANISH, "one two"))
    write_table(data / "utt2lang", {name: name.split("-")[1] for name in utterances})
    write_table(data / "utt2spk", {name: name.split("-")[0] for name in utterances})
    for name, ids, count in (("units", utterances, 12), ("units.en", SPANISH, 12), ("codec", utterances, 2 * 24)):
        values = {utterance: random.integers(0, 16, count) for utterance in ids}
        write_table(tokens / f"{name}.scp", write_ark(tokens / f"{name}.ark", values))
    hashes = {"units_sha256": sha256(pack / "units" / "model.safetensors"), "codes_sha256": hash_codes(pack / "codec")}
    write_json(tokens / "meta.json", {"units_rate": 25, "units_size": 16, "codec_rate": 50, "codec_levels": 2,
                                      "codec_size": 16, **hashes})
    return data, tokens


def train(pack: Path, lm: Path, data: Path, tokens: Path) -> None:
    """Two steps on a mixture of the new tasks; config.json says what was trained."""
    vocabulary, tokenizer = load_vocabulary(pack / "vocabulary")
    examples = ExampleSet(data, tokens)
    mixture = Mixture([MixtureEntry("s2st+ast", sources=["es"], targets=["en"]), MixtureEntry("asr+tts")], examples,
                      SequenceBuilder(vocabulary, tokenizer), 256, 4, 0)
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocabulary.size, dim=32, layers=1, hidden_dim=32))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for batch, _ in zip(mixture.batches(), range(2), strict=False):
        loss, outputs = model(batch.ids, batch.segments, batch.positions, batch.targets)
        (loss / outputs).backward()
        optimizer.step()
        optimizer.zero_grad()
    # A logit of 0 is never the largest, so the answers reach their limits and hold something to speak.
    model.embedding.weight.data[[vocabulary.eos, vocabulary.newline]] = 0
    save_model(lm, model.config, model.state_dict(), vocabulary.layout_hash, 0, trained_tasks(mixture.cells))


@pytest.mark.usefixtures("prestarted_jobs")
def test_new_rows_go_from_the_mixture_to_scores(tmp_path, new_rows, monkeypatch):
    replace_models(monkeypatch)
    pack = make_pack(tmp_path / "pack")
    data, tokens = make_set(tmp_path, pack)
    train(pack, tmp_path / "lm", data, tokens)
    folder = tmp_path / "decode/test"
    config = DecodeConfig([DecodeEntry("s2st+ast"), DecodeEntry("asr+tts")], DecodingConfig(4, 6))
    decode_sets([DecodedSet(data, tokens, folder)], tmp_path / "lm", pack / "vocabulary", config, 0,
                Launcher("run.pl", 1, tmp_path / "jobs"))
    assert {path.parent.name for path in folder.glob("*/meta.json")} == {"s2st+ast_es_en", "asr+tts_en", "asr+tts_es"}

    synthesize_set(SpeechOptions(decode_dir=folder, data_dir=data, tokens=tokens, acoustic=pack / "acoustic",
                                 codec=pack / "codec", true_tokens="en", other_prompts=1),
                   Launcher("run.pl", 1, tmp_path / "jobs"))
    own, following = (read_table(folder / name / "prompt.scp") for name in ("s2st+ast_es_en", "asr+tts_en"))
    assert own == {name: name for name in SPANISH} and following["ana-en-1"] == "ana-en-2"
    assert [path.name for path in folder.glob("other_prompt_*")] == ["other_prompt_s2st+ast_es_en"]

    rows = score_run(ScoreOptions(tmp_path / "decode", tmp_path / "raw", tmp_path / "score", "new", judges="parrot",
                                  processes=1))
    scored = {(row.task, row.part, row.languages, row.metric) for row in select(rows, system="model")}
    voices = {("s2st+ast", "s2st", "es-en", metric) for metric in (
        "speaker_cosine", "speaker_win", "acoustic_consistency", "rate_likeness", "pause_likeness")}
    texts = {("s2st+ast", "ast", "es-en", "bleu"), ("s2st+ast", "ast", "es-en", "chrf"),
             *(("asr+tts", "asr", code, metric) for code in ("es", "en") for metric in ("wer", "cer"))}
    judged = {("s2st+ast", "s2st", "es-en", "asr_bleu"), ("s2st+ast", "s2st", "es-en", "asr_wer"),
              ("asr+tts", "tts", "en", "asr_wer")}
    assert scored == voices | texts | judged
    systems = {row.system for row in select(rows, part="tts")} | {row.system for row in select(rows, part="s2st")}
    assert systems == {"model", "true_tokens", "true_audio", "other", "other_prompt"}
    page = markdown(rows)
    assert "### s2st+ast" in page and "| en | tts | asr_wer |" in page


def test_languages_voices_and_fields_follow_from_the_row(new_rows):
    rows = {name: tasks.get_task(name) for name in ("s2st+ast", "asr+tts", "tts", "mt")}
    assert tasks.parse_tag("[S2ST AST Spanish English]") == (rows["s2st+ast"], "es", "en")
    assert [output.language("es", "en") for output in rows["s2st+ast"].outputs] == ["en", "en"]
    assert {name: task.spoken and task.spoken.keeps_source_voice for name, task in rows.items()} == {
        "s2st+ast": True, "asr+tts": False, "tts": False, "mt": None}
    assert rows["s2st+ast"].scored_fields() == {"audio", "translation"}
    assert rows["asr+tts"].scored_fields() == {"audio", "transcript"}
    assert [tasks.writing_task(*fields).name for fields in (
        ("audio", "translation"), ("audio", "transcript"), ("transcript", "translation"))] == ["ast", "asr", "mt"]
    assert not rows["mt"].hears_or_speaks and rows["tts"].hears_or_speaks
