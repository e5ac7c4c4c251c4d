"""The dialogue of Fish Fillets NG from a miniature of its packages, through the command of stage 1."""

import pytest
from miniatures.sound import wav
from preparing import prepare

from audiopalm.core.files import read_json
from audiopalm.corpora.fillets import plain
from audiopalm.data.datadir import read_table

LINES = {"cs": "Co je to za \\\"divnou\\\" loď?", "nl": "Wat voor raar schip is dat?"}


def make_fillets(downloads) -> None:
    """Ten levels in the packages of scripts, Czech and Dutch, each package unpacked into a folder of its own."""
    for number in range(10):
        level = f"level{number}"
        script = downloads / "data/usr/share/games/fillets-ng/script" / level
        script.mkdir(parents=True)
        (script / "dialogs_en.lua").write_text("")
        for code, text in LINES.items():
            same = 0 if number in (3, 4) else number  # a line of dev is in train too
            (script / f"dialogs_{code}.lua").write_text(
                f'dialogId("a", "font_small",\n  "What kind of ship is {same}?")\ndialogStr(\n"{text} {same}")\n'
                f'dialogId("b", "font_big", "A sound")\ndialogStr("[noise]")\n'
                'dialogId("c", "font_big", "Only shown")\ndialogStr("Only shown")\n', encoding="utf-8")
            for name in "ab":
                file = downloads / code / "usr/share/games/fillets-ng/sound" / level / code / f"{name}.ogg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(wav(16000, "PCM_16"))


def test_lines_become_utterances_and_no_line_of_dev_or_test_is_in_train(tmp_path):
    make_fillets(tmp_path / "in")
    result = prepare("fillets", tmp_path / "in", tmp_path / "out", "--max_drop", "0.9")
    assert result.returncode == 0, result.stderr
    dev = tmp_path / "out/dev"
    assert read_table(dev / "text") == {"cs-small-level4-a": "co je to za divnou loď 0",
                                        "nl-small-level4-a": "wat voor raar schip is dat 0"}
    assert read_table(dev / "text.en")["nl-small-level4-a"] == "what kind of ship is 0"
    assert read_table(dev / "utt2lang") == {"cs-small-level4-a": "cs", "nl-small-level4-a": "nl"}
    assert read_table(dev / "utt2spk")["cs-small-level4-a"] == "cs-small"
    train = read_json(tmp_path / "out/train/report.json")
    # level0 and level3 say the line of level4
    assert train["kept"] == 12 and train["dropped"] == {"no text": 16, "line of dev or test": 4}
    assert list(read_table(tmp_path / "out/test/text")) == ["cs-small-level9-a", "nl-small-level9-a"]


@pytest.mark.parametrize("package, message", [
    ("data", "does not hold the scripts of the Debian package fillets-ng-data"),
    ("nl", "no speech in nl: the package fillets-ng-data-nl is missing"),
])
def test_a_missing_package_is_named(tmp_path, package, message):
    make_fillets(tmp_path / "in")
    (tmp_path / "in" / package).rename(tmp_path / "elsewhere")
    result = prepare("fillets", tmp_path / "in", tmp_path / "out", "--max_drop", "0.9")
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr


def test_strings_lose_escapes_and_punctuation():
    assert plain("Zo'n „vis“ – in C:\\\\\\\\WINDOWS!") == "zo'n vis in c windows"
