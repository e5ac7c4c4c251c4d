"""Stage 1 for the embedded corpus: Kaldi data directories from recordings, transcripts and a grammar.

A line of `segments` may have several cuts: an utterance id, then one or more `recording start end`, which are joined in
order. With one cut per line it is a plain Kaldi file. `segments.<language>` holds the spoken translation of an
utterance, under the id of the utterance.
"""

import functools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require, sha256, write_json
from audiopalm.corpora import paraphrases
from audiopalm.corpora.data_set import Cut, DataSet, ReaderOptions, Utterance
from audiopalm.corpora.grammar import Grammar, Sentence
from audiopalm.corpora.voices import Voice, load_voices
from audiopalm.data.datadir import invert, read_table, write_table

CORE_SHARE = 0.45  # fraction of the sentences that the core speakers speak; the other voices share the rest
TEST_PROMPTS = 0.2  # fraction of all prompt ids
SETS = ("train", "dev", "test", "test_unseen", "test_prompts")


class Recordings:
    """The cut of each clip in the recording of each voice, from a `recordings` folder, whose checksums are compared."""

    def __init__(self, corpus: str | Path):
        self.folder = require(Path(corpus) / "recordings")
        check_sums(self.folder)
        self.cuts: dict[str, Cut] = {}
        for key, value in read_table(self.folder / "segments").items():
            recording, start, end = value.split()
            self.cuts[key] = Cut(self.folder / f"{recording}.ogg", float(start), float(end))

    def cut(self, voice: Voice, clip: str) -> Cut | None:
        """The cut in which the voice speaks the clip; None where the voice lacks the clip."""
        return self.cuts.get(f"{voice.recording}-{clip}")

    def cuts_of(self, voice: Voice, clips: Iterable[str]) -> list[Cut] | None:
        """The cuts that speak the clips in order; None where the voice lacks a clip."""
        cuts = []
        for clip in clips:
            cut = self.cut(voice, clip)
            if cut is None:
                return None
            cuts.append(cut)
        return cuts


def check_sums(folder: Path) -> None:
    """Compare every file listed in SHA256SUMS; raises AudioPaLMError for the first that is missing or differs."""
    for line in require(folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split()
        if not (folder / name).exists():
            raise AudioPaLMError(f"{folder / name} is missing; get the repository's recordings again")
        if sha256(folder / name) != expected:
            raise AudioPaLMError(f"{folder / name} does not match its checksum in {folder / 'SHA256SUMS'}")


class MiniCorpus:
    """Chooses the voice of each sentence; `build` returns the five sets."""

    def __init__(self, corpus: str | Path):
        self.grammar = Grammar(corpus)
        self.recordings = Recordings(corpus)
        self.voices = load_voices(corpus)
        self.core = {voice.language: voice for voice in self.voices if voice.core}
        self._training_voice = functools.cache(self._choose_training_voice)

    def build(self) -> dict[str, DataSet]:
        """{set: its utterances, sorted by id}; the same on every call."""
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
        held_out = {pair for name in ("dev", "test") for utterance in sets[name].utterances
                    for pair in [(utterance.language, utterance.text), *utterance.translations.items()]}
        self._add_prompts(sets["train"], sets["test_prompts"], held_out)
        for data in sets.values():
            data.utterances.sort(key=lambda utterance: utterance.id.encode())
        return sets

    def _add(self, data: DataSet, sentence: Sentence, voice: Voice, translator: str | None) -> None:
        """Add a sentence spoken by a voice, with its translations spoken by `translator`, see `_spoken_translation`."""
        identifier = f"{voice.speaker}-{voice.language}-{sentence.id}"
        cuts = self.recordings.cuts_of(voice, self.grammar.clips(sentence, voice.language))
        if cuts is None:
            data.account.drop(identifier, "clip not recorded by the voice")
            return
        texts = {language: self.grammar.text(sentence, language) for language in self.grammar.languages}
        spoken = {language: self._spoken_translation(sentence, translator, language)
                  for language in self.grammar.languages if language != voice.language}
        data.utterances.append(_utterance(identifier, voice, cuts, texts, spoken))

    def _spoken_translation(self, sentence: Sentence, speaker: str | None, language: str) -> list[Cut]:
        """The cuts of a sentence by the speaker if he or she speaks the language, otherwise by its training voice.

        Without a speaker, as in training, the core speaker of the language speaks: one voice for all, as in CVSS-C. The
        language model learns the words; the voice comes from the voice prompt of the acoustic model. Raises
        AudioPaLMError where the recordings lack a clip.
        """
        clips = self.grammar.clips(sentence, language)
        if speaker is None:
            voices = [self.core[language]]
        else:
            voices = [*(voice for voice in self.voices if voice.speaker == speaker and voice.language == language),
                      self._training_voice(sentence, language)]
        for voice in voices:
            cuts = self.recordings.cuts_of(voice, clips)
            if cuts is not None:
                return cuts
        raise AudioPaLMError(f"{self.recordings.folder}: {voices[-1].recording} lacks a clip of the sentence "
                             f"{sentence.id}; get the repository's recordings again")

    def _choose_training_voice(self, sentence: Sentence, language: str) -> Voice:
        """The core speaker or another training voice that can speak the sentence; the same choice on every call.

        The draw does not depend on the language: a Kokoro voice that speaks a sentence in one of its languages speaks
        it in all, so that source and translation share their audio files.
        """
        core = self.core[language]
        draw = random.Random(f"{self.grammar.seed} voice {sentence.id}")
        others = [voice for voice in self.voices if voice.language == language and not voice.core
                  and not voice.unseen and self.recordings.cuts_of(voice, self.grammar.clips(sentence, language))]
        if others and draw.random() >= CORE_SHARE:
            return draw.choice(others)
        return core

    def _add_prompts(self, train: DataSet, test: DataSet, taken: set[tuple[str, str]]) -> None:
        """Add the core speakers' uncut prompts: a fifth of the ids to test, the others to train.

        Prompts whose (language, text) is in `taken` are left out of train.
        """
        chosen = self._test_prompts()
        left_out = read_table(self.recordings.folder / "left_out")
        for language, voice in self.core.items():
            for clip, text in self.grammar.transcripts[language].items():
                data = test if clip in chosen else train
                cut = self.recordings.cut(voice, clip)
                if cut is None:
                    data.account.drop(clip, f"prompt {left_out[f'{voice.recording}-{clip}']}")
                elif data is train and (language, text) in taken:
                    data.account.drop(clip, "prompt is a dev or test sentence")
                else:
                    data.utterances.append(self._prompt(voice, clip, cut))

    def _prompt(self, voice: Voice, clip: str, cut: Cut) -> Utterance:
        """The utterance of a prompt, with the same prompt by the core speakers of the other languages."""
        texts = {language: transcripts[clip] for language, transcripts in self.grammar.transcripts.items()
                 if clip in transcripts}
        spoken = {language: [other] for language in texts if language != voice.language
                  and (other := self.recordings.cut(self.core[language], clip)) is not None}
        identifier = f"{voice.speaker}-{voice.language}-prompt_{clip.replace('/', '_').replace('-', '_')}"
        return _utterance(identifier, voice, [cut], texts, spoken)

    def _test_prompts(self) -> set[str]:
        """The ids of the test prompts. Ids whose texts are equal in some language are all in test, or all in train."""
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


def _utterance(identifier: str, voice: Voice, cuts: list[Cut], texts: dict[str, str],
               spoken: dict[str, list[Cut]]) -> Utterance:
    """An utterance of a voice. texts: {language: text}, its own included. spoken: {language: cuts of a translation}."""
    return Utterance(identifier, voice.speaker, voice.language, cuts[0].path, texts[voice.language], cuts=cuts,
                     translations={language: text for language, text in texts.items() if language != voice.language},
                     spoken_cuts=spoken, seconds=sum(cut.end - cut.start for cut in cuts))


def write_set(directory: Path, data: DataSet, languages: list[str]) -> dict[str, Any]:
    """Write one Kaldi data directory; return its report (rows, drops, hours, speakers, seconds).

    Raises AudioPaLMError for a set without utterances.
    """
    rows = data.utterances
    if not rows:
        raise AudioPaLMError(f"{directory.name}: no utterances; are the recordings there?")
    used = {cut.path for row in rows for cuts in [row.cuts, *row.spoken_cuts.values()] for cut in cuts}
    write_table(directory / "wav.scp", {path.stem: str(path) for path in used})
    write_table(directory / "segments", {row.id: format_cuts(row.cuts) for row in rows})
    write_table(directory / "text", {row.id: row.text for row in rows})
    for language in languages:
        write_table(directory / f"text.{language}",
                    {row.id: row.translations[language] for row in rows if language in row.translations})
        write_table(directory / f"segments.{language}",
                    {row.id: format_cuts(row.spoken_cuts[language]) for row in rows if language in row.spoken_cuts})
    utt2spk = {row.id: row.speaker for row in rows}
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "utt2lang", {row.id: row.language for row in rows})
    seconds = [row.seconds or 0.0 for row in rows]
    return {
        "rows": len(rows) + len(data.account.dropped),
        "kept": len(rows),
        "dropped": dict(sorted(data.account.reasons.items())),
        "hours": round(sum(seconds) / 3600, 3),
        "languages": dict(sorted(Counter(row.language for row in rows).items())),
        "speakers": dict(sorted(Counter(row.speaker for row in rows).items())),
        "seconds": {"min": round(min(seconds), 2), "mean": round(sum(seconds) / len(seconds), 2),
                    "max": round(max(seconds), 2)},
    }


def format_cuts(cuts: Sequence[Cut]) -> str:
    """The value of a line of `segments`."""
    return " ".join(f"{cut.path.stem} {cut.start:.2f} {cut.end:.2f}" for cut in cuts)


def prepare(options: ReaderOptions) -> dict[str, Any]:
    """Write <output>/{train,dev,test,test_unseen,test_prompts} and <output>/report.json; return the report.

    A corpus with paraphrases.yaml gets texts without speech, too: <output>/texts/{train,dev} and test_paraphrase.
    Nothing is unpacked or dropped. Raises AudioPaLMError when a file of the corpus is missing or does not match its
    checksum, and if languages are named, because all languages are always made.
    """
    if options.languages:
        raise AudioPaLMError("the embedded corpus has no --langs: its sentences are in all its languages at once")
    corpus, output = MiniCorpus(options.downloads), options.output
    report = {name: write_set(output / name, data, corpus.grammar.languages)
              for name, data in corpus.build().items()}
    if (options.downloads / paraphrases.FILE).exists():
        report |= paraphrases.write_sets(options.downloads, output)
    write_json(output / "report.json", report)
    return report
