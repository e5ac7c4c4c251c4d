"""Token folders with fewer units a second: every k-th unit of the folders of stage 5, for experiments with the rate."""

import hashlib
import logging
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, read_object, write_json
from audiopalm.data.archive import TokenArchive, write_ark
from audiopalm.data.datadir import write_table
from audiopalm.data.example_set import UNITS_META


def thin_tokens(tokens: list[Path], output: list[Path], every: int) -> None:
    """Write every `every`-th unit of each folder of `tokens` to the folder of `output` at the same place.

    meta.json has the lower rate and another hash of units, so that a vocabulary and a model of these units refuse
    others. Codec tokens are left out. A finished folder stays as it is. Raises AudioPaLMError for missing or damaged
    folders, and if an output was made from other tokens.
    """
    if every < 2 or len(tokens) != len(output):
        raise AudioPaLMError(f"--every takes a number from 2 on, found {every}, and --output a folder for each of "
                             f"--tokens, found {len(output)} for {len(tokens)}")
    for source, target in zip(tokens, output, strict=True):
        meta = read_object(source / "meta.json", "stage 5 (tokenize)", UNITS_META)
        digest = hashlib.sha256(f"{meta['units_sha256']} every {every}".encode()).hexdigest()
        scps = sorted(source.glob("units*.scp"))
        names = hashlib.sha256("\n".join(name for scp in scps for name in [scp.name, *TokenArchive(scp)]).encode())
        thinned = {"units_rate": meta["units_rate"] / every, "units_size": meta["units_size"], "units_sha256": digest,
                   "ids_sha256": names.hexdigest()}
        if (target / "meta.json").exists():
            if read_json(target / "meta.json") != thinned:
                raise AudioPaLMError(f"{target} was made from other tokens; remove it")
            logging.info("%s is finished", target)
            continue
        for scp in scps:
            archive = TokenArchive(scp)
            units = {name: archive[name][::every] for name in archive}
            write_table(target / scp.name, write_ark(target / f"{scp.stem}.ark", units))
        write_json(target / "meta.json", thinned)
        logging.info("%s: %g units a second", target, thinned["units_rate"])
