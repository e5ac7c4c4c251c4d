"""Models of the Hugging Face hub: taken from a folder or from the hub's cache, or downloaded. Packs are also uploaded.

A pack may be a zip file, too. The hub's address, token and cache are set by huggingface_hub's own variables:
HF_ENDPOINT, HF_TOKEN (or `hf auth login`), HF_HOME, HF_HUB_OFFLINE.
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
    """The folder of a pretrained model: `source` itself if it is a folder, or the hub's cached copy of the hub id.

    A hub id that is not in the cache is downloaded. Raises AudioPaLMError where that fails.
    """
    if os.path.isdir(source):
        return Path(source)
    hub = _import_hub(f"{source} is not a folder, and ", "give a folder with config.json")
    try:
        return Path(hub.snapshot_download(source, allow_patterns=["*.json", "model*.safetensors", "tokenizer.model"],
                                          ignore_patterns=["*/*"]))
    except Exception as error:  # of the hub, of the network, or for a malformed name: to the user they are the same
        raise AudioPaLMError(f"{source} is not a folder, and the Hugging Face hub does not give it ({_reason(error)}); "
                             "give a folder with config.json and model.safetensors") from None


def fetch_pack(source: str | Path) -> Path:
    """The folder of the pack `source`: a folder, a zip of it, or a hub id, `user/model` or `user/model@revision`.

    A zip is unpacked once into the cache of this package, under its SHA-256; a hub id is downloaded once into the
    hub's cache, and later calls need no network. The files are not compared with the manifest: `check_manifest` does.

    Raises AudioPaLMError for a source that is none of the three, for damaged and hostile zips, and for a hub id that
    the hub refuses.
    """
    if os.path.isdir(source):  # False for impossible names, for which Path.is_dir may raise
        return Path(source)
    if os.path.isfile(source):
        return _unzipped(Path(source))
    match = HUB_ID.fullmatch(str(source))
    # Where a folder exp/ exists, `exp/pack` is a path that does not exist yet, and not a hub id.
    if isinstance(source, Path) or not match or os.path.isdir(str(source).split("/")[0]):
        raise AudioPaLMError(f"{source} does not exist; run stage 14 (pack) first, or give {PACK}")
    return _downloaded(match["repo"], match["revision"])


def cache_dir() -> Path:
    """The folder that zips are unpacked into: AUDIOPALM_CACHE, or audiopalm in the user's cache folder."""
    if given := os.environ.get("AUDIOPALM_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiopalm"


def _unzipped(archive: Path) -> Path:
    """The folder of the one pack in a zip, unpacked."""
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
    """Download the manifest and the files that it lists, all of one commit; return their folder."""
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
    """Upload the pack in `folder` to the hub as one commit; return the address of the commit.

    The repository is made if it does not exist; `private` has an effect only then. Exactly the files of the manifest
    are uploaded, after comparison with it. Files of an earlier pack in the repository that this pack lacks are removed.
    Raises AudioPaLMError for a folder that is no pack, for a repository that holds other files than a pack's, and for
    an upload that the hub refuses.
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
        uploaded = {*files, MANIFEST}
        operations = [hub.CommitOperationAdd(name, str(folder / name)) for name in sorted(uploaded)]
        operations += [hub.CommitOperationDelete(name) for name in sorted(_earlier_pack(api, repo_id) - uploaded)]
        return str(api.create_commit(repo_id, operations, commit_message="Upload a pack of audiopalm").commit_url)
    except AudioPaLMError:
        raise
    except Exception as error:
        raise AudioPaLMError(f"{folder} was not uploaded to {repo_id}: {_reason(error)}") from None


def _earlier_pack(api: Any, repo_id: str) -> set[str]:
    """The files of the pack in a repository; an empty set for a new repository.

    Raises AudioPaLMError for a repository that holds other files and no pack.
    """
    names = set(api.list_repo_files(repo_id))
    if MANIFEST in names:
        earlier = read_object(api.hf_hub_download(repo_id, MANIFEST), keys={"files": dict})["files"]
        return names & earlier.keys()
    if other := names - {".gitattributes", "README.md"}:
        raise AudioPaLMError(f"{repo_id} holds {min(other)!r} and no {MANIFEST}: it is not a pack, and is left alone; "
                             "give another name")
    return set()


def _import_hub(before: str, instead: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise AudioPaLMError(f"{before}huggingface_hub, which speaks to the hub, is not installed; pip install "
                             f"huggingface_hub {'' if instead.startswith('to ') else 'or '}{instead}") from None
    for name in ("httpx", "httpx2"):  # which of them is used depends on the release; both log every request
        logging.getLogger(name).setLevel(logging.WARNING)
    return huggingface_hub


def _reason(error: Exception) -> str:
    """The meaning of an error of huggingface_hub, and what to do, in one line."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refuses access, HTTP {status}: set HF_TOKEN to a token that has access, or run hf auth login"
    if status == 404:
        return "it is not there, or it is private: compare the name with the hub's page, set HF_TOKEN for a private one"
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
