"""`python -m audiopalm.bin.distort`: a distorted copy of a data directory of stage 2."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import call

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.mixture import MixtureEntry, expand
from audiopalm.lm.training import LMInputs

pytestmark = pytest.mark.usefixtures("prestarted_jobs")


@pytest.fixture
def data(tmp_path):
    """Four Spanish utterances of two speakers, with English translations; one translation has no audio."""
    folder = tmp_path / "data"
    folder.mkdir()
    names = ["ann-es-1", "ann-es-2", "bob-es-1", "bob-es-2"]
    random = np.random.default_rng(0)
    for name in names:
        for side in ("es", "en"):
            soundfile.write(tmp_path / f"{name}.{side}.flac", 0.1 * random.normal(size=8000), 16000)
    write_table(folder / "wav.scp", {name: str(tmp_path / f"{name}.es.flac") for name in names})
    write_table(folder / "wav.scp.en", {name: str(tmp_path / f"{name}.en.flac") for name in names[:3]})
    write_table(folder / "text", {name: f"hola {name[-1]}" for name in names})
    write_table(folder / "text.en", {name: f"hello {name[-1]}" for name in names})
    write_table(folder / "utt2spk", {name: name[:3] for name in names})
    write_table(folder / "utt2lang", dict.fromkeys(names, "es"))
    return folder


def distorted(data, condition: str, *more: str, output: str = "out"):
    folder = data.parent / output
    call("distort", "--data_dir", data, "--output", folder, "--audio_dir", data.parent / "audio", "--condition",
         condition, *more)
    return folder


def test_joined_utterances_are_two_recordings_of_a_speaker(data):
    folder = distorted(data, "joined")
    assert read_table(folder / "text")["ann-es-1-joined"] == "hola 1 hola 2"
    assert read_table(folder / "text.en")["bob-es-2-joined"] == "hello 2 hello 1"
    assert list(read_table(folder / "wav.scp.en")) == ["ann-es-1-joined", "ann-es-2-joined"]  # bob-es-2 has none
    for table in ("wav.scp", "wav.scp.en"):
        samples = soundfile.info(read_table(folder / table)["ann-es-1-joined"]).frames
        assert 16000 + 0.2 * 16000 <= samples <= 16000 + 0.8 * 16000
    assert read_table(folder / "spk2utt")["ann"] == "ann-es-1-joined ann-es-2-joined"
    assert float(read_table(folder / "utt2dur")["ann-es-1-joined"]) > 1.2


def test_the_audio_depends_on_the_seed_and_not_on_the_number_of_jobs(data):
    read = {}
    for jobs in ("1", "2"):
        folder = distorted(data, "random", "--nj", jobs, output=f"out{jobs}")
        read[jobs] = {name: Path(path).read_bytes() for name, path in read_table(folder / "wav.scp").items()}
        for path in (data.parent / "audio").glob("*.flac"):
            path.unlink()
    assert read["1"] == read["2"]
    other = distorted(data, "random", "--seed", "1", output="other")
    assert {Path(path).read_bytes() for path in read_table(other / "wav.scp").values()} != set(read["1"].values())
    # The ids differ, so that one training can take both copies.
    assert read_table(other / "text").keys().isdisjoint(read_table(folder / "text"))


def test_translations_stay_clean_and_a_rerun_writes_no_recording(data):
    folder = distorted(data, "telephone")
    clean = read_table(data / "wav.scp.en")
    assert read_table(folder / "wav.scp.en") == {f"{name}-telephone": path for name, path in clean.items()}
    path = read_table(folder / "wav.scp")["ann-es-1-telephone"]
    before = Path(path).stat()
    distorted(data, "telephone")
    assert (Path(path).stat().st_ino, Path(path).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_unknown_condition_is_one_line(data):
    with pytest.raises(AudioPaLMError, match="'telefone' does not exist.*telephone"):
        distorted(data, "telefone")


def test_distorted_speech_is_an_input_and_never_a_target(digit_sets, tmp_path):
    data, tokens, _, _ = digit_sets
    copy, copy_tokens = tmp_path / "copy", tmp_path / "tokens"
    copy.mkdir()
    copy_tokens.mkdir()
    for source, target in ((data, copy), (tokens, copy_tokens)):
        for path in source.iterdir():
            if path.name == "meta.json":
                (target / path.name).write_bytes(path.read_bytes())
            elif path.is_file() and path.suffix not in (".ark", ".arrow") and path.name != "spk2utt":
                write_table(target / path.name, {f"{key}-random": value for key, value in read_table(path).items()})
    examples = ExampleSet(data, tokens, distorted=[(copy, copy_tokens)])
    for task, factor in (("asr", 2), ("s2st", 2), ("tts", 1)):
        alone = sum(len(cell.rows) for cell in expand([MixtureEntry(task)], ExampleSet(data, tokens)))
        assert sum(len(cell.rows) for cell in expand([MixtureEntry(task)], examples)) == factor * alone
    with pytest.raises(AudioPaLMError, match="another data directory has too"):
        ExampleSet(data, tokens, distorted=[(data, tokens)])


def test_recordings_outside_the_share_are_not_distorted(data):
    folder = distorted(data, "random", "share=0.0")
    for name, path in read_table(folder / "wav.scp").items():
        original = soundfile.read(read_table(data / "wav.scp")[name.removesuffix("-random0")])[0]
        assert np.array_equal(soundfile.read(path)[0], original)


def test_distorted_copies_without_tokens_are_refused():
    with pytest.raises(AudioPaLMError, match="--distorted_tokens must name as many folders"):
        LMInputs("vocabulary", "train", "dev", distorted_data_dir=["telephone"])
