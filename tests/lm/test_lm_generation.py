"""Continuous batching, prompts in chunks, scores, sampling and limits of generation."""

import pytest
import torch
from decoders import FAMILIES, PROMPTS, SEEDS, VOCABULARY, contents, log_probability, tiny

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated, grammar
from audiopalm.lm.generation.sampling import generate
from audiopalm.tasks import get_task


def ids(answer: Generated) -> list[int]:
    """All tokens of an answer, with the ends of its parts."""
    *before, last = [part.tolist() for part in answer.parts]
    return [token for part in before for token in [*part, VOCABULARY.newline]] + [*last, VOCABULARY.eos]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_neither_batch_nor_order_changes_a_bit(family, temperature):
    """Ids and scores are the same where slots are reused, prompts come in another order, and the batch shrinks."""
    model, task = tiny(**FAMILIES[family]), get_task("ast+s2st")
    config = DecodingConfig(text_tokens=9, audio_tokens=25, audio_temperature=temperature)
    expected = [contents(generate(model, [prompt], task, VOCABULARY, config, [seed])[0])
                for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    assert len({len(answer[0][1]) for answer in expected}) > 2  # they end at different times
    for batch, order in ((2, -1), (3, 1), (7, -1)):
        answers = generate(model, PROMPTS[::order], task, VOCABULARY, config, SEEDS[::order], batch)
        assert [contents(answer) for answer in answers[::order]] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_plain_model_and_chunks_change_nothing(monkeypatch, family):
    model, task = tiny(**FAMILIES[family]), get_task("asr+ast+s2st")
    config = DecodingConfig(text_tokens=6, audio_tokens=20)
    whole = generate(model, PROMPTS, task, VOCABULARY, config)
    for prompt, answer in zip(PROMPTS, whole, strict=True):
        assert answer.score == pytest.approx(log_probability(model, prompt, ids(answer)), rel=1e-4)
        first = [*answer.parts[0].tolist(), VOCABULARY.newline]
        assert answer.part_scores[0] == pytest.approx(log_probability(model, prompt, first), rel=1e-4)
        assert sum(answer.part_scores) == pytest.approx(answer.score)
        assert answer.mean_scores()[0] == pytest.approx(answer.part_scores[0] / len(first))
    monkeypatch.setattr("audiopalm.lm.generation.cache.PREFILL_CHUNK", 7)
    for ours, expected in zip(generate(model, PROMPTS, task, VOCABULARY, config), whole, strict=True):
        assert ids(ours) == ids(expected) and ours.score == pytest.approx(expected.score, rel=1e-5)


@pytest.mark.parametrize("name, kind", [("tts", "audio"), ("mt", "text")])
def test_top_p_draws_from_the_nucleus(name, kind):
    """The nucleus is every token for which the more probable ones have less than top_p together."""
    model, task, prompt = tiny(), get_task(name), PROMPTS[1]
    positions = torch.arange(len(prompt))
    with torch.no_grad():
        mask = torch.ones(1, 1, len(prompt), len(prompt), dtype=torch.bool).tril()
        logits = model.logits(model.hidden(torch.from_numpy(prompt)[None], positions[None], mask))[0, -1]
    logits[~grammar(task, VOCABULARY)[0][0]] = -torch.inf
    shares, order = logits[logits.topk(6).indices].softmax(dim=0).sort(descending=True)
    before = shares.cumsum(dim=0) - shares
    nucleus = {int(logits.topk(6).indices[index]) for index in order[before < 0.7]}
    config = DecodingConfig(**{f"{kind}_tokens": 1, f"{kind}_temperature": 1.0, f"{kind}_top_k": 6,
                               f"{kind}_top_p": 0.7})
    drawn = {ids(answer)[0] for answer in generate(model, [prompt] * 120, task, VOCABULARY, config, range(120))}
    assert drawn == nucleus and 1 < len(nucleus) < 6


def test_limits_depend_on_the_length_of_the_input():
    model, task = tiny(), get_task("ast+s2st")
    config = DecodingConfig(text_tokens=4, audio_tokens=30, audio_tokens_per_input=0.5)
    for prompt, answer in zip(PROMPTS, generate(model, PROMPTS, task, VOCABULARY, config), strict=True):
        assert len(answer.parts[0]) <= 4 and len(answer.parts[1]) <= min(30, -(-len(prompt) // 2))
    longest = generate(model, PROMPTS, task, VOCABULARY, DecodingConfig(text_tokens=4, audio_tokens=30))
    assert any(len(answer.parts[1]) > -(-len(prompt) // 2) for prompt, answer in zip(PROMPTS, longest, strict=True))


def test_an_impossible_setting_is_refused_by_the_class():
    with pytest.raises(AudioPaLMError, match="decoding: beam: 100000 is too large; it must be at most 64"):
        DecodingConfig(beam=100000)
    with pytest.raises(AudioPaLMError, match="a beam does not sample, but beam is 4 and audio_temperature 0.8"):
        DecodingConfig(beam=4, audio_temperature=0.8)


@pytest.mark.parametrize("override", ["text_top_k=0", "audio_top_p=0", "audio_top_p=1.5", "beam=0", "beam=100000",
                                      "text_tokens=-1", "audio_tokens=1000000", "text_temperature=-1",
                                      "audio_temperature=.nan", "text_tokens_per_input=0"])
def test_an_impossible_setting_is_refused_on_the_command_line(override):
    key = override.partition("=")[0]
    with pytest.raises(AudioPaLMError, match=f"command line: {key}: .* is (too small|too large|not a finite number)"):
        load_config(DecodingConfig, overrides=[override])
