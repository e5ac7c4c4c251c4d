"""Stage 5: each audio file is encoded once, a rerun goes on, and ids of two tokenizers are not mixed."""

import os
import shutil
from contextlib import nullcontext

import kaldiio
import numpy as np
import pytest
import torch
from prestarted import run_python
from tiny_models import tiny_codec

from audiopalm.codec.registry import load_codec
from audiopalm.codec.spectral_training import save_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import TokenArchive, read_vector
from audiopalm.data.audio import read_audio, write_audio
from audiopalm.data.datadir import read_table, write_table
from audiopalm.stages import tokenize as stage
from audiopalm.stages.encode_shards import Shard, encode_shard
from audiopalm.stages.jobs import Launcher, Result
from audiopalm.units.registry import UnitTokenizer, save_units
from audiopalm.units.usm_v2 import UnitConfig, UnitModel

pytestmark = pytest.mark.usefixtures("prestarted_jobs")


def make_units(directory, seed: int) -> None:
    torch.manual_seed(seed)
    model = UnitModel(UnitConfig(dim=16, heads=2, encoder_blocks=1, head_blocks=0, code_dim=8, size=16))
    model.quantiser.codebook.normal_()
    directory.mkdir(exist_ok=True)
    save_units(model, directory)


@pytest.fixture
def folders(tmp_path):
    """(data, units, codec, output). Each utterance is the translation of another, so that all four files are shared."""
    random, data = np.random.default_rng(0), tmp_path / "raw"
    source, target = {}, {}
    for number in range(4):
        path = data / f"{number}.flac"
        write_audio(path, random.normal(0, 0.1, 7000 + 5000 * number).astype(np.float32))
        source[f"anna-{'en' if number < 2 else 'es'}-{number % 2}"] = str(path)
        target[f"anna-{'es' if number < 2 else 'en'}-{number % 2}"] = str(path)
    write_table(data / "wav.scp", source)
    write_table(data / "wav.scp.es", target)
    write_table(data / "utt2lang", {name: name.split("-")[1] for name in source})
    write_table(data / "utt2spk", dict.fromkeys(source, "anna"))
    make_units(tmp_path / "units", seed=0)
    torch.manual_seed(0)
    (tmp_path / "codec").mkdir()
    save_codec(tiny_codec(levels=3), tmp_path / "codec")
    return data, tmp_path / "units", tmp_path / "codec", tmp_path / "tokens"


def tokenize(folders, codec_tokens: bool) -> None:
    data, units, codec, output = folders
    units_only = set() if codec_tokens else {data}
    stage.tokenize({data: output}, units, codec, Launcher("run.pl", 1, output / "jobs"), units_only)


def test_ids_are_those_of_the_tokenizers_and_each_file_is_encoded_once(folders, caplog):
    data, units, codec, output = folders
    with caplog.at_level("INFO"):
        tokenize(folders, codec_tokens=True)
    assert "units of 4 recordings" in caplog.text
    source, target = TokenArchive(output / "units.scp"), TokenArchive(output / "units.es.scp")
    frames = TokenArchive(output / "codec.scp", levels=3)
    for utterance, path in read_table(data / "wav.scp").items():
        samples = read_audio(path)
        assert np.array_equal(source[utterance], UnitTokenizer.load(units).encode([samples])[0])
        assert np.array_equal(frames[utterance], load_codec(codec).encode([samples])[0])
    assert target.table["anna-es-0"] == source.table["anna-en-0"]  # the same entry of the same archive
    meta = read_json(output / "meta.json")
    assert {key: meta[key] for key in ("units_rate", "units_size", "codec_rate", "codec_levels", "codec_size")} == {
        "units_rate": 25, "units_size": 16, "codec_rate": 50, "codec_levels": 3, "codec_size": 16}


def test_a_failed_run_goes_on_after_its_last_complete_shard(folders, monkeypatch):
    monkeypatch.setattr(stage, "SHARD_SECONDS", 1)
    longest = max((folders[0]).glob("*.flac"), key=lambda path: path.stat().st_size)  # in the last shard
    content = longest.read_bytes()

    def damage_then_run_jobs(*arguments):
        longest.write_bytes(b"")
        return run_jobs(*arguments)

    run_jobs = stage.run_jobs
    monkeypatch.setattr(stage, "run_jobs", damage_then_run_jobs)
    with pytest.raises(AudioPaLMError, match=longest.name):
        tokenize(folders, codec_tokens=False)
    output = folders[-1]
    assert not (output / "units.scp").exists()
    first = (output / "shards/units.0.ark").stat().st_mtime_ns
    monkeypatch.setattr(stage, "run_jobs", run_jobs)
    longest.write_bytes(content)
    tokenize(folders, codec_tokens=False)
    assert (output / "shards/units.0.ark").stat().st_mtime_ns == first
    assert len(TokenArchive(output / "units.scp")) == 4 and not (output / "codec.scp").exists()


def test_codec_ids_can_be_added_later(folders):
    tokenize(folders, codec_tokens=False)
    tokenize(folders, codec_tokens=True)
    assert len(TokenArchive(folders[-1] / "codec.scp", levels=3)) == 4


def test_ids_of_another_tokenizer_are_not_mixed_in(folders):
    tokenize(folders, codec_tokens=False)
    before = read_json(folders[-1] / "meta.json")["units_sha256"]
    make_units(folders[1], seed=1)
    with pytest.raises(AudioPaLMError, match=f"another tokenizer: units_sha256 {before}, now [0-9a-f]{{64}}"):
        tokenize(folders, codec_tokens=False)


def test_an_acoustic_model_of_another_codec_is_refused_before_any_work(folders, tmp_path):
    data, units, codec, output = folders
    meta = stage.describe(units, codec)
    for changed, refusal in (({}, ""), ({"codes_sha256": "another"}, "codes_sha256 differs: .* has another, .*stage 9"),
                             ({"units_sha256": "another"}, "units_sha256 differs: .* has another, .*stage 9")):
        write_json(tmp_path / "acoustic" / "config.json", meta | changed)
        with pytest.raises(AudioPaLMError, match=refusal) if refusal else nullcontext():
            stage.tokenize({data: output}, units, codec, Launcher("run.pl", 1, output / "jobs"), set(),
                           tmp_path / "acoustic")
        assert (output / "units.scp").exists() == (not refusal)
        shutil.rmtree(output, ignore_errors=True)


def test_the_command_runs_two_jobs_and_a_damaged_file_is_one_line(folders):
    data, units, codec, output = folders
    command = ["-m", "audiopalm.bin.tokenize", "--data_dir", data, "--units", units, "--codec", codec,
               "--output", output, "--nj", "2", "--codec_tokens", "false"]
    assert run_python(*command, OMP_NUM_THREADS="1").returncode == 0
    assert len(TokenArchive(output / "units.scp")) == 4
    write_audio(data / "0.flac", np.zeros(0))
    (output / "shards/units.0.done").unlink()
    failed = run_python(*command, OMP_NUM_THREADS="1")
    assert failed.returncode == 1 and "0.flac" in failed.stderr.splitlines()[-1] and "Traceback" not in failed.stderr


def test_a_shard_goes_on_behind_its_last_whole_recording(folders):
    """The first run ends with an error, the second finds an entry that was cut off when its process was killed."""
    data, _, _, output = folders
    paths = sorted(str(path) for path in data.glob("*.flac"))
    shard, encoded = Shard("units", str(output / "units.0"), paths), []

    def encode(audio: list[np.ndarray]) -> list[np.ndarray]:
        encoded.append(len(audio[0]))
        if len(encoded) == 3:
            raise AudioPaLMError("it cannot be read")
        return [np.arange(len(audio[0]) // 1000)]

    assert encode_shard(encode, shard).error == f"{paths[2]}: it cannot be read"
    assert len(encoded) == 3 and not shard.is_done() and not (output / "units.0.ark").exists()
    growing = output / "units.0.unfinished/ark"
    os.truncate(growing, growing.stat().st_size - 2)
    assert encode_shard(encode, shard) == Result()
    assert encoded == [7000, 12000, 17000, 12000, 17000, 22000]  # the second one anew, the first not
    assert shard.is_done() and sorted(path.name for path in output.iterdir()) == ["units.0.ark", "units.0.done"]
    assert [len(read_vector(entry)) for entry in shard.entries().values()] == [7, 12, 17, 22]
    assert [len(ids) for _, ids in kaldiio.load_ark(str(output / "units.0.ark"))] == [7, 12, 17, 22]


def test_an_unfinished_shard_of_other_recordings_is_begun_anew(folders):
    data, _, _, output = folders
    paths, encoded = sorted(str(path) for path in data.glob("*.flac")), []

    def encode(audio: list[np.ndarray]) -> list[np.ndarray]:
        encoded.append(len(audio[0]))
        if len(encoded) == 2:
            raise AudioPaLMError("it cannot be read")
        return [np.arange(len(audio[0]) // 1000)]

    assert encode_shard(encode, Shard("units", str(output / "units.0"), paths[:2])).error
    assert encode_shard(encode, Shard("units", str(output / "units.0"), paths[1:3])) == Result()
    assert encoded == [7000, 12000, 12000, 17000]


def test_a_large_set_has_larger_shards_and_not_more(monkeypatch, tmp_path):
    monkeypatch.setattr(stage, "count_samples", lambda path: 1600 * (1 + int(path) % 7))
    monkeypatch.setattr(stage, "SHARD_SECONDS", 2)
    monkeypatch.setattr(stage, "MAX_SHARDS", 20)
    for files, shards in ((40, 8), (400, 20), (4000, 20)):
        planned = stage.plan_shards("units", {str(number) for number in range(files)}, tmp_path)
        assert shards <= len(planned) <= 1.1 * shards + 1
        assert sorted(path for shard in planned for path in shard.paths) == sorted(map(str, range(files)))
