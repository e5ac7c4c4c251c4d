"""Stage 11: recordings, prompts and ceilings; runs that go on; inputs that do not fit."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import call
from safetensors.torch import load_file, save_file
from tiny_models import tiny_codec

from audiopalm.acoustic.registry import load_acoustic
from audiopalm.acoustic.soundstorm.generation import GenerationConfig
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm
from audiopalm.codec.registry import hash_codes
from audiopalm.codec.spectral_training import save_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table, write_table
from audiopalm.stages.prompt_utterances import Prompts
from audiopalm.stages.synthesize import check_codec

META = {"units_rate": 25, "units_size": 10, "units_sha256": "aaaa", "codec_rate": 50, "codec_levels": 2,
        "codec_size": 16}
SPANISH = ["ann-es-1", "ann-es-2", "bob-es-1"]
ENGLISH = ["ann-en-1", "ann-en-2", "bob-en-1"]

pytestmark = pytest.mark.usefixtures("prestarted_jobs")


@pytest.fixture
def stage(tmp_path) -> dict[str, Path]:
    """Folders by option: six utterances, tiny models with random weights, two decodes. That of bob-es-1 is empty."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    folders = {name: tmp_path / name for name in ("decode_dir", "data_dir", "tokens", "acoustic", "codec")}

    def archive(folder: Path, name: str, values: dict[str, np.ndarray]) -> None:
        write_table(folder / f"{name}.scp", write_ark(folder / f"{name}.ark", values))

    lengths = {name: 20 + 30 * index for index, name in enumerate(SPANISH + ENGLISH)}
    archive(folders["tokens"], "units", {name: random.integers(0, 10, length) for name, length in lengths.items()})
    archive(folders["tokens"], "codec", {name: random.integers(0, 16, 2 * (2 * length - 1))
                                         for name, length in lengths.items()})
    archive(folders["tokens"], "units.en", {name: random.integers(0, 10, 30) for name in SPANISH})
    write_table(folders["data_dir"] / "utt2spk", {name: name[:3] for name in lengths})
    write_table(folders["data_dir"] / "utt2lang", {name: name[4:6] for name in lengths})
    for name, task, utterances in (("s2st_es_en", "s2st", SPANISH), ("tts_en", "tts", ENGLISH)):
        archive(folders["decode_dir"] / name, "units",
                {utterance: random.integers(0, 10, 0 if utterance == "bob-es-1" else 15 + len(utterance))
                 for utterance in utterances})
        write_json(folders["decode_dir"] / name / "meta.json",
                   {"task": task, "source": name.split("_")[1], "target": "en"})

    folders["codec"].mkdir()
    save_codec(tiny_codec(), folders["codec"])
    meta = {**META, "codes_sha256": hash_codes(folders["codec"])}
    write_json(folders["tokens"] / "meta.json", meta)
    model = ModelConfig(10, 2, 16, dim=16, layers=1, heads=2, feedforward=16)
    folders["acoustic"].mkdir()
    save_file(SoundStorm(model).state_dict(), folders["acoustic"] / "model.safetensors")
    write_json(folders["acoustic"] / "config.json", {"model": dataclasses.asdict(model), **meta,
                                                     "generation": dataclasses.asdict(GenerationConfig())})
    return folders


def synthesize(stage: dict[str, Path], *options: str) -> None:
    call("synthesize", *(part for name, folder in stage.items() for part in (f"--{name}", folder)), *options)


def test_every_utterance_becomes_a_file(stage, caplog):
    caplog.set_level("INFO")
    synthesize(stage, "--true_tokens", "en")
    folder = stage["decode_dir"] / "s2st_es_en"
    assert list(read_table(folder / "wav.scp")) == SPANISH
    for name, path in read_table(folder / "wav.scp").items():
        samples, rate = soundfile.read(path)
        assert rate == 16000
        if name == "bob-es-1":
            assert len(samples) == 8000 and not samples.any()
        else:
            assert len(samples) == (15 + len(name)) * 640 and samples.any()
    assert read_json(folder / "synthesis.json")["empty"] == 1
    assert "1 of them silence" in caplog.text and "real-time factor" in caplog.text
    ceiling = stage["decode_dir"] / "true_tokens_en"
    assert sorted(read_table(ceiling / "wav.scp")) == sorted(SPANISH + ENGLISH)
    assert soundfile.info(ceiling / "wav" / "ann-es-1.wav").frames == 30 * 640  # units of the English translation


def test_archives_hold_the_same_speech_as_files(stage):
    """Two jobs write them. A rerun makes only the missing one."""
    synthesize(stage, "--nj", "1")
    folder = stage["decode_dir"] / "s2st_es_en"
    files = {name: read_audio(path) for name, path in read_table(folder / "wav.scp").items()}
    shutil.rmtree(folder / "wav")
    (folder / "wav.scp").unlink()
    for job in ("1", "2"):
        synthesize(stage, "--nj", "2", "--audio_format", "flac.ark")
        table = read_table(folder / "wav.scp")
        assert sorted(path.suffix for path in (folder / "wav").iterdir()) == [".ark", ".ark", ".json", ".json"], job
        for name, samples in files.items():
            assert np.abs(read_audio(table[name]) - samples).max() < 1e-4
        (folder / "wav.scp").unlink()
        next((folder / "wav").glob("*.json")).unlink()


def test_the_prompt_is_the_source_or_the_next_utterance_of_the_speaker(stage):
    synthesize(stage)
    assert read_table(stage["decode_dir"] / "s2st_es_en" / "prompt.scp") == {name: name for name in SPANISH}
    assert read_table(stage["decode_dir"] / "tts_en" / "prompt.scp") == {
        "ann-en-1": "ann-en-2", "ann-en-2": "ann-es-1", "bob-en-1": "bob-es-1"}


def test_a_limit_takes_the_first_utterances_by_id(stage):
    synthesize(stage, "--limit", "2", "--true_tokens", "en")
    spoken = {name: list(read_table(stage["decode_dir"] / name / "wav.scp"))
              for name in ("s2st_es_en", "tts_en", "true_tokens_en")}
    assert spoken == {"s2st_es_en": SPANISH[:2], "tts_en": ENGLISH[:2], "true_tokens_en": ENGLISH[:2] + SPANISH[:2]}


def test_a_limited_ceiling_is_spread_over_the_speakers(stage):
    synthesize(stage, "--true_tokens", "en", "--true_most", "2")
    spoken = read_table(stage["decode_dir"] / "true_tokens_en" / "wav.scp")
    assert sorted(name for name in spoken if name in ENGLISH) == ["ann-en-1", "bob-en-1"]
    assert sorted(name for name in spoken if name in SPANISH) == ["ann-es-1", "bob-es-1"]


def test_other_prompts_are_of_other_speakers_and_change_the_speech(stage):
    synthesize(stage, "--other_prompts", "2")
    other = stage["decode_dir"] / "other_prompt_s2st_es_en"
    assert read_table(other / "prompt.scp") == {"ann-es-1": "bob-es-1", "bob-es-1": "ann-es-2"}
    same, changed = ((folder / "wav" / "ann-es-1.wav").read_bytes() for folder in (other.parent / "s2st_es_en", other))
    assert len(same) == len(changed) and same != changed
    assert not (other.parent / "other_prompt_tts_en").exists()
    write_table(stage["data_dir"] / "utt2spk", dict.fromkeys(SPANISH + ENGLISH, "ann"))
    with pytest.raises(AudioPaLMError, match="no other speaker than that of 'ann-es-2'"):
        synthesize(stage, "--other_prompts", "1")


def test_an_interrupted_folder_is_continued_and_a_finished_one_stays_as_it_is(stage):
    synthesize(stage, "--names", "tts_en")
    folder = stage["decode_dir"] / "tts_en"
    files = {name: folder / "wav" / f"{name}.wav" for name in ENGLISH}
    whole = {name: path.read_bytes() for name, path in files.items()}
    times = {name: path.stat().st_mtime_ns for name, path in files.items()}
    synthesize(stage, "--names", "tts_en")
    assert {name: path.stat().st_mtime_ns for name, path in files.items()} == times
    (folder / "wav.scp").unlink()  # as after a kill: one file short, no table
    files["ann-en-2"].unlink()
    synthesize(stage, "--names", "tts_en")
    assert {name: path.read_bytes() for name, path in files.items()} == whole
    assert files["ann-en-1"].stat().st_mtime_ns == times["ann-en-1"] and (folder / "wav.scp").is_file()
    assert not (stage["decode_dir"] / "s2st_es_en" / "wav.scp").exists()


def test_changed_units_or_settings_are_spoken_again(stage):
    synthesize(stage)
    folder = stage["decode_dir"] / "s2st_es_en"
    units = {name: np.full(40, 3) for name in SPANISH}
    write_table(folder / "units.scp", write_ark(folder / "units.ark", units))
    synthesize(stage)
    assert {soundfile.info(path).frames for path in read_table(folder / "wav.scp").values()} == {40 * 640}
    before = (folder / "wav" / "ann-es-1.wav").read_bytes()
    synthesize(stage, "temperature=0", "iterations=[2, 1]")
    assert (folder / "wav" / "ann-es-1.wav").read_bytes() != before


def test_inputs_that_do_not_fit_together_are_refused(stage):
    with pytest.raises(AudioPaLMError, match="no decode 's2st_es' with units; did you mean 's2st_es_en'"):
        synthesize(stage, "--names", "s2st_es")
    meta = read_json(stage["tokens"] / "meta.json")
    write_json(stage["tokens"] / "meta.json", {**meta, "codes_sha256": "cccc"})
    with pytest.raises(AudioPaLMError, match=f"codes_sha256 differs.*{meta['codes_sha256']}.*cccc"):
        synthesize(stage)
    write_json(stage["tokens"] / "meta.json", meta)
    weights = load_file(stage["codec"] / "model.safetensors")
    bias = "decoder.network.last.bias"
    save_file({**weights, bias: weights[bias] + 1}, stage["codec"] / "model.safetensors")
    check_codec(load_acoustic(stage["acoustic"]), stage["codec"])  # the codes are the same, only their sound differs
    save_file({**weights, "codebooks": weights["codebooks"] + 1}, stage["codec"] / "model.safetensors")
    with pytest.raises(AudioPaLMError, match=f"trained with codes of codec {meta['codes_sha256']}, .*holds"):
        check_codec(load_acoustic(stage["acoustic"]), stage["codec"])
    save_file(weights, stage["codec"] / "model.safetensors")
    (stage["acoustic"] / "model.safetensors").unlink()
    with pytest.raises(AudioPaLMError, match="stage 9"):
        synthesize(stage)


def test_the_only_utterance_of_a_speaker_is_its_own_prompt(stage):
    write_table(stage["data_dir"] / "utt2spk", {name: name for name in SPANISH + ENGLISH})
    prompts = Prompts(stage["data_dir"], stage["tokens"], load_acoustic(stage["acoustic"]), stage["acoustic"])
    assert prompts.next("ann-en-1") == "ann-en-1"


@pytest.mark.parametrize("name", ["../../x", "a/b", ".."])
def test_ids_that_lead_out_of_the_folder_are_refused(stage, tmp_path, name):
    """The test edits the tables, because stages 1 and 2 refuse such ids too."""
    for table in (stage["decode_dir"] / "s2st_es_en" / "units.scp", stage["tokens"] / "units.scp",
                  stage["tokens"] / "codec.scp", stage["data_dir"] / "utt2spk", stage["data_dir"] / "utt2lang"):
        table.write_text(table.read_text().replace("ann-es-1 ", f"{name} "))
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(AudioPaLMError, match="invalid id"):
        synthesize(stage)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_the_prompt_may_be_of_another_speaker_or_silence_and_shorter(stage):
    folder, heard = stage["decode_dir"] / "s2st_es_en", {}
    choices = {"own": (), "other": ("--prompt", "other"), "none": ("--prompt", "none"),
               "short": ("--prompt_seconds", "1"), "long": ("--prompt_seconds", "6")}
    for name, options in choices.items():
        synthesize(stage, "--names", "s2st_es_en", *options)
        heard[name] = read_audio(read_table(folder / "wav.scp")["ann-es-2"])
        prompts = read_table(folder / "prompt.scp")
        assert prompts["ann-es-2"] == {"other": "bob-es-1", "none": "<silence>"}.get(name, "ann-es-2")
        assert read_json(folder / "synthesis.json").get("prompt_seconds") == {"short": 1.0, "long": 6.0}.get(name)
    synthesize(stage, "--names", "s2st_es_en")  # with the default again, and not the speech of the last prompt
    assert np.array_equal(read_audio(read_table(folder / "wav.scp")["ann-es-2"]), heard["own"])
    for name, samples in heard.items():
        assert len(samples) == len(heard["own"]) and samples.any()
        assert name == "own" or not np.array_equal(samples, heard["own"]), name
