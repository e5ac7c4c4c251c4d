"""A folder of recordings with texts: names, endings and texts as users have them."""

from pathlib import Path

import pytest
from miniatures.sound import wav

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.corpora.folder import prepare
from audiopalm.data.datadir import read_table

SOUND = wav(16000, "PCM_16")


@pytest.fixture
def downloads(tmp_path) -> Path:
    for name in ("train", "dev", "test"):
        write(tmp_path / "downloads" / name, {"anna-1.wav": SOUND, "anna-1.txt": b"one"})
    return tmp_path / "downloads"


def write(folder: Path, files: dict[str | bytes, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = bytes(folder) + b"/" + (name if isinstance(name, bytes) else name.encode())
        with open(path, "wb") as file:
            file.write(content)


def read(downloads: Path, max_drop: float = 1.0):
    output = downloads.parent / "data"
    report = prepare(ReaderOptions(downloads, output, downloads.parent, ["en"], max_drop))
    dropped = dict(line.split("\t") for line in (output / "train/dropped.tsv").read_text().splitlines())
    return output / "train", report["train"], dropped


def test_names_may_have_dots_and_endings_may_be_capitals(downloads):
    write(downloads / "train", {
        **{f"anna-5.0{number}.wav": SOUND for number in (1, 2)},
        **{f"anna-5.0{number}.txt": b"two" for number in (1, 2)},
        "bob-1.WAV": SOUND, "bob-1.TXT": b"three", "bob-1.es.txt": b"tres", "bob-1.es.wav": SOUND,
        ".DS_Store": b"x"})
    train, report, dropped = read(downloads)
    assert read_table(train / "text") == {"anna-1": "one", "anna-5.01": "two", "anna-5.02": "two", "bob-1": "three"}
    assert read_table(train / "text.es") == {"bob-1": "tres"} and read_table(train / "wav.scp.es").keys() == {"bob-1"}
    assert sorted(path.name for path in train.glob("text.*")) == ["text.es"] and report["kept"] == 4 and not dropped
    (downloads / "train/.ipynb_checkpoints").mkdir()
    assert read(downloads)[1]["kept"] == 4


def test_every_lost_recording_is_named(downloads):
    write(downloads / "train", {
        "a.m4a": b"x", "a.txt": b"one", "b.wav": SOUND, "c.wav": SOUND, "c.txt": "caf\u00e9".encode("latin-1"),
        "d.wav": SOUND, "d.txt": b" ", "e.bak.txt": b"e", "caf\u00e9".encode("latin-1") + b".wav": SOUND})
    _, report, dropped = read(downloads)
    assert report["kept"] == 1 and report["rows"] == 7
    assert dropped == {"a": "no recording, but a file .m4a", "b": "recording without text", "c": "text is not UTF-8",
                       "d": "empty text", "e.bak": "text without recording", "'caf\\udce9'": "name is not UTF-8"}
    with pytest.raises(AudioPaLMError, match="train: 6 of 7 rows dropped"):
        read(downloads, 0.05)
