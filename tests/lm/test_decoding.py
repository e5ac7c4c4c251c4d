"""Rescoring takes the answer of a beam whose speech the model itself recognises best."""

import numpy as np
import pytest
from decoders import log_probability, tiny, tiny_vocabulary

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.examples import Example
from audiopalm.lm.generation import rescoring
from audiopalm.lm.generation.beam import beam_search
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.rescoring import decode_batch, decode_n_best, recognition_scores
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.model import Decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import AUDIO, TRANSCRIPT, get_task

VOCABULARY = tiny_vocabulary(40, 12)
CONFIG = DecodingConfig(text_tokens=5, audio_tokens=7, beam=6, rescore=True)


class Letters:
    """A tokenizer of single letters. It decodes each id as a word of one letter."""

    def encode(self, text):
        return [10 + ord(letter) % 30 for letter in text if letter != " "]

    def decode(self, ids):
        return " ".join(chr(97 + (int(token) - 97 + 20) % 30) for token in ids)


@pytest.fixture(scope="module")
def model() -> Decoder:
    return tiny(52, seed=1, spread=0.3)


@pytest.fixture(scope="module")
def builder() -> SequenceBuilder:
    return SequenceBuilder(VOCABULARY, Letters())


def examples(task) -> list[Example]:
    random = np.random.default_rng(0)
    given = ["one two", "three", "four five six"] if task.input == TRANSCRIPT else [
        random.integers(0, 12, length) for length in (5, 9, 14)]
    source = "en" if task.input == TRANSCRIPT else "es"
    return [Example(f"u{number}", source, None if source == "en" else "en", {task.input: value})
            for number, value in enumerate(given)]


def recognition_score(model, builder, units, text, language="en") -> float:
    """The log probability of the text after these units, computed without batch and cache."""
    prompt = builder.prompt(get_task("asr"), Example("", language, None, {AUDIO: units}))
    return log_probability(model, prompt, [*builder.text(text), VOCABULARY.eos])


def test_recognition_scores_are_log_probabilities_of_the_text(model, builder):
    units = [np.array([1, 4, 4]), np.array([11]), np.array([], dtype=int), np.arange(9)]
    expected = [recognition_score(model, builder, ids, "some words") for ids in units]
    scores = recognition_scores(model, builder, units, "some words", "en")
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


@pytest.mark.parametrize("name, part", [("tts", 0), ("s2st", 0), ("ast+s2st", 1)])
def test_the_answer_that_is_recognised_best_is_taken(model, builder, name, part):
    task = get_task(name)
    given = examples(task)
    prompts = [builder.prompt(task, example) for example in given]
    beams = beam_search(model, prompts, task, VOCABULARY, CONFIG)
    if name == "tts":
        texts = [example.fields[TRANSCRIPT] for example in given]
    elif name == "s2st":
        translate = get_task("ast")
        answers = generate(model, [builder.prompt(translate, example) for example in given], translate, VOCABULARY,
                           CONFIG)
        texts = [Letters().decode(answer.parts[0]) for answer in answers]
    else:
        texts = [Letters().decode(answers[0].parts[0]) for answers in beams]
    best = []
    for text, answers in zip(texts, beams, strict=True):
        scores = [recognition_score(model, builder, answer.parts[part] - 40, text) for answer in answers]
        best.append(answers[int(np.argmax(scores))])
    chosen = decode_batch(model, builder, task, given, CONFIG)
    for ours, expected in zip(chosen, best, strict=True):
        assert [part_ids.tolist() for part_ids in ours.parts] == [part_ids.tolist() for part_ids in expected.parts]
    first = [answers[0].parts[part].tolist() for answers in beams]
    assert [answer.parts[part].tolist() for answer in chosen] != first  # rescoring has changed the choice


def test_rescoring_without_a_beam_is_refused(model, builder):
    task = get_task("tts")
    with pytest.raises(AudioPaLMError, match="rescore chooses .* beam is 1; give beam=8"):
        decode_batch(model, builder, task, examples(task), DecodingConfig(5, 7, beam=1, rescore=True))


def test_text_answers_are_not_rescored(model, builder):
    task = get_task("asr")
    settings = [DecodingConfig(5, 7, beam=4, rescore=rescore) for rescore in (False, True)]
    plain, rescored = (decode_n_best(model, builder, task, examples(task), config) for config in settings)
    assert [[answer.score for answer in answers] for answers in rescored] == \
        [[answer.score for answer in answers] for answers in plain]


def test_rescoring_uses_at_most_the_batch_size(model, builder, monkeypatch):
    task, sizes = get_task("s2st"), []
    whole = decode_batch(model, builder, task, examples(task), CONFIG)
    real = rescoring.recognition_scores

    def counted(model, builder, units, *rest):
        sizes.append(len(units))
        return real(model, builder, units, *rest)

    monkeypatch.setattr(rescoring, "recognition_scores", counted)
    rescored = decode_n_best(model, builder, task, examples(task), CONFIG, batch_size=4)
    assert max(sizes) == 4
    assert [best.score for best, *_ in rescored] == pytest.approx([answer.score for answer in whole])


@pytest.mark.parametrize("beam", [1, 3])
def test_true_parts_stand_in_the_place_of_the_models_own(model, builder, beam):
    task, config = get_task("asr+ast"), DecodingConfig(text_tokens=5, beam=beam, true_parts=1)
    given = [Example(example.utterance, "es", "en", example.fields | {TRANSCRIPT: text})
             for example, text in zip(examples(task), ("one two", "three", "four five six"), strict=True)]
    for example, answer in zip(given, decode_batch(model, builder, task, given, config), strict=True):
        transcript = builder.text(example.fields[TRANSCRIPT])
        assert answer.parts[0].tolist() == transcript.tolist() and len(answer.parts) == 2
        if not answer.truncated:
            prompt = np.concatenate([builder.prompt(task, example), transcript, [VOCABULARY.newline]])
            expected = log_probability(model, prompt, [*answer.parts[1], VOCABULARY.eos])
            assert answer.score == pytest.approx(expected, abs=1e-4)
    for wanted, settings, fields in (("leaves no part of 'asr\\+ast'", {"true_parts": 2}, {}),
                                     ("needs the transcript of u0", {"true_parts": 1}, {TRANSCRIPT: None})):
        known = {key: value for key, value in given[0].fields.items() if key not in fields}
        lacking = [Example("u0", "es", "en", known)]
        with pytest.raises(AudioPaLMError, match=wanted):
            decode_batch(model, builder, task, lacking, DecodingConfig(**settings))


def test_a_record_names_true_parts_only_where_there_are_any():
    """Decodes from before this setting stay finished."""
    assert "true_parts" not in DecodingConfig(beam=2).record() and DecodingConfig(beam=2).record()["beam"] == 2
    assert DecodingConfig(true_parts=1).record()["true_parts"] == 1
