"""Stage 1 of the embedded corpus: on its recordings, and on a tiny corpus that the test writes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from commands import command

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.corpora.mini import SETS, MiniCorpus, check_sums, prepare
from audiopalm.corpora.voices import load_voices
from audiopalm.data.datadir import read_table

CORPUS = Path(__file__).parents[2] / "egs" / "mini" / "corpus"
LANGUAGES = ("en", "es", "fr", "it", "ru")


def parse(value):
    fields = value.split()
    return [(fields[i], float(fields[i + 1]), float(fields[i + 2])) for i in range(0, len(fields), 3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    output = tmp_path_factory.mktemp("data")
    return output, prepare(ReaderOptions(CORPUS, output, output))


def test_the_report_counts_what_was_written(data):
    output, report = data
    assert json.loads((output / "report.json").read_text()) == report
    for name in SETS:
        entry = report[name]
        assert entry["kept"] == len(read_table(output / name / "text")) > 0
        assert entry["rows"] == entry["kept"] + sum(entry["dropped"].values())
    for name, size in (("train", 2470), ("dev", 100), ("test", 100)):
        languages = [value for key, value in read_table(output / name / "utt2lang").items() if "-prompt_" not in key]
        assert {language: languages.count(language) for language in LANGUAGES} == dict.fromkeys(LANGUAGES, size)


def test_no_dev_or_test_text_occurs_in_training(data):
    output, _ = data
    train: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    for name in ("text", *(f"text.{language}" for language in LANGUAGES)):
        own = read_table(output / "train" / "utt2lang")
        for key, text in read_table(output / "train" / name).items():
            train[own[key] if name == "text" else name[5:]].add(text)
    for other in ("dev", "test", "test_unseen", "test_prompts"):
        own = read_table(output / other / "utt2lang")
        for key, text in read_table(output / other / "text").items():
            assert text not in train[own[key]], (other, key, text)


def test_segments_lie_inside_their_recordings(data):
    output, _ = data
    for name in SETS:
        recordings = read_table(output / name / "wav.scp")
        lengths = {key: soundfile.info(path).duration for key, path in recordings.items()}
        for table in ("segments", *(f"segments.{language}" for language in LANGUAGES)):
            for key, value in read_table(output / name / table).items():
                for recording, start, end in parse(value):
                    assert 0 <= start < end <= lengths[recording], (name, table, key)


def test_tables_agree_and_speakers_prefix_their_utterances(data):
    output, _ = data
    for name in SETS:
        directory = output / name
        keys = list(read_table(directory / "text"))
        assert keys == sorted(keys, key=str.encode)
        speakers, languages = read_table(directory / "utt2spk"), read_table(directory / "utt2lang")
        assert list(speakers) == list(languages) == list(read_table(directory / "segments")) == keys
        assert all(key.startswith(f"{speakers[key]}-{languages[key]}-") for key in keys)
        for language in LANGUAGES:
            assert set(read_table(directory / f"segments.{language}")) <= set(keys)
            assert all(languages[key] != language for key in read_table(directory / f"text.{language}"))


def test_composed_sentences_have_all_four_translations_spoken(data):
    output, _ = data
    own = read_table(output / "test" / "utt2lang")
    for language in LANGUAGES:
        others = {key for key in own if own[key] != language}
        assert set(read_table(output / "test" / f"text.{language}")) == others
        assert set(read_table(output / "test" / f"segments.{language}")) == others


def test_translations_of_the_test_set_are_in_the_same_voice_where_it_speaks_the_language(data):
    """Elsewhere the translation is the utterance of the set that says the same in that language."""
    output, _ = data
    spoken = {(voice.speaker, voice.language) for voice in load_voices(CORPUS)}
    speakers, segments = read_table(output / "test" / "utt2spk"), read_table(output / "test" / "segments")
    said = {tuple(key.split("-", 2)[1:]): value for key, value in segments.items()}
    pairs = 0
    for language in LANGUAGES:
        for key, value in read_table(output / "test" / f"segments.{language}").items():
            if (speakers[key], language) in spoken:
                pairs += 1
                assert {cut[0] for cut in parse(value)} == {f"{speakers[key]}-{language}"}
            else:
                assert value == said[language, key.split("-", 2)[2]]
    assert pairs > 350


def test_translations_of_the_training_set_are_in_one_voice_for_each_language(data):
    output, _ = data
    core = {voice.language: voice.recording for voice in load_voices(CORPUS) if voice.core}
    for language in LANGUAGES:
        cuts = [cut for value in read_table(output / "train" / f"segments.{language}").values() for cut in parse(value)]
        assert len(cuts) > 20000 and {cut[0] for cut in cuts} == {core[language]}


def test_unseen_voices_are_in_no_training_set(data):
    output, _ = data
    unseen = {voice.speaker for voice in load_voices(CORPUS) if voice.unseen}
    assert set(read_table(output / "test_unseen" / "utt2spk").values()) == unseen and len(unseen) >= 2
    for name in ("train", "dev", "test", "test_prompts"):
        assert not unseen & set(read_table(output / name / "utt2spk").values())
        for language in LANGUAGES:
            heard = {cut[0] for value in read_table(output / name / f"segments.{language}").values()
                     for cut in parse(value)}
            assert not {f"{speaker}-{language}" for speaker in unseen} & heard


def test_prompts_are_split_by_id_and_those_of_the_test_set_are_in_no_sentence(data):
    output, _ = data
    grammar = MiniCorpus(CORPUS).grammar
    train, test = ({key.split("-", 2)[2] for key in read_table(output / name / "text") if "-prompt_" in key}
                   for name in ("train", "test_prompts"))
    assert not train & test and 0.15 < len(test) / len(train | test) < 0.25
    composed = {clip for language in LANGUAGES for clip in grammar.all_clips(language)}
    assert not test & {f"prompt_{re.sub('[/-]', '_', clip)}" for clip in composed}


def test_the_recordings_have_their_checksums_and_less_than_40_mib():
    check_sums(CORPUS / "recordings")
    assert sum(path.stat().st_size for path in (CORPUS / "recordings").iterdir()) < 40 * 2**20


def tiny_corpus(root: Path) -> Path:
    """A corpus for `MiniCorpus` of two languages with a speaker each and a single template."""
    (root / "transcripts").mkdir(parents=True)
    (root / "recordings").mkdir()
    words = {"en": "zero one two three four five six seven eight nine".split(),
             "es": "cero uno dos tres cuatro cinco seis siete ocho nueve".split()}
    segments = []
    for language, speaker in (("en", "ann"), ("es", "eva")):
        lines = [f"digits/{number} {word}" for number, word in enumerate(words[language])]
        extra = [f"extra{number} {word}{word}" for number, word in enumerate(words[language])]
        (root / "transcripts" / f"{language}.txt").write_text("\n".join(lines + extra) + "\n")
        samples = np.random.default_rng(0).normal(0, 0.1, 16000 * 5)
        soundfile.write(root / "recordings" / f"{speaker}-{language}.ogg", samples, 16000, format="OGG", subtype="OPUS")
        for number, line in enumerate(lines + extra):
            segments.append(f"{speaker}-{language}-{line.split()[0]} {speaker}-{language} "
                            f"{number * 0.2:.2f} {number * 0.2 + 0.1:.2f}")
    (root / "recordings" / "segments").write_text("\n".join(segments) + "\n")
    (root / "recordings" / "left_out").write_text("")
    numbers = {"recorded": "0-9", "otherwise": ""}
    (root / "grammar.yaml").write_text(yaml.safe_dump({
        "languages": ["en", "es"], "seed": 1, "sets": {"train": 60, "dev": 10, "test": 10},
        "numbers": {"en": numbers, "es": numbers}, "slots": {"two": {"digits": 2}},
        "templates": {"code": {"share": 1, "say": {"all": "{two} {two}"}}}}))
    (root / "voices.yaml").write_text(yaml.safe_dump({
        "human": [{"speaker": "ann", "language": "en", "core": True},
                  {"speaker": "eva", "language": "es", "core": True},
                  {"speaker": "eva", "language": "en", "unseen": True}],
        "kokoro": {"languages": [], "unseen": [], "voices": {}}}))
    with open(root / "recordings" / "segments", "a") as stream:
        for number in range(10):
            stream.write(f"eva-en-digits/{number} ann-en {number * 0.2:.2f} {number * 0.2 + 0.1:.2f}\n")
    names = ("ann-en.ogg", "eva-es.ogg", "segments")
    sums = "".join(f"{sha256(root / 'recordings' / name)}  {name}\n" for name in names)
    (root / "recordings" / "SHA256SUMS").write_text(sums)
    return root


def run_prepare(source: Path, output: Path):
    return command("prepare", "--corpus", "mini", "--downloads", source, "--output", output)


def test_the_command_cuts_the_digits_of_a_tiny_corpus(tmp_path):
    result = run_prepare(tiny_corpus(tmp_path / "corpus"), tmp_path / "data")
    assert result.returncode == 0, result.stderr
    texts = read_table(tmp_path / "data" / "dev" / "text")
    assert len(texts) == 20
    for key, text in texts.items():
        digits = key.rsplit("_", 1)[1]
        if key.startswith("ann-en-"):
            assert len(text.split()) == 4 and text.split()[:2] == text.split()[2:]
            cuts = parse(read_table(tmp_path / "data" / "dev" / "segments")[key])
            assert [round(cut[1] / 0.2) for cut in cuts] == [int(digit) for digit in digits * 2]


@pytest.mark.parametrize("damage", ["missing", "corrupted"])
def test_missing_or_corrupted_recordings_are_refused_in_one_line(tmp_path, damage):
    corpus = tiny_corpus(tmp_path / "corpus")
    recording = corpus / "recordings" / "eva-es.ogg"
    if damage == "missing":
        recording.unlink()
    else:
        recording.write_bytes(recording.read_bytes()[:-7])
    result = run_prepare(corpus, tmp_path / "data")
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and "eva-es.ogg" in errors[0] and "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_segment_of_an_unlisted_grammar_clip_is_an_error(tmp_path):
    corpus = tiny_corpus(tmp_path / "corpus")
    grammar = yaml.safe_load((corpus / "grammar.yaml").read_text())
    grammar["templates"]["code"]["say"]["all"] = "{two} nowhere"
    (corpus / "grammar.yaml").write_text(yaml.safe_dump(grammar))
    with pytest.raises(AudioPaLMError, match="'nowhere' has no transcript in en"):
        prepare(ReaderOptions(corpus, tmp_path / "data", tmp_path))
