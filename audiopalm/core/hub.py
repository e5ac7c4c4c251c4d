"""Models of the Hugging Face hub: found in a folder, in the hub's cache, or downloaded; packs sent to it.

Packs are also found in zips. The hub's address, token and cache are huggingface_hub's own: HF_ENDPOINT, HF_TOKEN (or
`hf auth login`), HF_HOME, HF_HUB_OFFLINE.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, require, sha256
from audiopalm.core.manifest import MANIFEST, check_manifest
from audiopalm.core.zip_files import unzip

HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-]+))?")
PACK = "the folder of a pack, its zip, or a hub id such as user/model"


def find_pretrained(source: str) -> Path:
    """The folder of `source`: itself, or the copy in the cache of a hub id, which is downloaded if need be."""
    if os.path.isdir(source):
        return Path(source)
    hub = _import_hub(f"{source} is not a folder, and ", "give a folder with config.json")
    try:
        return Path(hub.snapshot_download(source, allow_patterns=["*.json", "model*.safetensors", "tokenizer.model"],
                                          ignore_patterns=["*/*"]))
    except Exception as error:  # of the hub, the network, or a name that cannot be one: the same to the user
        raise AudioPaLMError(f"{source} is not a folder, and the Hugging Face hub does not give it ({_reason(error)}); "
                             "give a folder with config.json and model.safetensors") from None


def fetch_pack(source: str | Path) -> Path:
    """The folder of the pack `source`: a folder, a zip of it, or a hub id, `user/model` or `user/model@revision`.

    A zip is unpacked once into the cache of this package, under its SHA-256; a hub id is downloaded once into the
    hub's cache, and found there without network. The files are not compared with the manifest: `check_manifest` does.

    Raises AudioPaLMError for what is none of the three, for damaged and hostile zips, and for what the hub refuses.
    """
    if os.path.isdir(source):  # unlike Path.is_dir, false for names that no file can have
        return Path(source)
    if os.path.isfile(source):
        return _unzipped(Path(source))
    found = HUB_ID.fullmatch(str(source))
    # `exp/pack` beside a folder exp/ is a path that does not exist yet, and is not asked of the hub.
    if isinstance(source, Path) or not found or os.path.isdir(str(source).split("/")[0]):
        raise AudioPaLMError(f"{source} does not exist; run stage 14 (pack) first, or give {PACK}")
    return _downloaded(found["repo"], found["revision"])


def cache_dir() -> Path:
    """Where zips are unpacked: AUDIOPALM_CACHE, or audiopalm in the user's cache folder."""
    if given := os.environ.get("AUDIOPALM_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiopalm"


def _unzipped(archive: Path) -> Path:
    try:
        folder = unzip(archive, cache_dir() / "packs" / sha256(archive)[:32])
    except OSError as error:
        raise AudioPaLMError(f"{archive} cannot be read: {error.strerror}") from None
    packs = sorted(path.parent for pattern in (MANIFEST, f"*/{MANIFEST}") for path in folder.glob(pattern))
    if (folder / "meta.yaml").exists():
        raise AudioPaLMError(f"{archive} is a pack of ESPnet: audiopalm.espnet.inference.Speech2Any opens it")
    if len(packs) != 1:
        raise AudioPaLMError(f"{archive} holds {len(packs)} packs ({MANIFEST}) where one is expected; give {PACK}")
    return packs[0]


def _downloaded(repo_id: str, revision: str | None) -> Path:
    """Download what the manifest lists, all of one commit."""
    hub = _import_hub(f"{repo_id} is neither a folder nor a zip, and ", f"give {PACK}")
    try:
        folder = Path(hub.snapshot_download(repo_id, revision=revision, allow_patterns=[MANIFEST]))
        if not (folder / MANIFEST).exists():
            raise AudioPaLMError(f"{repo_id} of the Hugging Face hub is no pack: it has no {MANIFEST}; give {PACK}")
        files = read_object(folder / MANIFEST, keys={"files": dict})["files"]
        return Path(hub.snapshot_download(repo_id, revision=folder.name, allow_patterns=[MANIFEST, *files]))
    except AudioPaLMError:
        raise
    except Exception as error:
        raise AudioPaLMError(f"{repo_id} is neither a folder nor a zip, and the Hugging Face hub does not give it as a "
                             f"pack ({_reason(error)}); give {PACK}") from None


def upload_pack(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Send the pack in `folder` to the hub as one commit; return the address of the commit.

    The repository is made if it does not exist; `private` is heeded only then. Exactly the files of the manifest are
    sent, after comparison with it, and other files of the repository are removed, so that nobody gets a mixture of
    two models. Raises AudioPaLMError for a folder that is no pack, and for what the hub refuses.
    """
    folder = Path(folder)
    files = read_object(require(folder / MANIFEST, "stage 14 (pack)"), keys={"files": dict})["files"]
    check_manifest(folder)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise AudioPaLMError(f"{repo_id!r} is no hub id; it has the form user/model")
    hub = _import_hub("", "to upload a model")
    try:
        api = hub.HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        sent = sorted({*files, MANIFEST})
        operations = [hub.CommitOperationAdd(name, str(folder / name)) for name in sent]
        operations += [hub.CommitOperationDelete(name) for name in api.list_repo_files(repo_id)
                       if name not in (*sent, ".gitattributes")]
        return str(api.create_commit(repo_id, operations, commit_message="Upload a pack of audiopalm").commit_url)
    except Exception as error:
        raise AudioPaLMError(f"{folder} was not uploaded to {repo_id}: {_reason(error)}") from None


def _import_hub(before: str, instead: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise AudioPaLMError(f"{before}huggingface_hub, which speaks to the hub, is not installed; pip install "
                             f"huggingface_hub {'' if instead.startswith('to ') else 'or '}{instead}") from None
    for name in ("httpx", "httpx2"):  # by the release: each logs every request
        logging.getLogger(name).setLevel(logging.WARNING)
    return huggingface_hub


def _reason(error: Exception) -> str:
    """What huggingface_hub's error means, in one line with what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refuses access, HTTP {status}: set HF_TOKEN to a token that may, or run hf auth login"
    if status == 404:
        return "it is not there, or it is private: compare the name with the hub's page, set HF_TOKEN for a private one"
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
