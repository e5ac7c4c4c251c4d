"""Stage 1: the corpora by name, and the preparation of a corpus: data directories, a report, manifests."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora import covost2, cvss, fillets, fleurs, folder, joint, mini, voxpopuli
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.corpora.manifests import require_lhotse, write_manifests


@dataclass(frozen=True)
class Corpus:
    """The reader of a corpus.

    `prepare(options, **further)` writes <output>/<set>/ and returns {set: its report}; `further` are the names of its
    further arguments.
    """

    prepare: Callable[..., dict[str, Any]]
    further: tuple[str, ...] = ()


CORPORA = {
    "covost2": Corpus(covost2.prepare),
    "cvss": Corpus(cvss.prepare, ("version",)),
    "fillets": Corpus(fillets.prepare),
    "fleurs": Corpus(fleurs.prepare),
    "folder": Corpus(folder.prepare),
    "joint": Corpus(joint.prepare, ("corpora", "name", "version", "targets")),
    "mini": Corpus(mini.prepare),
    "voxpopuli": Corpus(voxpopuli.prepare, ("targets",)),
}


def prepare_corpus(corpus: str, options: ReaderOptions, lhotse: bool = False, **further: Any) -> None:
    """Stage 1: write <output>/<set>/ and <output>/report.json, with `lhotse` also its manifests in <output>/lhotse.

    `further` are arguments that only some corpora have; an argument that is None has the default of the corpus. Raises
    AudioPaLMError for an argument that the corpus does not have, for missing downloads, and as the reader of the corpus
    does.
    """
    entry, downloads, output = CORPORA[corpus], options.downloads, options.output
    given = {option: value for option, value in further.items() if value is not None}
    for option in given:
        if option not in entry.further:
            raise AudioPaLMError(f"--{option} is no option of {corpus}; it has {' '.join(entry.further) or 'none'}")
    if lhotse:
        require_lhotse()
    if not downloads.is_dir():
        raise AudioPaLMError(f"{downloads} is no folder; --downloads is where {corpus} lies")
    start = time.monotonic()
    logging.info("reading %s", downloads)
    # Absolute paths in wav.scp are valid in any working directory. The embedded corpus is a part of the recipe.
    report = entry.prepare(replace(options, downloads=downloads if corpus == "mini" else downloads.resolve(),
                                   unpacked=options.unpacked.resolve()), **given)
    for part, facts in report.items():
        logging.info("%s/%s: %s", output, part, summary(facts))
        if lhotse and (output / part / "wav.scp").exists():
            # A part of egs/joint is <corpus>/<set>.
            write_manifests(output / part, output / "lhotse", str(Path(part).parent) if "/" in part else corpus)
    logging.info("wrote %s in %.1f s", output, time.monotonic() - start)


def summary(entry: dict[str, Any]) -> str:
    """The main figures of a set's report in one line; report.json has all of them."""
    speakers, seconds = entry["speakers"], entry.get("seconds")
    facts = [f"{entry['kept']} of {entry['rows']} rows kept",
             f"{speakers if isinstance(speakers, int) else len(speakers)} speakers"]
    if seconds:
        facts.append(f"{entry['hours']:.2f} h of {seconds['min']:.1f} to {seconds['max']:.1f} s, on average "
                     f"{seconds['mean']:.1f} s")
    if "ids_sha256" in entry:
        facts.append(f"checksum of ids {entry['ids_sha256'][:12]}")
    dropped = ", ".join(f"{count} {reason}" for reason, count in entry["dropped"].items()) or "none"
    return f"{', '.join(facts)}; dropped: {dropped}"
