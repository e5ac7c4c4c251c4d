"""Send a packed model (stage 14) with its card to the Hugging Face hub, from where `from_pretrained` takes it by name.

    HF_TOKEN=... python -m audiopalm.bin.upload --pack exp/pack --repo_id user/model
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.hub import upload_pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default="exp/pack", help="folder of stage 14 (default: %(default)s)")
    parser.add_argument("--repo_id", required=True, help="user/model or organisation/model; made if it does not exist")
    parser.add_argument("--private", action="store_true", help="a new repository is visible to its owner only")
    args = parser.parse_args()
    print(upload_pack(args.pack, args.repo_id, args.private))


if __name__ == "__main__":
    run(main)
