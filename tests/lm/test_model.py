"""The decoder: documents of a row are independent, the cache changes nothing, the extension changes no old logit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from decoders import VOCABULARY, tiny
from torch._dynamo.testing import CompileCounter

from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate, sampling_seeds
from audiopalm.lm.model import Decoder
from audiopalm.lm.packing import collate
from audiopalm.lm.sequences import Sequence
from audiopalm.lm.storage import extend_vocabulary
from audiopalm.tasks import get_task
from audiopalm.training.optimizer import OptimizerConfig, UpdateGroup, make_optimizers


def sequences(lengths: list[int]) -> list[Sequence]:
    random = np.random.default_rng(0)
    return [Sequence(f"u{i}", random.integers(0, 50, n), np.arange(n) >= n // 2) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("options", [{}, {"parallel_block": True}, {"tied": False}, {"scale_embedding": True}])
def test_documents_have_the_same_loss_and_gradients_packed_and_alone(options):
    """Loss and gradients of three documents in one row are those of the three alone."""
    model, documents = tiny(**options), sequences([9, 14, 6])
    packed = collate([documents], 32)
    loss, count = model(packed.ids, packed.segments, packed.positions, packed.targets)
    loss.backward()
    gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    alone = 0.0
    for document in documents:
        batch = collate([[document]], 16)
        part, _ = model(batch.ids, batch.segments, batch.positions, batch.targets)
        part.backward()
        alone += float(part.detach())
    assert count == sum(document.is_output.sum() for document in documents)
    assert float(loss) == pytest.approx(alone, rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradient[name], rtol=1e-3, atol=1e-5)


def test_logits_in_pieces_have_the_loss_and_gradients_of_the_whole(monkeypatch):
    batch, results = collate([sequences([20, 17]), sequences([31])], 40), []
    for logits in (2 ** 26, 50 * 7):  # 33 outputs, 7 at a time
        monkeypatch.setattr("audiopalm.lm.model.MAX_LOGITS", logits)
        model = tiny()
        loss, count = model(batch.ids, batch.segments, batch.positions, batch.targets)
        loss.backward()
        results.append([loss.detach(), count, *(parameter.grad for parameter in model.parameters())])
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)


def test_recomputed_blocks_have_the_same_loss_and_gradients():
    batch, results = collate([sequences([20, 17]), sequences([31])], 40), []
    for recompute in (False, True):
        model = tiny(dropout=0.3).train()
        model.recompute = recompute
        torch.manual_seed(5)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            loss, _ = model(batch.ids, batch.segments, batch.positions, batch.targets)
        loss.backward()
        results.append((loss.detach(), [parameter.grad for parameter in model.parameters()], sum(saved)))
    (whole, expected, numbers), (again, gradients, fewer) = results
    assert torch.equal(whole, again) and all(map(torch.equal, expected, gradients))
    assert fewer < numbers / 3


def test_another_document_in_the_row_does_not_change_hidden_states():
    from audiopalm.lm.packed_attention import packed_mask
    model, (first, second, third) = tiny(), sequences([9, 14, 14])
    states = []
    for other in (second, third):
        batch = collate([[first, other]], 32)
        states.append(model.hidden(batch.ids, batch.positions, packed_mask(batch.segments))[0, :9])
    torch.testing.assert_close(*states, rtol=0, atol=1e-6)


def test_the_extension_leaves_old_logits_unchanged_bit_for_bit():
    text_lm = tiny(size=30)
    extended = extend_vocabulary(text_lm, 20).eval()
    ids = torch.randint(0, 30, (2, 11))
    positions, mask = torch.arange(11).expand(2, 11), torch.ones(11, 11, dtype=torch.bool).tril()
    before = text_lm.hidden(ids, positions, mask)
    after = extended.hidden(ids, positions, mask)
    assert torch.equal(before, after)
    assert torch.equal(F.linear(before, text_lm.head_weight), F.linear(after, extended.head_weight[:30]))
    assert torch.count_nonzero(extended.embedding.weight[30:]) == 0


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_the_first_step_after_the_extension_changes_all_weights(name):
    """The gradient of the first norm is huge at a zero row. The other weights must learn in that step all the same."""
    model = extend_vocabulary(tiny(size=30), 20)
    ids = torch.cat([torch.randint(30, 50, (2, 8)), torch.randint(0, 30, (2, 8))], dim=1)
    targets = torch.where(torch.arange(16) >= 8, ids.roll(-1, 1), -100)
    loss, count = model(ids, torch.ones_like(ids), torch.arange(16).expand(2, 16), targets)
    (loss / count).backward()
    group = UpdateGroup(model, make_optimizers(OptimizerConfig(name), model), lambda step: 2e-3,
                        clip_apart=("embedding",))
    group.clip_gradients()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert norms["embedding.weight"] <= 1.001
    assert norms["blocks.1.mlp.down.weight"] > 1e-3
    group.update(0)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    assert torch.count_nonzero(model.embedding.weight[30:]) > 0


def uncached(model: Decoder, prompt: np.ndarray, steps: int, allowed: torch.Tensor) -> list[int]:
    """Greedy decoding of a row by its definition, without a cache."""
    ids = list(prompt)
    for _ in range(steps):
        row = torch.tensor([ids])
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        logits = F.linear(model.hidden(row, torch.arange(len(ids))[None], mask)[0, -1], model.head_weight)
        ids.append(int(logits.masked_fill(~allowed, -torch.inf).argmax()))
        if ids[-1] == VOCABULARY.eos:
            break
    return ids[len(prompt):]


@torch.inference_mode()
def test_greedy_answers_are_the_same_in_a_batch_alone_and_without_cache():
    model, task = tiny(), get_task("s2st")
    prompts = [document.ids for document in sequences([7, 19, 12, 3])]
    config = DecodingConfig(audio_tokens=25)
    together = generate(model, prompts, task, VOCABULARY, config)
    allowed = torch.zeros(50, dtype=torch.bool)
    allowed[30:] = allowed[VOCABULARY.eos] = True
    for prompt, answer in zip(prompts, together, strict=True):
        single = generate(model, [prompt], task, VOCABULARY, config)[0]
        assert answer.parts[0].tolist() == single.parts[0].tolist()
        plain = uncached(model, prompt, 25, allowed)
        assert answer.parts[0].tolist() == [token for token in plain if token != VOCABULARY.eos]


def test_parts_of_a_combined_task_have_their_modalities_and_limits():
    model, task = tiny(), get_task("asr+ast+s2st")
    prompts = [document.ids for document in sequences([7, 19])]
    for temperature in (0.0, 1.0):
        config = DecodingConfig(text_tokens=5, audio_tokens=8, audio_temperature=temperature)
        for answer in generate(model, prompts, task, VOCABULARY, config, [1, 2]):
            assert len(answer.parts) == 3
            assert all((part < 30).all() and len(part) <= 5 for part in answer.parts[:2])
            assert (answer.parts[2] >= 30).all() and len(answer.parts[2]) <= 8


def test_a_sampled_answer_depends_on_the_utterance_and_not_on_the_batch():
    model, task = tiny(), get_task("s2st")
    prompts = [document.ids for document in sequences([7, 7])]
    config = DecodingConfig(audio_tokens=20, audio_temperature=1.5)
    both = generate(model, prompts, task, VOCABULARY, config, sampling_seeds("ab", 1))
    second = generate(model, prompts[1:], task, VOCABULARY, config, sampling_seeds("b", 1))[0]
    other_seed = generate(model, prompts[1:], task, VOCABULARY, config, sampling_seeds("b", 2))[0]
    assert both[1].parts[0].tolist() == second.parts[0].tolist() != other_seed.parts[0].tolist()


def test_compiled_blocks_compute_the_same_and_are_compiled_once():
    """The backend runs the graphs as they are. New documents must not need new ones."""
    counter = CompileCounter()
    model = tiny(window=9, local_layers=[0])
    losses = []
    for compiled in (False, True):
        if compiled:
            model.compile_blocks(backend=counter)
        for seed in range(3):
            batch = collate([[document] for document in sequences([30 + seed, 40])], 64)
            loss, _ = model(batch.ids, batch.segments, batch.positions, batch.targets)
            losses.append(float(loss.detach()))
            if compiled and seed == 0:
                once = counter.frame_count
    assert losses[3:] == pytest.approx(losses[:3]) and counter.frame_count == once > 0
