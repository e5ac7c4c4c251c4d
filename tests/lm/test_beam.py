"""Beam search against exhaustive search, against greedy decoding, and in batches."""

from itertools import product

import numpy as np
import pytest
from decoders import log_probability, tiny, tiny_vocabulary

from audiopalm.lm.generation.beam import beam_search
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.model import Decoder
from audiopalm.tasks import get_task

VOCABULARY = tiny_vocabulary(7, 3)
TEXT, AUDIO = [0, 1, 3, 4, 6], [7, 8, 9]
PROMPTS = [np.array(ids) for ids in ([0, 7, 8, 5], [1, 9, 9, 7, 7, 8, 5], [3, 7, 5], [4, 8, 9, 8, 5])]


@pytest.fixture(scope="module")
def model() -> Decoder:
    return tiny(10, spread=0.3)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_answers(model, penalty):
    """Text of at most 2 ids, then audio of at most 2 ids: 31 x 13 answers."""
    task = get_task("ast+s2st")
    config = DecodingConfig(text_tokens=2, audio_tokens=2, length_penalty=penalty)
    config.beam = 300  # more than is allowed, so that no hypothesis is dropped
    texts = [list(ids) for length in range(3) for ids in product(TEXT, repeat=length)]
    units = [list(ids) for length in range(3) for ids in product(AUDIO, repeat=length)]
    for prompt, answers in zip(PROMPTS, beam_search(model, PROMPTS, task, VOCABULARY, config), strict=True):
        scores = {}
        for text, audio in product(texts, units):
            answer = [*text, VOCABULARY.newline, *audio, VOCABULARY.eos]
            scores[tuple(text), tuple(audio)] = log_probability(model, prompt, answer) / len(answer) ** penalty
        best = sorted(scores, key=lambda parts: -scores[parts])[:10]
        assert [tuple(map(tuple, answer.parts)) for answer in answers[:10]] == best
        length = len(best[0][0]) + len(best[0][1]) + 2
        assert answers[0].score == pytest.approx(scores[best[0]] * length ** penalty, rel=1e-4)
        assert len(answers) == 300


def test_a_beam_of_one_is_greedy(model):
    task, config = get_task("asr+ast+s2st"), DecodingConfig(text_tokens=6, audio_tokens=9)
    greedy = generate(model, PROMPTS, task, VOCABULARY, config)
    searched = beam_search(model, PROMPTS, task, VOCABULARY, config)
    for answer, (best,) in zip(greedy, searched, strict=True):
        assert [part.tolist() for part in answer.parts] == [part.tolist() for part in best.parts]
        assert answer.truncated == best.truncated and answer.score == pytest.approx(best.score, rel=1e-5)


def test_a_prompt_has_the_same_answers_in_a_batch_and_alone(model):
    task, config = get_task("asr+ast"), DecodingConfig(text_tokens=8, beam=4)
    together = beam_search(model, PROMPTS, task, VOCABULARY, config)
    assert len({tuple(map(tuple, answers[0].parts)) for answers in together}) > 1
    for batch in (4, 8, 12):  # a batch of one, two and three prompts
        again = beam_search(model, PROMPTS[::-1], task, VOCABULARY, config, batch)[::-1]
        assert list(map(contents, again)) == list(map(contents, together))
    for prompt, answers in zip(PROMPTS, together, strict=True):
        (alone,) = beam_search(model, [prompt], task, VOCABULARY, config)
        assert contents(answers) == contents(alone)
        for answer in answers:
            ids = [*answer.parts[0], VOCABULARY.newline, *answer.parts[1], VOCABULARY.eos]
            assert answer.score == pytest.approx(log_probability(model, prompt, ids), rel=1e-4)
            first = log_probability(model, prompt, [*answer.parts[0], VOCABULARY.newline])
            assert answer.part_scores == pytest.approx([first, answer.score - first], rel=1e-4, abs=1e-4)


def contents(answers: list[Generated]) -> list[tuple]:
    return [([part.tolist() for part in answer.parts], answer.score) for answer in answers]
