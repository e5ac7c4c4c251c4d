"""The kernels of packed documents. A plain version stands in for FlashAttention, which runs on a GPU only."""

import pytest
import torch

from audiopalm.lm import cuda_attention
from audiopalm.lm.attention import attend
from audiopalm.lm.cuda_attention import FlexAttention, VariableLengthAttention, document_blocks
from audiopalm.lm.packed_attention import dense_attention, packed_mask
from audiopalm.lm.packed_sizes import count_sizes, output_positions

LENGTH = 300


@pytest.fixture
def segments() -> torch.Tensor:
    """Long and short documents, padding at the end of a row, and a row of a single document."""
    rows = torch.zeros(3, LENGTH, dtype=torch.int64)
    rows[0, :130], rows[0, 130:135], rows[0, 135:136], rows[0, 136:290] = 1, 2, 3, 4
    rows[1] = 1
    rows[2, :10] = 1
    return rows


def heads(number: int) -> torch.Tensor:
    return torch.randn(3, number, LENGTH, 16)


def plain_varlen(queries, keys, values, starts, key_starts, longest, longest_key, scale, window_size, enable_gqa):
    """torch.nn.attention.varlen.varlen_attn, document by document; all tensors are `[tokens, heads, head_dim]`."""
    before, behind = window_size
    assert behind == 0 and enable_gqa and starts.dtype == torch.int32 and torch.equal(starts, key_starts)
    documents = []
    for start, end in zip(starts.tolist()[:-1], starts.tolist()[1:], strict=True):
        assert end - start <= longest
        if end > start:
            position = torch.arange(end - start)
            visible = position[None] <= position[:, None]
            if before >= 0:
                visible &= position[None] >= position[:, None] - before
            query, *shared = (part[start:end].transpose(0, 1)[None] for part in (queries, keys, values))
            key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in shared)
            bias = torch.zeros(visible.shape).masked_fill_(~visible, -torch.inf)
            documents.append(attend(query, key, value, bias, scale)[0].transpose(0, 1))
    return torch.cat(documents)


@pytest.mark.parametrize("window", [None, 20, 200])
def test_variable_length_attention_equals_attention_with_the_dense_mask(segments, monkeypatch, window):
    torch.manual_seed(0)
    monkeypatch.setattr(cuda_attention, "varlen_attn", plain_varlen)
    queries, keys, values = heads(4), heads(2), heads(2)
    expected = dense_attention(packed_mask(segments), window)[window is not None](queries, keys, values, 0.3, None)
    sizes = count_sizes(segments, segments)
    assert sizes == (8, LENGTH, 3 * LENGTH)
    attended = VariableLengthAttention(segments, sizes, window)(queries, keys, values, 0.3, None)
    torch.testing.assert_close(attended, expected)


@torch.inference_mode()
@pytest.mark.parametrize("window", [None, 20, 200])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_flex_attention_equals_attention_with_the_dense_mask(segments, window, cap):
    torch.manual_seed(0)
    queries, keys, values = heads(4), heads(2), heads(2)
    expected = dense_attention(packed_mask(segments), window)[window is not None](queries, keys, values, None, cap)
    attended = FlexAttention(segments, count_sizes(segments, segments), window)(queries, keys, values, None, cap)
    torch.testing.assert_close(attended, expected)
    blocks = document_blocks(segments, window).to_dense()[:, 0]
    assert blocks[0, 2, 0] == 0 and blocks[1, 2, 0] == (window is None or window > 128)  # another document; too far


def test_positions_of_outputs_are_padded_on_devices_that_the_host_must_not_wait_for():
    targets = torch.full((2, 100), -100)
    targets[0, 3], targets[1, 98:] = 7, 8
    sizes = count_sizes(torch.ones_like(targets), targets)
    positions, chosen = output_positions(targets, sizes)
    assert positions.tolist() == [3, 198, 199] and chosen.tolist() == [7, 8, 8]
    positions, chosen = output_positions(targets.to("meta"), sizes)
    assert len(positions) == len(chosen) == 128
