"""The decoder for generation: a KV cache with one slot per sequence, filled by prefill and decode steps.

`CachedDecoder` computes the hidden states of `Decoder.hidden`, either for one prompt (prefill, in chunks) or for one
new token in every slot (decode step). It has no gradients. On a CPU in float32, cpu/kernels.py computes the attention
of a decode step.

A sequence starts at offset 0 of its slot, and no shape depends on the other slots. On a CPU in float32 a sequence
therefore has the same result, bit for bit, in any batch.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiopalm.lm.attention import attend, attend_one, attention_bias
from audiopalm.lm.generation.cpu import kernels
from audiopalm.lm.generation.cpu.linear import MIN_ROWS
from audiopalm.lm.generation.layers import PackedLayer, fast_norm, packed_weights
from audiopalm.lm.model import Decoder, ModelConfig, RopeScaling, rotary_tables

PREFILL_CHUNK = 256  # prompt tokens computed at once, which limits the rows of the attention mask
MIN_KEYS, KEY_BLOCK = 64, 32  # attention lengths are rounded up to these, so that a row's sums do not depend on others
AttendLayer = Callable[[int, PackedLayer, Tensor], Tensor]  # (index, layer, projected) -> attention output


class CachedDecoder:
    """A decoder with a KV cache of `slots` slots, each with a capacity of at least `capacity` tokens.

    `keys` and `values` hold one tensor per layer, `[slots * kv_heads, capacity, head_dim]`, allocated once. At least
    MIN_ROWS slots are allocated; the first `active_slots` of them hold sequences.

    A token's position is its offset in its slot, unless positions are given with the tokens. Given positions must be
    below `max_position` or below the capacity.
    """

    def __init__(self, model: Decoder, slots: int, capacity: int, max_position: int = 0):
        model.eval()
        config = self.config = model.config
        self.device, dtype = model.embedding.weight.device, model.embedding.weight.dtype
        self.active_slots, self.slots, self.capacity = slots, max(slots, MIN_ROWS), round_up_keys(capacity)
        self.embedding = model.embedding.weight
        self.layers, self.head = packed_weights(model)
        self.use_cpu_kernels = self.device.type == "cpu" and dtype == torch.float32
        self.norm = fast_norm(model.norm)
        shape = (self.slots * config.kv_heads, self.capacity, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=self.device) for _ in self.layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=self.device) for _ in self.layers]
        self.offsets = torch.arange(self.capacity, device=self.device)
        theta = config.local_rope_theta or config.rope_theta
        scaling = config.rope_scaling if config.local_rope_theta is None else None
        positions = torch.arange(max(self.capacity, max_position), device=self.device)
        # {whether a layer is local: its cosines and sines}
        self.rotary = {False: _rotary(positions, config, config.rope_theta, config.rope_scaling)}
        if config.local_layers:
            self.rotary[True] = _rotary(positions, config, theta, scaling)
        # Where each head of each slot begins in a cache tensor that is viewed as [-1, head_dim].
        self._slot_offsets = torch.arange(self.slots * config.kv_heads, device=self.device) * self.capacity

    def prefill(self, slot: int, prompt: Tensor, positions: Tensor | None = None) -> Tensor:
        """Fill `slot` with a prompt, int64 `[T]` with T >= 1. Returns the hidden state `[dim]` of its last token."""
        positions = self.offsets if positions is None else positions
        for start in range(0, len(prompt), PREFILL_CHUNK):
            ids = prompt[start:start + PREFILL_CHUNK].to(self.device, non_blocking=True)
            hidden = self._prefill_chunk(slot, start, ids, positions[start:start + len(ids)])
        return hidden[-1]

    def _prefill_chunk(self, slot: int, start: int, ids: Tensor, positions: Tensor) -> Tensor:
        """Hidden states `[T, dim]` of the tokens `ids` `[T]` at the offsets from `start` on."""
        config, end = self.config, start + len(ids)
        queries_at = self.offsets[start:end, None]
        visible = self.offsets[None, :end] <= queries_at
        biases = {False: attention_bias(visible)}
        if config.local_layers:
            biases[True] = attention_bias(visible & (self.offsets[:end] > queries_at - config.window))
        heads = slice(slot * config.kv_heads, (slot + 1) * config.kv_heads)

        def attend_chunk(index: int, layer: PackedLayer, projected: Tensor) -> Tensor:
            local = index in config.local_layers
            keys, values = self.keys[index][heads], self.values[index][heads]
            cosine, sine = (table.index_select(0, positions) for table in self.rotary[local])
            queries, new_keys, new_values = layer.split_rotated(projected, cosine, sine)
            keys[:, start:end], values[:, start:end] = new_keys.transpose(0, 1), new_values.transpose(0, 1)
            return self._attend_chunk(queries, keys[:, :end], values[:, :end], biases[local], layer)

        return self._run_layers(ids, attend_chunk)

    def _attend_chunk(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, layer: PackedLayer) -> Tensor:
        """Attention output `[T, heads, head_dim]` of a chunk.

        queries: `[T, heads, head_dim]`. keys, values: `[kv_heads, S, head_dim]`. bias: `[T, S]`. On a CPU, keys are
        repeated for every query head. On other devices, the query heads of a key head become rows.
        """
        queries, cap = queries.transpose(0, 1), self.config.attention_cap
        if self.device.type == "cpu":
            keys, values = (heads.repeat_interleave(layer.groups, dim=0) for heads in (keys, values))
            return attend(queries[None], keys[None], values[None], bias, layer.scale, cap)[0].transpose(0, 1)
        rows = queries.reshape(len(keys), -1, layer.head_dim)
        output = attend(rows[None], keys[None], values[None], bias.repeat(layer.groups, 1), layer.scale, cap)[0]
        return output.reshape(queries.shape).transpose(0, 1)

    def step(self, tokens: Tensor, lengths: list[int] | Tensor, positions: Tensor | None = None,
             num_keys: int | None = None) -> Tensor:
        """One decode step: append `tokens`, int64 `[slots]`, and return their hidden states `[slots, dim]`.

        lengths: the number of tokens in each slot before the step. Inactive slots also need a token and a length. With
        lengths as a tensor, int64 `[slots]`, `num_keys` must be given: an upper bound of the tokens of a slot after the
        step, so that the host need not read the lengths.
        """
        offsets = lengths if isinstance(lengths, Tensor) else torch.tensor(lengths).to(self.device, non_blocking=True)
        positions = offsets if positions is None else positions
        if self.use_cpu_kernels:
            return self._run_layers(tokens, self._cpu_attention(offsets, positions))
        num_keys = round_up_keys(max(lengths) + 1) if num_keys is None else num_keys
        return self._run_layers(tokens, self._torch_attention(num_keys, offsets, positions))

    def _run_layers(self, ids: Tensor, attend: AttendLayer) -> Tensor:
        """Final hidden states `[N, dim]` of ids `[N]`."""
        scale = self.config.dim ** 0.5 if self.config.scale_embedding else 1.0
        x = F.embedding(ids, self.embedding) * scale
        for index, layer in enumerate(self.layers):
            x = layer(x, partial(attend, index, layer))
        return self.norm(x)

    def _cpu_attention(self, offsets: Tensor, positions: Tensor) -> AttendLayer:
        """Attention of a decode step by the CPU kernel. The new tokens are at `offsets`, int64 `[slots]`."""
        config, lengths = self.config, offsets.numpy()
        rotary = {local: [table.index_select(0, positions)[:, 0].numpy() for table in tables]
                  for local, tables in self.rotary.items()}
        windows = {False: self.capacity, True: config.window or self.capacity}

        def attend_step(index: int, layer: PackedLayer, projected: Tensor) -> Tensor:
            local = index in config.local_layers
            cosines, sines = rotary[local]
            output = torch.empty(projected.shape[0], layer.heads * layer.head_dim)
            kernels.attend_step(projected.numpy(), layer.heads, cosines, sines, self.keys[index].numpy(),
                                self.values[index].numpy(), lengths, windows[local], np.float32(layer.scale),
                                np.float32(config.attention_cap or 0), self.active_slots, output.numpy())
            return output

        return attend_step

    def _torch_attention(self, num_keys: int, offsets: Tensor, positions: Tensor) -> AttendLayer:
        """Attention of a decode step by PyTorch, to the first `num_keys` offsets of each slot."""
        config = self.config
        queries_at = offsets[:self.active_slots, None]
        visible = self.offsets[:num_keys] <= queries_at
        biases = {False: self._per_head(visible)}
        if config.local_layers:
            biases[True] = self._per_head(visible & (self.offsets[:num_keys] > queries_at - config.window))
        rotary = {local: [table.index_select(0, positions) for table in tables]
                  for local, tables in self.rotary.items()}
        cache_rows = self._slot_offsets + offsets.repeat_interleave(config.kv_heads)
        head_dim, heads = config.head_dim, self.active_slots * config.kv_heads

        def attend_step(index: int, layer: PackedLayer, projected: Tensor) -> Tensor:
            local = index in config.local_layers
            keys, values = self.keys[index], self.values[index]
            queries, new_keys, new_values = layer.split_rotated(projected, *rotary[local])
            keys.view(-1, head_dim).index_copy_(0, cache_rows, new_keys.reshape(-1, head_dim))
            values.view(-1, head_dim).index_copy_(0, cache_rows, new_values.reshape(-1, head_dim))
            queries = queries.reshape(-1, layer.groups, head_dim)
            output = attend_one(queries[:heads], keys[:heads, :num_keys], values[:heads, :num_keys], biases[local],
                                layer.scale, config.attention_cap)
            return output if heads == len(queries) else F.pad(output, (0, 0, 0, 0, 0, len(queries) - heads))

        return attend_step

    def _per_head(self, visible: Tensor) -> Tensor:
        """bool `[active_slots, S]` -> attention bias `[active_slots * kv_heads, 1, S]`."""
        return attention_bias(visible).repeat_interleave(self.config.kv_heads, dim=0)[:, None]

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 `[N, vocabulary_size]` from hidden states `[N, dim]`."""
        logits, cap = self.head(hidden).float(), self.config.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def select_slots(self, slots: list[int]) -> None:
        """Drop all other slots, and put these in this order. At least MIN_ROWS slots stay allocated."""
        self.active_slots = len(slots)
        slots = slots + [0] * (MIN_ROWS - len(slots))
        self.slots = len(slots)
        selected = self._cache_heads(slots)
        self.keys = [keys[selected] for keys in self.keys]
        self.values = [values[selected] for values in self.values]
        self._slot_offsets = self._slot_offsets[:len(selected)]

    def copy_slots(self, targets: list[int], sources: list[int], start: int, end: int) -> None:
        """Copy the cache at offsets `start` to `end` from each slot of `sources` to the same entry of `targets`."""
        to_heads, from_heads = self._cache_heads(targets), self._cache_heads(sources)
        for tensor in (*self.keys, *self.values):
            tensor[to_heads, start:end] = tensor[from_heads, start:end]

    def _cache_heads(self, slots: list[int]) -> Tensor:
        """Indices of these slots along the first axis of a cache tensor."""
        heads = self.config.kv_heads
        return torch.tensor([slot * heads + head for slot in slots for head in range(heads)], dtype=torch.long,
                            device=self.device)


def round_up_keys(length: int) -> int:
    """The number of keys that a sequence of `length` tokens attends to, including masked keys."""
    return max(-(-length // KEY_BLOCK) * KEY_BLOCK, MIN_KEYS)


def _rotary(positions: Tensor, config: ModelConfig, theta: float, scaling: RopeScaling | None) -> list[Tensor]:
    """Cosines and sines, float32 `[positions, 1, head_dim]`."""
    return [table[0, 0][:, None] for table in rotary_tables(positions[None], config.head_dim, theta, scaling)]
