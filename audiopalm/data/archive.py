"""Token archives: Kaldi ark/scp of int32 vectors, written in shards with a completion marker.

kaldiio writes int32 only as 1-D vectors, so codec tokens `[T, Q]` are flattened row by row;
`meta.json` beside the scp states how many levels a frame has.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import kaldiio
import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.partials import partial_path
from audiopalm.data.datadir import read_table


def write_ark(ark: str | Path, tokens: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write {id: int32 [T]} into one ark file; return {id: `ark:offset`} for an scp."""
    ark = Path(ark).resolve()
    partial_scp = partial_path(f"{ark}.scp")
    try:
        with atomic_path(ark) as partial:
            kaldiio.save_ark(str(partial), {key: np.asarray(value, dtype=np.int32) for key, value in tokens.items()},
                             scp=str(partial_scp))
            return {key: value.replace(str(partial), str(ark)) for key, value in read_table(partial_scp).items()}
    finally:
        partial_scp.unlink(missing_ok=True)


class TokenArchive(Mapping):
    """{id: int32 tokens} read lazily from an scp; `[T]`, or `[T, levels]` when levels > 1."""

    def __init__(self, scp: str | Path, levels: int = 1, made_by: str = "stage 5 (tokenize)"):
        self.path, self.levels = Path(scp), levels
        self.table = read_table(scp, made_by)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.table:
            raise AudioPaLMError(f"{self.path} has no tokens for {key!r}")
        tokens = kaldiio.load_mat(self.table[key])
        return tokens.reshape(-1, self.levels) if self.levels > 1 else tokens

    def __contains__(self, key: object) -> bool:
        return key in self.table  # without reading the tokens

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)
