"""The decoder for generation: keys and values are kept, weights packed, and each row has a place of its own.

It computes what `Decoder.hidden` computes, one token of every row at a time, or one prompt in chunks; nothing of it is
for training. On a CPU in float32 cpu/kernels.py computes what is between the products of a step. A row's keys begin at
the start of its place, and its shapes do not depend on the rows beside it: so a row ends up as if it were alone, bit
for bit on a CPU in float32.
"""

from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiopalm.lm.attention import attend, attend_one, attention_bias
from audiopalm.lm.generation.cpu import kernels
from audiopalm.lm.generation.cpu.linear import LEAST_ROWS, PackedLinear
from audiopalm.lm.model import ACTIVATIONS, Block, Decoder, ModelConfig, RMSNorm, rotary_tables, rotate

CHUNK = 256  # tokens of a prompt that are computed at once: their mask has 256 rows, however long the prompt is
LEAST_KEYS, KEYS = 64, 32  # that are looked at, and by how many more: sums of other lengths have other last bits

PACKED: WeakKeyDictionary = WeakKeyDictionary()  # {model: (the state of its weights, its packed layers and softmax)}


def rounded(length: int) -> int:
    return max(-(-length // KEYS) * KEYS, LEAST_KEYS)


class CachedDecoder:
    """`used` places with `room` tokens each, and so many beside them that products have LEAST_ROWS `rows`.

    `keys` and `values` of each layer are `[places * kv_heads, room, head_dim]`, allocated once. A token's position is
    its number in its row, unless positions below `turns` are given with the tokens.
    """

    def __init__(self, model: Decoder, rows: int, room: int, turns: int = 0):
        model.eval()
        config = self.config = model.config
        self.device, dtype = model.embedding.weight.device, model.embedding.weight.dtype
        self.used, self.rows, self.room = rows, max(rows, LEAST_ROWS), rounded(room)
        self.embedding = model.embedding.weight
        self.layers, self.head = _packed(model)
        self.compiled = self.device.type == "cpu" and dtype == torch.float32
        self.norm = _norm(model.norm)
        shape = (self.rows * config.kv_heads, self.room, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=self.device) for _ in self.layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=self.device) for _ in self.layers]
        places = torch.arange(self.room, device=self.device)
        self.places = places
        theta = config.local_rope_theta or config.rope_theta
        scaling = config.rope_scaling if config.local_rope_theta is None else None
        turned = torch.arange(max(self.room, turns), device=self.device)
        self.tables = {False: _tables(turned, config, config.rope_theta, config.rope_scaling),
                       True: _tables(turned, config, theta, scaling) if config.local_layers else None}
        self._ends = torch.arange(self.rows * config.kv_heads, device=self.device) * self.room

    def prefill(self, row: int, prompt: Tensor, positions: Tensor | None = None) -> Tensor:
        """Read a prompt, int64 `[T]` with T of 1 and more, into a place; hidden state `[dim]` of its last token."""
        positions = self.places if positions is None else positions
        for start in range(0, len(prompt), CHUNK):
            ids = prompt[start:start + CHUNK].to(self.device)
            hidden = self._prefill_chunk(row, start, ids, positions[start:start + len(ids)])
        return hidden[-1]

    def _prefill_chunk(self, row: int, start: int, ids: Tensor, positions: Tensor) -> Tensor:
        config, end = self.config, start + len(ids)
        last = self.places[start:end, None]
        seen = self.places[None, :end] <= last
        views = {False: attention_bias(seen)}
        if config.local_layers:
            views[True] = attention_bias(seen & (self.places[:end] > last - config.window))
        heads = slice(row * config.kv_heads, (row + 1) * config.kv_heads)

        def attend_chunk(number: int, layer: _Layer, joined: Tensor) -> Tensor:
            local = number in config.local_layers
            keys, values = self.keys[number][heads], self.values[number][heads]
            cosine, sine = (table.index_select(0, positions) for table in self.tables[local])
            queries, fresh_keys, fresh_values = layer.turned(joined, cosine, sine)
            keys[:, start:end], values[:, start:end] = fresh_keys.transpose(0, 1), fresh_values.transpose(0, 1)
            grouped = [one[:, :end].repeat_interleave(layer.groups, dim=0)[None] for one in (keys, values)]
            mixed = attend(queries.transpose(0, 1)[None], *grouped, views[local], layer.scale, config.attention_cap)
            return mixed[0].transpose(0, 1)

        return self._run(ids, attend_chunk)

    def step(self, tokens: Tensor, lengths: list[int], positions: Tensor | None = None) -> Tensor:
        """One more token of every row: int64 `[rows]` behind the `lengths` tokens that are there -> `[rows, dim]`."""
        ends = torch.tensor(lengths, device=self.device)
        positions = ends if positions is None else positions
        if self.compiled:
            return self._run(tokens, self._compiled_step(ends, positions))
        return self._run(tokens, self._plain_step(rounded(max(lengths) + 1), ends, positions))

    def _run(self, ids: Tensor, attend: Callable) -> Tensor:
        """Final hidden states `[N, dim]` of ids `[N]`; `attend(number, layer, joined)` is the attention of a layer."""
        scale = self.config.dim ** 0.5 if self.config.scale_embedding else 1.0
        x = F.embedding(ids, self.embedding) * scale
        for number, layer in enumerate(self.layers):
            x = layer(x, partial(attend, number, layer))
        return self.norm(x)

    def _compiled_step(self, ends: Tensor, positions: Tensor) -> Callable:
        config = self.config
        lengths = ends.numpy()
        tables = {local: [one.index_select(0, positions)[:, 0].numpy() for one in table]
                  for local, table in self.tables.items() if table is not None}

        def attend_step(number: int, layer: _Layer, joined: Tensor) -> Tensor:
            local = number in config.local_layers
            mixed = torch.empty(len(joined), layer.heads * layer.width)
            kernels.attend_step(joined.numpy(), layer.heads, *tables[local], self.keys[number].numpy(),
                                self.values[number].numpy(), lengths, config.window if local else self.room,
                                np.float32(layer.scale), np.float32(config.attention_cap or 0), self.used,
                                mixed.numpy())
            return mixed

        return attend_step

    def _plain_step(self, seen: int, ends: Tensor, positions: Tensor) -> Callable:
        """`seen` keys are looked at: as many as the longest row has, and some more."""
        config = self.config
        last = ends[:self.used, None]
        behind = self.places[:seen] <= last
        views = {False: self._per_head(behind)}
        if config.local_layers:
            views[True] = self._per_head(behind & (self.places[:seen] > last - config.window))
        tables = {local: table and [one.index_select(0, positions) for one in table]
                  for local, table in self.tables.items()}
        places = self._ends + ends.repeat_interleave(config.kv_heads)
        width, heads = config.head_dim, self.used * config.kv_heads

        def attend_step(number: int, layer: _Layer, joined: Tensor) -> Tensor:
            local = number in config.local_layers
            keys, values = self.keys[number], self.values[number]
            queries, fresh_keys, fresh_values = layer.turned(joined, *tables[local])
            keys.view(-1, width).index_copy_(0, places, fresh_keys.reshape(-1, width))
            values.view(-1, width).index_copy_(0, places, fresh_values.reshape(-1, width))
            queries = queries.reshape(-1, layer.groups, width)
            mixed = attend_one(queries[:heads], keys[:heads, :seen], values[:heads, :seen], views[local], layer.scale,
                               config.attention_cap)
            return mixed if heads == len(queries) else F.pad(mixed, (0, 0, 0, 0, 0, len(queries) - heads))

        return attend_step

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 `[rows, vocabulary_size]` from `[rows, dim]`"""
        logits, cap = self.head(hidden).float(), self.config.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order; there stay at least LEAST_ROWS places."""
        self.used = len(rows)
        rows = rows + [0] * (LEAST_ROWS - len(rows))
        self.rows = len(rows)
        chosen = self._heads(rows)
        self.keys = [keys[chosen] for keys in self.keys]
        self.values = [values[chosen] for values in self.values]
        self._ends = self._ends[:len(chosen)]

    def follow(self, rows: list[int], sources: list[int], start: int, end: int) -> None:
        """Each of `rows` goes on from the row beside it in `sources`: tokens `start` to `end` of it are copied."""
        targets, chosen = self._heads(rows), self._heads(sources)
        for tensor in (*self.keys, *self.values):
            tensor[targets, start:end] = tensor[chosen, start:end]

    def _heads(self, rows: list[int]) -> Tensor:
        heads = self.config.kv_heads
        return torch.tensor([row * heads + head for row in rows for head in range(heads)], dtype=torch.long,
                            device=self.device)

    def _per_head(self, seen: Tensor) -> Tensor:
        """bool `[used, S]` -> bias `[used * kv_heads, 1, S]`"""
        return attention_bias(seen).repeat_interleave(self.config.kv_heads, dim=0)[:, None]


def _packed(model: Decoder) -> tuple[list["_Layer"], PackedLinear]:
    """Layers and softmax with packed weights, which are kept until the model's weights change, or it is gone."""
    state = [(parameter.data_ptr(), None if parameter.is_inference() else parameter._version)
             for parameter in model.parameters()]
    if model not in PACKED or PACKED[model][0] != state:
        layers = [_Layer(block, model.config) for block in model.blocks]
        PACKED[model] = state, (layers, PackedLinear([model.head_weight], []))
    return PACKED[model][1]


def _tables(places: Tensor, config: ModelConfig, theta: float, scaling) -> list[Tensor]:
    """Cosines and sines `[room, 1, head_dim]`."""
    return [table[0, 0][:, None] for table in rotary_tables(places[None], config.head_dim, theta, scaling)]


def _norm(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The same norm, compiled where it can be; an identity stays one."""
    if not isinstance(module, RMSNorm) or module.weight.device.type != "cpu" or module.weight.dtype != torch.float32:
        return module
    weight, eps = module.weight.detach().numpy(), np.float32(module.eps)

    def norm(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        kernels.rms_norm(x.numpy(), weight, eps, out.numpy())
        return out

    return norm


class _Layer:
    """`Block` for rows `[N, dim]` with its products joined."""

    def __init__(self, block: Block, config: ModelConfig):
        attention, mlp = block.attention, block.mlp
        self.block, self.width = block, config.head_dim
        self.attention_norm, self.attention_post_norm = _norm(block.attention_norm), _norm(block.attention_post_norm)
        self.mlp_norm = None if block.mlp_norm is None else _norm(block.mlp_norm)
        self.mlp_post_norm = _norm(block.mlp_post_norm)
        self.heads, self.kv_heads, self.groups = config.heads, config.kv_heads, config.heads // config.kv_heads
        self.scale = config.head_dim ** -0.5 if attention.scale is None else attention.scale
        products = [attention.query, attention.key, attention.value]
        biases = [one.bias for one in products] if config.qkv_bias else []
        self.qkv = PackedLinear([one.weight for one in products], biases)
        self.output = PackedLinear([attention.output.weight], [])
        self.gate_up = PackedLinear([mlp.gate.weight, mlp.up.weight], [])
        self.down = PackedLinear([mlp.down.weight], [])
        self.activation = ACTIVATIONS[config.activation]
        self.normed_heads = isinstance(attention.query_norm, RMSNorm)

    def __call__(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        """`attend` has queries, keys and values, not rotated, `[N, heads + 2 kv_heads, head_dim]`, and gives what the
        queries find, `[N, heads * head_dim]` or a view of it."""
        normed = self.attention_norm(x)
        joined = self.qkv(normed).view(len(x), -1, self.width)
        if self.normed_heads:
            attention, parts = self.block.attention, self.split(joined)
            joined = torch.cat([attention.query_norm(parts[0]), attention.key_norm(parts[1]), parts[2]], dim=1)
        attended = self.attention_post_norm(self.output(attend(joined).reshape(len(x), -1)))
        if self.mlp_norm is None:
            return x + attended + self.mlp_post_norm(self._mlp(normed))
        x = x + attended
        return x + self.mlp_post_norm(self._mlp(self.mlp_norm(x)))

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return joined.split([self.heads, self.kv_heads, self.kv_heads], dim=1)

    def turned(self, joined: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, the first two rotated."""
        queries, keys, values = self.split(joined)
        return rotate(queries, cosine, sine), rotate(keys, cosine, sine), values

    def _mlp(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate).mul_(up))
