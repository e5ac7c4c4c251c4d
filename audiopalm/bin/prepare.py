"""Stage 1: a corpus as its publisher ships it, archives or unpacked, to Kaldi data directories."""

import argparse
import gc
import logging
import time
from importlib import import_module
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError

CORPORA = ("covost2", "cvss", "fleurs", "folder", "joint", "mini", "voxpopuli")  # modules of audiopalm.corpora


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=CORPORA, required=True, help="which corpus it is")
    parser.add_argument("--downloads", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--output", type=Path, required=True, help="folder for <set>/ and report.json")
    parser.add_argument("--langs", nargs="+", default=[], help="languages, as the corpus spells them (default: all)")
    parser.add_argument("--unpacked", type=Path, help="folder for the contents of archives (default: OUTPUT/unpacked)")
    parser.add_argument("--max_drop", type=float, default=0.05, help="share of rows of a set that may be dropped")
    parser.add_argument("--version", default="c", help="of CVSS: c, in one voice, or t, in the source's")
    parser.add_argument("--targets", nargs="+", default=[], help="of VoxPopuli: languages of interpretation to add")
    parser.add_argument("--corpora", nargs="+", default=[], help="of joint: the corpora to put together")
    parser.add_argument("--name", default="joint", help="of joint: what its sets end with, train_NAME and dev_NAME")
    parser.add_argument("--lhotse", choices=("true", "false"), default="false",
                        help="also write lhotse's manifests, into OUTPUT/lhotse")
    arguments = parser.parse_args()
    if arguments.lhotse == "true":  # takes a second to import
        from audiopalm.corpora.manifests import require_lhotse, write_manifests

        require_lhotse()
    if not arguments.downloads.is_dir():
        raise AudioPaLMError(f"{arguments.downloads} is no folder; --downloads is where {arguments.corpus} lies")
    gc.disable()  # a million rows are no cycles: the collector would only walk over them again and again
    start = time.monotonic()
    logging.info("reading %s", arguments.downloads)
    corpus = import_module(f"audiopalm.corpora.{arguments.corpus}")
    if arguments.corpus == "mini":
        report = corpus.prepare(arguments.downloads, arguments.output)
    else:
        version, targets = {"version": arguments.version}, {"targets": arguments.targets}
        joint = {"corpora": arguments.corpora, "name": arguments.name, **version, **targets}
        more = {"cvss": version, "voxpopuli": targets, "joint": joint}
        # Absolute paths in wav.scp hold wherever the recipe is called from.
        report = corpus.prepare(arguments.downloads.resolve(), arguments.output, arguments.langs,
                                (arguments.unpacked or arguments.output / "unpacked").resolve(),
                                arguments.max_drop, **more.get(arguments.corpus, {}))
    for name, entry in report.items():
        logging.info("%s/%s: %s", arguments.output, name, summary(entry))
        if arguments.lhotse == "true":
            write_manifests(arguments.output / name, arguments.output / "lhotse", arguments.corpus)
    logging.info("wrote %s in %.1f s", arguments.output, time.monotonic() - start)


def summary(entry: dict) -> str:
    """The report of a set as one line; all of it is in its report.json."""
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


if __name__ == "__main__":
    run(main)
