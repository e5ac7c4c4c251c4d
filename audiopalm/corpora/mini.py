"""Stage 1 for the embedded corpus: Kaldi data directories from recordings, transcripts and a grammar.

`segments` is generalised: one utterance id, then one or more `recording start end` triples joined in order; with one
triple it is a plain Kaldi file. `segments.<language>` holds the spoken translation of an utterance, under its own id.
"""

import functools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require, sha256, write_json
from audiopalm.corpora import paraphrases
from audiopalm.corpora.grammar import Grammar, Sentence
from audiopalm.corpora.voices import Voice, load_voices
from audiopalm.data.datadir import invert, read_table, write_table

CORE_SHARE = 0.45  # of the sentences, by the core speakers; the other voices share the rest
TEST_PROMPTS = 0.2  # of all prompt ids
SETS = ("train", "dev", "test", "test_unseen", "test_prompts")

Cut = tuple[str, float, float]  # recording, start and end in seconds


@dataclass
class Utterance:
    id: str
    speaker: str
    language: str
    cuts: list[Cut]
    texts: dict[str, str]
    translations: dict[str, list[Cut]]

    @property
    def seconds(self) -> float:
        return sum(end - start for _, start, end in self.cuts)


@dataclass
class DataSet:
    utterances: list[Utterance] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)


class Recordings:
    """Where each voice says each clip; made from a checked `recordings` folder."""

    def __init__(self, corpus: str | Path):
        self.folder = require(Path(corpus) / "recordings")
        check_sums(self.folder)
        self.cuts: dict[str, tuple[str, float, float]] = {}
        for key, value in read_table(self.folder / "segments").items():
            recording, start, end = value.split()
            self.cuts[key] = (recording, float(start), float(end))

    def cut(self, voice: Voice, clip: str) -> Cut | None:
        return self.cuts.get(f"{voice.recording}-{clip}")

    def cuts_of(self, voice: Voice, clips: Iterable[str]) -> list[Cut] | None:
        """The cuts that speak the clips in order, or None where the voice lacks one."""
        cuts = [self.cut(voice, clip) for clip in clips]
        return None if None in cuts else cuts


def check_sums(folder: Path) -> None:
    """Compare every file listed in SHA256SUMS; raises AudioPaLMError for the first that is missing or differs."""
    for line in require(folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split()
        if not (folder / name).exists():
            raise AudioPaLMError(f"{folder / name} is missing; get the repository's recordings again")
        if sha256(folder / name) != expected:
            raise AudioPaLMError(f"{folder / name} does not match its checksum in {folder / 'SHA256SUMS'}")


class MiniCorpus:
    """Chooses who says what; `build` gives the five sets."""

    def __init__(self, corpus: str | Path):
        self.grammar = Grammar(corpus)
        self.recordings = Recordings(corpus)
        self.voices = load_voices(corpus)
        self.core = {voice.language: voice for voice in self.voices if voice.core}
        self._training_voice = functools.cache(self._choose_training_voice)

    def build(self) -> dict[str, DataSet]:
        sets = {name: DataSet() for name in SETS}
        sample = self.grammar.sample()
        for name, sentences in sample.items():
            for sentence in sentences:
                for language in self.grammar.languages:
                    voice = self._training_voice(sentence, language)
                    self._add(sets[name], sentence, voice, None if name == "train" else voice.speaker)
        for sentence in sample["test"]:
            for voice in self.voices:
                if voice.unseen:
                    self._add(sets["test_unseen"], sentence, voice, voice.speaker)
        composed = {name: {(language, utterance.texts[language]) for utterance in sets[name].utterances
                           for language in self.grammar.languages} for name in ("dev", "test")}
        self._add_prompts(sets["train"], sets["test_prompts"], composed["dev"] | composed["test"])
        for data in sets.values():
            data.utterances.sort(key=lambda utterance: utterance.id.encode())
        return sets

    def _add(self, data: DataSet, sentence: Sentence, voice: Voice, translator: str | None) -> None:
        cuts = self.recordings.cuts_of(voice, self.grammar.clips(sentence, voice.language))
        if cuts is None:
            data.dropped["clip not recorded by the voice"] += 1
            return
        texts = {language: self.grammar.text(sentence, language) for language in self.grammar.languages}
        translations = {}
        for language in self.grammar.languages:
            if language != voice.language:
                translations[language] = self._spoken_translation(sentence, translator, language)
        identifier = f"{voice.speaker}-{voice.language}-{sentence.id}"
        data.utterances.append(Utterance(identifier, voice.speaker, voice.language, cuts, texts, translations))

    def _spoken_translation(self, sentence: Sentence, speaker: str | None, language: str) -> list[Cut]:
        """By the same speaker where he or she speaks the language, else by the voice that says it in the set.

        Without a speaker, as in training, by the core speaker of the language: one voice for all, as CVSS-C has it. The
        language model learns what to say; the voice comes from the prompt of the acoustic model.
        """
        clips = self.grammar.clips(sentence, language)
        if speaker is None:
            return self.recordings.cuts_of(self.core[language], clips)
        for voice in self.voices:
            if voice.speaker == speaker and voice.language == language:
                cuts = self.recordings.cuts_of(voice, clips)
                if cuts is not None:
                    return cuts
        return self.recordings.cuts_of(self._training_voice(sentence, language), clips)

    def _choose_training_voice(self, sentence: Sentence, language: str) -> Voice:
        """The core speaker or another training voice that can say the sentence; the same choice on every call.

        The draw does not depend on the language: a Kokoro voice that says a sentence in one of its languages says it
        in all, so that source and translation share their audio files.
        """
        core = self.core[language]
        draw = random.Random(f"{self.grammar.seed} voice {sentence.id}")
        others = [voice for voice in self.voices if voice.language == language and not voice.core
                  and not voice.unseen and self.recordings.cuts_of(voice, self.grammar.clips(sentence, language))]
        if others and draw.random() >= CORE_SHARE:
            return draw.choice(others)
        return core

    def _add_prompts(self, train: DataSet, test: DataSet, taken: set[tuple[str, str]]) -> None:
        """The core speakers' uncut prompts: a fifth of the ids to test, the others to train."""
        chosen = self._test_prompts()
        left_out = read_table(self.recordings.folder / "left_out")
        for language, voice in self.core.items():
            for clip, text in self.grammar.transcripts[language].items():
                data = test if clip in chosen else train
                cut = self.recordings.cut(voice, clip)
                if cut is None:
                    data.dropped[f"prompt {left_out[f'{voice.recording}-{clip}']}"] += 1
                elif data is train and (language, text) in taken:
                    data.dropped["prompt is a dev or test sentence"] += 1
                else:
                    data.utterances.append(self._prompt(voice, clip, cut))

    def _prompt(self, voice: Voice, clip: str, cut: Cut) -> Utterance:
        texts = {language: transcripts[clip] for language, transcripts in self.grammar.transcripts.items()
                 if clip in transcripts}
        translations = {language: [self.recordings.cut(self.core[language], clip)] for language in texts
                        if language != voice.language and self.recordings.cut(self.core[language], clip)}
        identifier = f"{voice.speaker}-{voice.language}-prompt_{clip.replace('/', '_').replace('-', '_')}"
        return Utterance(identifier, voice.speaker, voice.language, [cut], texts, translations)

    def _test_prompts(self) -> set[str]:
        """Ids of the test prompts. Ids whose texts are equal in some language stay on one side."""
        group: dict[str, str] = {}

        def find(clip: str) -> str:
            while group.setdefault(clip, clip) != clip:
                clip = group[clip]
            return clip

        for transcripts in self.grammar.transcripts.values():
            first_with: dict[str, str] = {}
            for clip, text in transcripts.items():
                group[find(clip)] = find(first_with.setdefault(text, clip))
        composed = {find(clip) for language in self.grammar.languages for clip in self.grammar.all_clips(language)}
        members: dict[str, list[str]] = {}
        for clip in sorted(group):
            members.setdefault(find(clip), []).append(clip)
        candidates = sorted(root for root in members if root not in composed)
        random.Random(f"{self.grammar.seed} prompts").shuffle(candidates)
        chosen: set[str] = set()
        for root in candidates:
            if len(chosen) + len(members[root]) <= TEST_PROMPTS * len(group):
                chosen.update(members[root])
        return chosen


def write_set(directory: Path, data: DataSet, folder: Path, languages: list[str]) -> dict:
    """Write one Kaldi data directory; return its report (rows, drops, hours, speakers, seconds)."""
    rows = data.utterances
    if not rows:
        raise AudioPaLMError(f"{directory.name}: no utterances; are the recordings there?")
    used = {cut[0] for row in rows for cuts in [row.cuts, *row.translations.values()] for cut in cuts}
    write_table(directory / "wav.scp", {name: str(folder / f"{name}.ogg") for name in used})
    write_table(directory / "segments", {row.id: format_cuts(row.cuts) for row in rows})
    write_table(directory / "text", {row.id: row.texts[row.language] for row in rows})
    for language in languages:
        write_table(directory / f"text.{language}",
                    {row.id: row.texts[language] for row in rows if language in row.texts and language != row.language})
        write_table(directory / f"segments.{language}",
                    {row.id: format_cuts(row.translations[language]) for row in rows if language in row.translations})
    utt2spk = {row.id: row.speaker for row in rows}
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "utt2lang", {row.id: row.language for row in rows})
    seconds = [row.seconds for row in rows]
    return {
        "rows": len(rows) + data.dropped.total(),
        "kept": len(rows),
        "dropped": dict(sorted(data.dropped.items())),
        "hours": round(sum(seconds) / 3600, 3),
        "languages": dict(sorted(Counter(row.language for row in rows).items())),
        "speakers": dict(sorted(Counter(row.speaker for row in rows).items())),
        "seconds": {"min": round(min(seconds), 2), "mean": round(sum(seconds) / len(seconds), 2),
                    "max": round(max(seconds), 2)},
    }


def format_cuts(cuts: list[Cut]) -> str:
    return " ".join(f"{recording} {start:.2f} {end:.2f}" for recording, start, end in cuts)


def prepare(source: str | Path, output: str | Path, languages: Sequence[str] = (), unpacked: str | Path | None = None,
            max_drop: float = 0.0) -> dict:
    """Write <output>/{train,dev,test,test_unseen,test_prompts} and <output>/report.json; return the report.

    A corpus with paraphrases.yaml gets texts without speech too: <output>/texts/{train,dev} and test_paraphrase. There
    is nothing to unpack, and no recording is dropped. Raises AudioPaLMError when a file of the corpus is missing or
    does not match its checksum, and for `languages`: all of them are always made.
    """
    if languages:
        raise AudioPaLMError("the embedded corpus has no --langs: its sentences are in all its languages at once")
    corpus = MiniCorpus(source)
    report = {name: write_set(Path(output) / name, data, corpus.recordings.folder, corpus.grammar.languages)
              for name, data in corpus.build().items()}
    if (Path(source) / paraphrases.FILE).exists():
        report |= paraphrases.write_sets(source, output)
    write_json(Path(output) / "report.json", report)
    return report
