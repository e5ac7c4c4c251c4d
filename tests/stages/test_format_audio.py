"""Stage 2: cuts joined exactly, shared files, resampling, limits of length, reruns, bad audio."""

import kaldiio
import numpy as np
import pytest
import soundfile
from commands import check, command
from miniatures.sound import HTML, mp3
from stage2 import format_set, make_files

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table, write_table

RATE = 16000
pytestmark = pytest.mark.usefixtures("prestarted_jobs")


def read(path):
    samples, rate = soundfile.read(path)
    assert rate == RATE and samples.ndim == 1 and soundfile.info(path).format == "FLAC"
    return samples


@pytest.fixture
def data(tmp_path):
    """Two recordings of 2 s, three utterances of them, one of three cuts, and a translation that two of them share."""
    random = np.random.default_rng(0)
    directory = tmp_path / "data"
    sources = {name: random.uniform(-0.5, 0.5, 2 * RATE) for name in ("first", "second")}
    for name, samples in sources.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    write_table(directory / "wav.scp", {name: str(tmp_path / f"{name}.wav") for name in sources})
    write_table(directory / "segments", {
        "a-en-1": "first 0.10 0.50", "a-en-2": "first 0.00 0.25 second 1.00 1.50 first 1.75 2.00",
        "a-en-3": "second 0.00 0.02"})
    write_table(directory / "segments.es", {"a-en-1": "first 0.10 0.50", "a-en-2": "first 0.10 0.50"})
    for name, value in (("utt2spk", "a"), ("utt2lang", "en"), ("text", "some words"), ("text.es", "unas palabras")):
        write_table(directory / name, {f"a-en-{number}": value for number in (1, 2, 3)})
    return directory, {name: samples.astype(np.float32) for name, samples in sources.items()}


def test_cuts_are_joined_sample_by_sample(data, tmp_path):
    directory, sources = data
    format_set(directory, tmp_path / "out", tmp_path / "audio")
    expected = np.concatenate([sources["first"][:4000], sources["second"][16000:24000], sources["first"][28000:]])
    samples = read(read_table(tmp_path / "out" / "wav.scp")["a-en-2"])
    assert np.abs(samples - expected).max() < 1e-4


def test_equal_speech_is_written_once(data, tmp_path):
    directory, _ = data
    assert make_files(directory, tmp_path / "audio") == (3, {})
    format_set(directory, tmp_path / "out", tmp_path / "audio")
    own, spanish = read_table(tmp_path / "out" / "wav.scp"), read_table(tmp_path / "out" / "wav.scp.es")
    assert own["a-en-1"] == spanish["a-en-1"] == spanish["a-en-2"]
    assert len(list((tmp_path / "audio").glob("*.flac"))) == 3


def test_short_and_long_utterances_leave_every_table(data, tmp_path):
    directory, _ = data
    report = format_set(directory, tmp_path / "out", tmp_path / "audio", shortest=0.1, longest=0.9)
    assert report["removed"] == {"utterance too long": 1, "utterance too short": 1}
    for name in ("wav.scp", "wav.scp.es", "text", "text.es", "utt2spk", "utt2lang", "utt2dur"):
        assert list(read_table(tmp_path / "out" / name)) == ["a-en-1"], name
    assert read_table(tmp_path / "out" / "utt2dur") == {"a-en-1": "0.400"}
    assert read_table(tmp_path / "out" / "spk2utt") == {"a": "a-en-1"}
    with pytest.raises(AudioPaLMError, match="no utterance is left"):
        format_set(directory, tmp_path / "none", tmp_path / "audio", shortest=100)


def test_a_rerun_makes_only_missing_and_damaged_recordings(data, tmp_path):
    directory, _ = data
    format_set(directory, tmp_path / "out", tmp_path / "audio")
    files = sorted((tmp_path / "audio").glob("*.flac"))
    before = [path.stat().st_mtime_ns for path in files]
    files[1].write_bytes(b"")
    assert make_files(directory, tmp_path / "audio", jobs=2) == (1, {})
    after = [path.stat().st_mtime_ns for path in files]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_a_changed_source_is_read_again(data, tmp_path):
    directory, _ = data
    format_set(directory, tmp_path / "out", tmp_path / "audio")
    soundfile.write(tmp_path / "first.wav", np.zeros(2 * RATE + 1), RATE, subtype="FLOAT")
    check(command("format_audio", "--input", directory, "--output", tmp_path / "out", "--audio_dir", tmp_path / "audio",
                  "--nj", "1", "--min_seconds", "0"))
    assert not read(read_table(tmp_path / "out" / "wav.scp")["a-en-1"]).any()


def test_stereo_at_48_khz_becomes_mono_at_16_khz(tmp_path):
    """A tone of 1 kHz in the left channel stays at 1 kHz and has half the level."""
    time = np.arange(48000) / 48000
    stereo = np.stack([0.8 * np.sin(2 * np.pi * 1000 * time), np.zeros(48000)], axis=1)
    soundfile.write(tmp_path / "tone.wav", stereo, 48000)
    for name, value in (("wav.scp", str(tmp_path / "tone.wav")), ("wav.scp.fr", str(tmp_path / "tone.wav")),
                        ("text", "tone"), ("utt2spk", "b")):
        write_table(tmp_path / "data" / name, {"b-en-1": value})
    format_set(tmp_path / "data", tmp_path / "out", tmp_path / "audio")
    samples = read(read_table(tmp_path / "out" / "wav.scp")["b-en-1"])
    assert len(samples) == RATE
    spectrum = np.abs(np.fft.rfft(samples[1000:-1000] * np.hanning(RATE - 2000)))
    assert abs(np.argmax(spectrum) * RATE / (RATE - 2000) - 1000) < 2
    assert 0.38 < np.abs(samples[1000:-1000]).max() < 0.42
    assert read_table(tmp_path / "out" / "wav.scp.fr").keys() == {"b-en-1"}


@pytest.mark.parametrize(("content", "message"), [
    (b"", "cannot be decoded"), (b"not audio at all", "cannot be decoded"), (None, "does not exist"),
])
def test_bad_audio_is_refused_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "bad.wav").write_bytes(content)
    for name, value in (("wav.scp", str(tmp_path / "bad.wav")), ("text", "x"), ("utt2spk", "c")):
        write_table(tmp_path / "data" / name, {"c-en-1": value})
    result = command("format_audio", "--input", tmp_path / "data", "--output", tmp_path / "out", "--audio_dir",
                     tmp_path / "audio")
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and "bad.wav" in errors[0] and message in errors[0] and "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "wav.scp").exists()


def test_cuts_with_samples_that_are_not_numbers_are_removed_and_named(tmp_path):
    samples = np.full(RATE, 0.1, dtype=np.float32)
    samples[RATE // 2] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "good.wav", np.full(RATE, 0.1), RATE)
    for name, values in (("wav.scp", [str(tmp_path / "good.wav"), str(tmp_path / "nan.wav")]), ("text", ["x", "x"]),
                         ("utt2spk", ["a", "a"]), ("segments", ["a-good 0 0.8", "a-nan 0.2 0.8"])):
        write_table(tmp_path / "data" / name, dict(zip(["a-good", "a-nan"], values, strict=True)))
    format_set(tmp_path / "data", tmp_path / "out", tmp_path / "audio", max_drop=0.9)
    assert list(read_table(tmp_path / "out" / "text")) == ["a-good"]
    removed = (tmp_path / "out" / "removed.tsv").read_text()
    assert removed == "a-nan\tutterance\tholds samples that are not numbers\n"


def test_a_damaged_mp3_is_removed_and_named_and_other_recordings_stay(tmp_path):
    whole = mp3(2.0)
    untagged = whole.replace(b"Xing", b"XXXX").replace(b"Info", b"XXXX")
    assert untagged != whole
    files = {"whole": whole, "untagged": untagged, "cut": whole[:len(whole) // 3], "empty": b"", "html": HTML,
             "short": mp3(0.02), "long_text": whole, "zeros": bytes(20000)}
    for name, content in files.items():
        (tmp_path / f"{name}.mp3").write_bytes(content)
    table = {f"a-{name}": str(tmp_path / f"{name}.mp3") for name in files}
    write_table(tmp_path / "data" / "wav.scp", table)
    write_table(tmp_path / "data" / "utt2spk", dict.fromkeys(table, "a"))
    write_table(tmp_path / "data" / "text", {key: "x" * (200 if key == "a-long_text" else 10) for key in table})
    report = format_set(tmp_path / "data", tmp_path / "out", tmp_path / "audio", shortest=0.1, max_drop=0.9)
    assert list(read_table(tmp_path / "out" / "text")) == ["a-untagged", "a-whole"]
    reasons = dict(line.split("\tutterance\t") for line in (tmp_path / "out" / "removed.tsv").read_text().splitlines())
    assert reasons == {"a-cut": "is damaged", "a-empty": "cannot be decoded", "a-html": "cannot be decoded",
                       "a-long_text": "more than 40 characters a second", "a-short": "too short",
                       "a-zeros": "cannot be decoded"}
    assert report["removed"]["utterance cannot be decoded"] == 3
    with pytest.raises(AudioPaLMError, match="more than --max_drop 0.05 of the audio is damaged"):
        format_set(tmp_path / "data", tmp_path / "strict", tmp_path / "audio")
    assert not (tmp_path / "strict" / "wav.scp").exists()



@pytest.mark.parametrize("audio_format", ["wav", "flac.ark"])
def test_other_formats_hold_the_same_recordings(data, tmp_path, audio_format):
    directory, _ = data
    expected = format_set(directory, tmp_path / "flac", tmp_path / "audio")
    report = format_set(directory, tmp_path / "out", tmp_path / "audio", audio_format)
    assert report == expected
    for name in ("wav.scp", "wav.scp.es"):
        ours, flac = (read_table(folder / name) for folder in (tmp_path / "out", tmp_path / "flac"))
        assert ours.keys() == flac.keys() and len(set(ours.values())) == len(set(flac.values()))
        for key, path in ours.items():
            difference = np.abs(read_audio(path) - read_audio(flac[key])).max()
            assert difference == 0 if audio_format == "flac.ark" else difference < 1e-4  # libsndfile rounds differently
            assert (":" if audio_format == "flac.ark" else ".wav") in path


def test_each_job_writes_an_archive_and_a_rerun_makes_only_missing_and_damaged_ones(tmp_path):
    """Two jobs write archives of three and two recordings."""
    names = [f"a-en-{number}" for number in range(5)]
    for index, name in enumerate(names):
        soundfile.write(tmp_path / f"{name}.wav", np.full(4000 + index, 0.1), RATE)
    (tmp_path / "a-en-1.wav").write_bytes(b"not audio")
    write_table(tmp_path / "data/wav.scp", {name: str(tmp_path / f"{name}.wav") for name in names})
    for table in ("text", "utt2spk"):
        write_table(tmp_path / "data" / table, dict.fromkeys(names, "a"))
    audio = tmp_path / "audio"
    report = format_set(tmp_path / "data", tmp_path / "out", audio, "flac.ark", jobs=2, max_drop=0.5)
    assert report["removed"] == {"utterance cannot be decoded": 1}
    archives = sorted(audio.glob("audio.*.ark"))
    assert len(archives) == 2 and len(list(audio.glob("*"))) == 6  # besides them two indices, damaged.json and jobs/
    whole = {path: path.read_bytes() for path in archives}
    assert make_files(tmp_path / "data", audio, 2, "flac.ark") == (0, {name: "cannot be decoded" for name in
                                                                      read_json(audio / "damaged.json")})
    archives[0].with_suffix(".json").unlink()  # as after a kill
    archives[1].write_bytes(b"")
    (audio / "damaged.json").unlink()
    assert make_files(tmp_path / "data", audio, 2, "flac.ark")[0] == 4
    assert {path: path.read_bytes() for path in archives} == whole
    archives[0].with_suffix(".json").write_text("{}")
    with pytest.raises(AudioPaLMError, match="is no index of an audio archive; remove it"):
        make_files(tmp_path / "data", audio, 2, "flac.ark")


def test_recordings_may_come_from_an_archive(tmp_path):
    """As in the dump of ESPnet, whole and cut by segments."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    kaldiio.save_ark(str(tmp_path / "dump.ark"), {"a": (samples, RATE)}, scp=str(tmp_path / "dump.scp"),
                     write_function="soundfile", write_kwargs={"format": "flac"})
    entry = read_table(tmp_path / "dump.scp")["a"]
    for name, value in (("wav.scp", entry), ("text", "x"), ("utt2spk", "a")):
        write_table(tmp_path / "data" / name, {"a": value})
    format_set(tmp_path / "data", tmp_path / "out", tmp_path / "audio")
    assert np.array_equal(read(read_table(tmp_path / "out/wav.scp")["a"]), read_audio(entry))
    write_table(tmp_path / "data/segments", {"a": "a 0.25 0.75"})
    format_set(tmp_path / "data", tmp_path / "out", tmp_path / "audio", "flac.ark")
    assert np.array_equal(read_audio(read_table(tmp_path / "out/wav.scp")["a"]), read_audio(entry)[4000:12000])


def test_commands_in_wav_scp_are_run_only_with_pipes_true(data, tmp_path):
    """A command that fails is one line."""
    directory, sources = data
    table = {name: f"cat {path} | cat |" for name, path in read_table(directory / "wav.scp").items()}
    write_table(directory / "wav.scp", table)

    def run(*options):
        return command("format_audio", "--input", directory, "--output", tmp_path / "out", "--audio_dir",
                       tmp_path / "audio", "--min_seconds", "0", *options)

    refused = run()
    assert refused.returncode == 1 and "cat |' is a command; where you trust it" in refused.stderr
    assert "--pipes true" in refused.stderr and not (tmp_path / "out").exists()
    check(run("--pipes", "true"))
    samples = read(read_table(tmp_path / "out/wav.scp")["a-en-1"])
    assert np.abs(samples - sources["first"][1600:8000]).max() < 1e-4
    write_table(directory / "wav.scp", table | {"first": f"cat {tmp_path}/none |"})
    failed = run("--pipes", "true")
    assert failed.returncode == 1 and "error: the command 'cat " in failed.stderr
    assert "of wav.scp failed with exit code 1: cat: " in failed.stderr and failed.stderr.count("error:") == 1


@pytest.mark.parametrize(("line", "message"), [
    ("first 0.0", "expected `recording start end`"), ("third 0.0 1.0", "unknown recording"),
    ("first 1.5 2.5", "lies outside"), ("first 1.0 1.0", "lies outside"),
])
def test_bad_segments_are_refused(data, tmp_path, line, message):
    directory, _ = data
    write_table(directory / "segments", {"a-en-1": line})
    with pytest.raises(AudioPaLMError, match=message):
        format_set(directory, tmp_path / "out", tmp_path / "audio")


def test_a_directory_without_stage_1_names_the_stage(tmp_path):
    with pytest.raises(AudioPaLMError, match="stage 1"):
        format_set(tmp_path, tmp_path / "out", tmp_path / "audio")
