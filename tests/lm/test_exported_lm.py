"""The export of a language model in other programs: a padded batch in transformers, and CTranslate2."""

import numpy as np
import pytest
import torch
from commands import call
from packed import make_pack

from audiopalm.data.examples import Example
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import load_model
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import load_vocabulary

transformers = pytest.importorskip("transformers")
PROMPTS = ("[ASR Spanish]<audio_3>\n", "[ASR AST Spanish English]<audio_1><audio_5><audio_9><audio_2><audio_15>\n",
           "[MT Spanish English] uno dos tres\n")
TOKENS = 12


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(the export, the pack that it was made from)"""
    root = tmp_path_factory.mktemp("export")
    pack = make_pack(root / "pack")
    call("export", "--lm", pack / "lm", "--vocabulary", pack / "vocabulary", "--output", root / "hf")
    return root / "hf", pack


@pytest.fixture(scope="module")
def theirs(exported):
    return (transformers.AutoModelForCausalLM.from_pretrained(exported[0]).eval(),
            transformers.AutoTokenizer.from_pretrained(exported[0]))


@pytest.fixture(scope="module")
def alone(theirs):
    """The greedy ids of transformers for each prompt alone."""
    model, tokenizer = theirs
    prompts = [tokenizer(prompt, return_tensors="pt").input_ids for prompt in PROMPTS]
    return [model.generate(ids, max_new_tokens=TOKENS)[0, ids.shape[1]:].tolist() for ids in prompts]


def test_a_padded_batch_answers_as_each_prompt_alone(theirs, alone):
    model, tokenizer = theirs
    batch = tokenizer(list(PROMPTS), padding=True, return_tensors="pt")
    lengths = batch.attention_mask.sum(dim=1).tolist()
    assert len(set(lengths)) == len(PROMPTS) and batch.attention_mask[:, -1].all()  # padded, and on the left
    generated = model.generate(**batch, max_new_tokens=TOKENS)[:, batch.input_ids.shape[1]:].tolist()
    assert generated == alone and len(set(map(tuple, generated))) == len(PROMPTS)
    for prompt, length in zip(PROMPTS, lengths, strict=True):  # nothing is put in front of a prompt
        ids = tokenizer(prompt).input_ids
        assert len(ids) == length and tokenizer.bos_token_id not in ids
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.generation_config.pad_token_id
    assert tokenizer.bos_token_id == model.config.bos_token_id is not None


def test_a_prompt_has_the_ids_of_the_training_sequences(exported, theirs):
    builder = SequenceBuilder(*load_vocabulary(exported[1] / "vocabulary"))
    spoken = builder.prompt(get_task("asr"), Example("a", "es", None, {"audio": np.array([3])}))
    written = builder.prompt(get_task("mt"), Example("a", "es", "en", {"transcript": "uno dos tres"}))
    assert theirs[1](PROMPTS[0]).input_ids == spoken.tolist()
    assert theirs[1](PROMPTS[2]).input_ids == written.tolist()


def test_transformers_writes_the_same_ids(exported, theirs):
    """The task has a single part of text, because transformers does not know the grammar of tasks."""
    vocabulary, _ = load_vocabulary(exported[1] / "vocabulary")
    ours = load_model(exported[1] / "lm", vocabulary, "")
    model, tokenizer = theirs
    prompt = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    forbidden = [vocabulary.newline, *range(vocabulary.text_size, vocabulary.size)]
    generated = model.generate(prompt, max_new_tokens=TOKENS, suppress_tokens=forbidden)[0, prompt.shape[1]:].tolist()
    expected = generate(ours, [prompt[0].numpy()], get_task("asr"), vocabulary,
                        DecodingConfig(text_tokens=TOKENS))[0].parts[0]
    assert generated == expected.tolist()


@torch.inference_mode()
def test_ctranslate2_writes_the_same_ids(exported, theirs, alone, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    converter = ctranslate2.converters.TransformersConverter(str(exported[0]))
    converter.convert(str(tmp_path / "ct2"))
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), device="cpu", inter_threads=1, intra_threads=1)
    tokenizer = theirs[1]
    prompts = [tokenizer.convert_ids_to_tokens(tokenizer(prompt).input_ids) for prompt in PROMPTS]
    answers = generator.generate_batch(prompts, max_length=TOKENS, sampling_topk=1, include_prompt_in_result=False)
    assert [answer.sequences_ids[0] for answer in answers] == alone
