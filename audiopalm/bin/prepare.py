"""Stage 1: a corpus in its publisher's layout, as archives or unpacked, to Kaldi data directories."""

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

from audiopalm.core.arguments import fraction
from audiopalm.core.command import run
from audiopalm.core.lock import locked
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.corpora.registry import CORPORA, prepare_corpus

LIST: dict[str, Any] = {"nargs": "+", "type": str.split, "metavar": "NAME"}  # words, or "words in one"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=sorted(CORPORA), required=True, help="the corpus")
    parser.add_argument("--downloads", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--output", type=Path, required=True, help="folder for <set>/ and report.json")
    parser.add_argument("--langs", **LIST, default=[], help="languages, as the corpus spells them (default: all)")
    parser.add_argument("--unpacked", type=Path, help="folder for the contents of archives (default: OUTPUT/unpacked)")
    parser.add_argument("--max_drop", type=fraction, default=0.05, help="fraction of a set's rows that may be dropped")
    parser.add_argument("--version", help="of CVSS: c, in one voice, or t, in the source's (default: c)")
    parser.add_argument("--targets", **LIST, help="of VoxPopuli: languages of interpretation to add")
    parser.add_argument("--corpora", **LIST, help="of joint: the corpora to put together")
    parser.add_argument("--name", help="of joint: the suffix of its sets, train_NAME and dev_NAME (default: joint)")
    parser.add_argument("--lhotse", choices=("true", "false"), default="false",
                        help="also write lhotse's manifests, into OUTPUT/lhotse")
    args = parser.parse_args()
    languages, targets, corpora = (words and list(chain.from_iterable(words))
                                   for words in (args.langs, args.targets, args.corpora))
    options = ReaderOptions(args.downloads, args.output, args.unpacked or args.output / "unpacked", languages,
                            args.max_drop)
    with locked(args.output, "prepare"):
        prepare_corpus(args.corpus, options, args.lhotse == "true", corpora=corpora, name=args.name,
                       version=args.version, targets=targets)


if __name__ == "__main__":
    run(main)
