"""CoVoST 2 on Common Voice 4, from miniatures in the official layouts, through the command of stage 1."""

from pathlib import Path

import pytest
from miniatures.archives import lay_out, pack
from miniatures.covost2 import CLIENT, DAMAGED, PLAIN, clip_name, common_voice, covost2_table, make_covost2
from preparing import AWKWARD, check_set, errors_of, format_audio, prepare, read_reasons, snapshot

from audiopalm.core.files import read_json
from audiopalm.corpora import covost2
from audiopalm.corpora.common_voice import VALIDATED
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.data.datadir import read_table


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("language", ["fr", "sv-SE"])
def test_data_directories_have_the_rows_and_texts_of_the_tables(tmp_path, language, unpacked):
    downloads, output = tmp_path / AWKWARD, tmp_path / AWKWARD / "data"
    kept_texts, dropped = make_covost2(downloads, language, unpacked)
    result = prepare("covost2", downloads, output, "--langs", language)
    assert result.returncode == 0, result.stderr
    for name, texts in kept_texts.items():
        check_set(output / name, texts, dropped[name], silent=tuple(f"_{number}" for number in DAMAGED))
        translations = read_table(output / name / "text.en")
        for key, value in translations.items():
            number = int(key.rsplit("_", 1)[1])
            assert value == (f"{number}." if number in DAMAGED else PLAIN[number][1])
        assert len(translations) == len(texts)
        assert set(read_table(output / name / "utt2lang").values()) == {language[:2]}
    assert "rows of train, dev, test; published are" in result.stderr
    assert f"rows of validated.tsv; published are {VALIDATED[language]}" in result.stderr
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/evil.txt").exists()
    before = snapshot(output)
    assert prepare("covost2", downloads, output, "--langs", language).returncode == 0
    assert snapshot(output) == before


def test_every_lost_row_is_named(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    assert prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr").returncode == 0
    names = {reason: name for name, reason in read_reasons(tmp_path / "data/train/dropped.tsv")}
    assert names["clip missing"] == clip_name("fr", 40) and names["clip of zero bytes"] == clip_name("fr", 41)
    assert names["empty sentence"] == clip_name("fr", 42) and names["path appears twice"] == clip_name("fr", 1)
    assert names["unknown split 'dev_covost'"] == clip_name("fr", 45)
    assert names["row of 9 columns instead of 8"] == "validated.tsv:24"
    assert names["row of 4 columns instead of 3"] == "covost_v2.fr_en.tsv:23"
    assert names["invalid id"].endswith("common voice")
    assert names["not in validated.tsv"] == clip_name("fr", 46)


def test_texts_of_tables_without_a_bad_line_are_unchanged(tmp_path):
    """Arrow reads such tables, while those of the miniature are read row by row."""
    lay_out(tmp_path / "fr", {f"clips/{clip_name('fr', number)}": b"x" for number in PLAIN})
    for path, header, line in (
            (tmp_path / "fr/validated.tsv", "client_id\tpath\tsentence", "a\t{name}\t{row[0]}"),
            (tmp_path / "covost_v2.fr_en.tsv", "path\ttranslation\tsplit", "{name}\t{row[1]}\t{row[2]}")):
        lines = [line.format(name=clip_name("fr", number), row=row) for number, row in PLAIN.items()]
        path.write_bytes("\n".join([header, *lines]).encode())
    covost2.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["fr"], 0.0))
    for column, table in enumerate(("text", "text.en")):
        values = {int(key.rsplit("_", 1)[1]): value for name in ("train", "dev", "test")
                  for key, value in read_table(tmp_path / "data" / name / table).items()}
        assert values == {number: row[column] for number, row in PLAIN.items()}


def test_speakers_whose_ids_begin_alike_are_told_apart(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    assert prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr").returncode == 0
    speakers = {int(key.rsplit("_", 1)[1]): value for key, value in read_table(tmp_path / "data/train/utt2spk").items()}
    assert speakers[1] == speakers[4] == f"fr-{CLIENT.format(1)[:16]}"
    assert speakers[10] == f"fr-{CLIENT.format(1)[:-1]}f"
    dev = read_table(tmp_path / "data/dev/utt2spk")
    assert set(dev.values()) == {f"fr-{CLIENT.format(2)[:16]}"} == {speakers[2], speakers[5], speakers[8]}


def test_stage_2_removes_clips_whose_damage_only_decoding_shows(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    assert prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr").returncode == 0
    removed = format_audio(tmp_path / "data/train", tmp_path / "raw")
    assert {int(key.rsplit("_", 1)[1]): reason for key, reason in removed.items()} == {
        **{number: reason for number, reason in DAMAGED.items() if reason}, 8: "more than 40 characters a second"}
    seconds = {int(key.rsplit("_", 1)[1]): float(value)
               for key, value in read_table(tmp_path / "raw/utt2dur").items()}
    assert seconds[53] == pytest.approx(1.0, abs=0.05) and len(seconds) == 10


@pytest.mark.parametrize("archive, folder", [
    ("", "sv-SE/"), ("", "cv-corpus-4-2019-12-10/sv-SE/"), ("", "cv-corpus-4-2019-12-10-sv-SE/"),
    ("", "cv-corpus-4-2019-12-10-sv-SE/sv-SE/"), ("", ""), ("sv-SE.tar.gz", ""), ("sv-SE.tar.gz", "sv-SE/"),
    ("sv-SE.tar.gz", "cv-corpus-4-2019-12-10/sv-SE/"),
    ("cv-corpus-4-2019-12-10-sv-SE.tar.gz", "cv-corpus-4-2019-12-10/sv-SE/")])
def test_common_voice_is_read_in_every_layout(tmp_path, archive, folder):
    files = {folder + name: content for name, content in common_voice("sv-SE").items()}
    if archive:
        pack(tmp_path / archive, files)
    else:
        lay_out(tmp_path, files)
    (tmp_path / "covost_v2.sv-SE_en.tsv").write_bytes(covost2_table("sv-SE"))
    report = covost2.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["sv-SE"], 0.9))
    assert report["train"]["kept"] == 15


def test_a_flat_folder_of_another_language_is_not_taken(tmp_path):
    lay_out(tmp_path, common_voice("fr"))
    pack(tmp_path / "sv-SE.tar.gz", common_voice("sv-SE"))
    (tmp_path / "covost_v2.sv-SE_en.tsv").write_bytes(covost2_table("sv-SE"))
    report = covost2.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["sv-SE"], 0.9))
    assert report["train"]["kept"] == 15


def test_tables_may_lie_in_a_folder_of_their_own(tmp_path):
    lay_out(tmp_path / "fr", common_voice("fr"))
    pack(tmp_path / "covost2/covost_v2.fr_en.tsv.tar.gz", {"covost_v2.fr_en.tsv": covost2_table("fr")})
    assert prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr").returncode == 0


def test_an_archive_without_its_table_is_refused(tmp_path):
    pack(tmp_path / "covost_v2.fr_en.tsv.tar.gz", {"other.tsv": b"x"})
    assert "holds no covost_v2.fr_en.tsv" in errors_of(prepare("covost2", tmp_path, tmp_path / "d", "--langs", "fr"))
    pack(tmp_path / "covost_v2.fr_en.tsv.tar.gz", {"covost_v2.fr_en.tsv": covost2_table("fr")})
    pack(tmp_path / "fr.tar.gz", {"clips/a.mp3": b"x"})
    assert "holds no validated.tsv" in errors_of(prepare("covost2", tmp_path, tmp_path / "d", "--langs", "fr"))


def test_all_21_languages_into_english_are_prepared(tmp_path):
    for language in covost2.INTO_ENGLISH:
        clip = clip_name(language, 1)
        rows = "".join(f"{language}{number}\t{clip.replace('_1.', f'_{number}.')}\tSentence.\t2\t0\t\t\t\n"
                       for number in range(3))
        lay_out(tmp_path / "cv-corpus-4-2019-12-10" / language, {
            "validated.tsv": ("client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n" + rows).encode(),
            **{f"clips/{clip_name(language, number)}": b"not read in stage 1" for number in range(3)}})
        lay_out(tmp_path, {f"covost_v2.{language}_en.tsv": ("path\ttranslation\tsplit\n" + "".join(
            f"{clip_name(language, number)}\tText.\t{name}\n"
            for number, name in enumerate(("train", "dev", "test")))).encode()})
    assert prepare("covost2", tmp_path, tmp_path / "data").returncode == 0
    found = read_json(tmp_path / "data/report.json")["test"]
    assert found["languages"] == dict.fromkeys(sorted(map(covost2.short_code, covost2.INTO_ENGLISH)), 1)
    assert len(found["languages"]) == 21


def test_english_is_prepared_with_translations_into_15_languages(tmp_path):
    """Rows of one clip in several tables are one utterance. An empty translation does not drop the utterance."""
    lay_out(tmp_path / "en", common_voice("en"))
    rows = [f"{clip_name('en', 1)}\tText.\ttrain", f"{clip_name('en', 20)}\tText.\tdev"]
    night = clip_name("en", 31)
    for target in covost2.FROM_ENGLISH:
        more = {"de": [f"{clip_name('en', 30)}\t\ttest", f"{night}\tNacht.\ttest"], "ja": [f"{night}\t \ttest"]}
        lines = ["path\ttranslation\tsplit", *rows, *more.get(target, [f"{night}\t夜.\ttest"])]
        (tmp_path / f"covost_v2.en_{target}.tsv").write_text("\n".join(lines), encoding="utf-8")
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "en")
    assert result.returncode == 0, result.stderr
    report = read_json(tmp_path / "data/train/report.json")
    assert report["translations"] == dict.fromkeys(sorted(map(covost2.short_code, covost2.FROM_ENGLISH)), 1)
    assert len(report["translations"]) == 15
    assert list(read_table(tmp_path / "data/test/text.zh").values()) == ["夜."]
    report = read_json(tmp_path / "data/test/report.json")
    assert report["kept"] == 1 and report["dropped"] == {"empty translation": 1}
    assert report["lacking"] == {"translation into ja": 1}
    assert read_reasons(tmp_path / "data/test/lacking.tsv") == [[night, "translation into ja"]]


def test_the_first_table_decides_the_set_of_a_clip(tmp_path):
    """With the translation of the second table, which has the clip in another set, training would see test data."""
    lay_out(tmp_path / "en", common_voice("en"))
    first, second, third, fourth = (clip_name("en", number) for number in (1, 20, 30, 31))
    tables = {"de": [f"{first}\tEins.\ttrain", f"{second}\tZwei.\tdev", f"{third}\tDrei.\ttest"],
              "tr": [f"{third}\tÜç.\ttrain_covost", f"{fourth}\tDört.\ttest", f"{first}\tBir.\ttrain_covost"]}
    for target, rows in tables.items():
        (tmp_path / f"covost_v2.en_{target}.tsv").write_text("\n".join(["path\ttranslation\tsplit", *rows]),
                                                             encoding="utf-8")
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "en")
    assert result.returncode == 0, result.stderr
    assert "the table into tr has 1 of 3 clips in another set than the table before it" in result.stderr
    assert read_reasons(tmp_path / "data/test/lacking.tsv") == [
        [third, "translation into tr, where it is in another set"]]
    assert list(read_table(tmp_path / "data/train/text.tr").values()) == ["Bir."]
    assert list(read_table(tmp_path / "data/test/text.tr").values()) == ["Dört."]
    assert list(read_table(tmp_path / "data/test/text.de").values()) == ["Drei."]
    report = read_json(tmp_path / "data/report.json")
    assert [report[name]["kept"] for name in ("train", "dev", "test")] == [1, 1, 2]

