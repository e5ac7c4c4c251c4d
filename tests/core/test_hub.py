"""Packs from a folder, a zip and a hub, and to a hub: commands against a stand-in of the hub's API."""

import stat
import zipfile
from pathlib import Path

import pytest
from hub_server import TOKEN, hub_server
from prestarted import run_python
from waiting import LIMIT

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.core.hub import fetch_pack, upload_pack
from audiopalm.core.manifest import MANIFEST, check_manifest
from audiopalm.stages.pack import zip_folder

NOWHERE = "http://127.0.0.1:9"  # no server listens there
FETCH = """
import sys
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.hub import fetch_pack
for source in sys.argv[1:]:
    try:
        print(fetch_pack(source))
    except AudioPaLMError as error:
        print(error)
"""


def write_pack(folder: Path, **contents: str) -> Path:
    """A folder with a manifest: uploads and downloads look at nothing else. `contents` replaces or adds files."""
    files = {"README.md": "---\nlicense: other\n---\n# A card\n", "lm/config.json": "{}",
             "lm/model.safetensors": "weights " * 1000, "vocabulary/text.model": "a tokenizer", **contents}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    write_json(folder / MANIFEST, {"files": {name: {"sha256": sha256(folder / name), "bytes": len(content)}
                                             for name, content in files.items()}})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOPALM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_zip_is_unpacked_once(tmp_path, cache):
    pack = write_pack(tmp_path / "pack")
    archive = zip_folder(pack, tmp_path / "pack.zip")
    folder = fetch_pack(archive)
    check_manifest(folder)
    assert contents(folder) == contents(pack) and folder.is_relative_to(cache)
    before = (folder / "lm/config.json").stat().st_mtime_ns
    assert fetch_pack(str(archive)) == folder and (folder / "lm/config.json").stat().st_mtime_ns == before
    (folder / "lm/config.json").unlink()  # somebody cleaned the cache
    assert contents(fetch_pack(archive)) == contents(pack)
    assert fetch_pack(pack) == pack
    changed = zip_folder(write_pack(tmp_path / "pack", **{"lm/config.json": "[]"}), archive)
    assert fetch_pack(changed) != folder and (fetch_pack(changed) / "lm/config.json").read_text() == "[]"


def hostile_zips(folder: Path):
    """Pairs (zip, part of the message about it)."""
    pack = zip_folder(write_pack(folder / "pack"), folder / "whole.zip").read_bytes()

    def members(name, *entries, compression=zipfile.ZIP_STORED, **attributes):
        with zipfile.ZipFile(folder / name, "w", compression) as archive:
            for entry, content in entries:
                info = zipfile.ZipInfo(entry)
                info.compress_type = compression
                for attribute, value in attributes.items():
                    setattr(info, attribute, value)
                archive.writestr(info, content)
        return folder / name

    def bytes_of(name, content):
        (folder / name).write_bytes(content)
        return folder / name

    for number, name in enumerate(("../out", "/tmp/audiopalm_out", "pack/../../out", "C:/out", "..\\out")):
        yield members(f"outside{number}.zip", (name, b"x")), "would lie outside of its folder"
    yield members("link.zip", ("pack/link", b"/etc"), external_attr=(stat.S_IFLNK | 0o777) << 16), "a link or a device"
    yield members("twice.zip", ("pack/a", b"1"), ("pack/a", b"2")), "which is in it twice"
    bomb = members("bomb.zip", ("pack/zeros", bytes(100 << 20)), compression=zipfile.ZIP_DEFLATED)
    yield bomb, "too much for the zip of a model"
    yield members("other.zip", ("pack/readme.txt", b"x")), "holds 0 packs"
    yield members("espnet.zip", ("meta.yaml", b"files: {}")), "is a pack of ESPnet"
    yield bytes_of("empty.zip", b""), "is not a zip file or is damaged"
    yield bytes_of("page.zip", b"<html>404 not found</html>" * 99), "is not a zip file or is damaged"
    yield bytes_of("cut.zip", pack[:len(pack) // 2]), "is not a zip file or is damaged"
    changed = members("stored.zip", ("pack/a", b"a tokenizer")).read_bytes().replace(b"a tokenizer", b"a tokeniser")
    yield bytes_of("flipped.zip", changed), "is not a zip file or is damaged"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_and_damaged_zips_are_refused(tmp_path, cache):
    for archive, message in hostile_zips(tmp_path):
        with pytest.raises(AudioPaLMError, match=message) as error:
            fetch_pack(archive)
        assert "\n" not in str(error.value) and archive.name in str(error.value)
    assert not (tmp_path.parent / "out").exists() and not list(cache.rglob(".*partial*"))


def test_a_source_that_is_no_pack_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    for source in ("exp/pack", "no such thing", "a/b/c", Path("user/model"), "/nowhere", "pack.zip", "x" * 300):
        with pytest.raises(AudioPaLMError, match=r"does not exist; run stage 14 \(pack\) first, or give the folder"):
            fetch_pack(source)


@pytest.fixture(scope="module")
def hub():
    pytest.importorskip("huggingface_hub")
    with hub_server() as server:
        yield server


@pytest.fixture
def command(hub, tmp_path):
    """A function that runs Python as a user of the stand-in hub does, with the environment variables of `changed`."""
    def run(*arguments, code=0, **changed):
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN,
                       # the transport of large files that a server without chunk storage has
                       "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                       "HF_HUB_ETAG_TIMEOUT": str(LIMIT), "HF_HUB_DOWNLOAD_TIMEOUT": str(LIMIT), **changed}
        done = run_python(*arguments, **environment)
        assert done.returncode == code, done.stderr
        return done.stdout.strip() if code == 0 else done.stderr
    return run


def upload(command, pack, repository, *arguments, **changed):
    return command("-m", "audiopalm.cli", "upload", pack, repository, *arguments, **changed)


def fetch(command, folder, *sources, **changed):
    """The output of fetch_pack for each source; a file, because the prestarted Python runs files and modules."""
    (folder / "fetch.py").write_text(FETCH)
    return command(folder / "fetch.py", *sources, **changed)


def test_a_pack_goes_to_the_hub_and_comes_back_equal(hub, command, tmp_path):
    pack = write_pack(tmp_path / "pack", **{"acoustic/config.json": "{}"})
    (pack / "notes.txt").write_text("not listed, so it is not uploaded")
    commit = upload(command, pack, "me/tiny", "--private")
    (pack / "notes.txt").unlink()
    stored = hub.repositories["me/tiny"]
    assert stored.keys() - contents(pack).keys() == {".gitattributes"} and hub.private["me/tiny"]
    assert commit.startswith(f"{hub.url}/me/tiny/commit/") and any("PUT /lfs/" in asked for asked in hub.requests)
    stored["huge.bin"] = b"of somebody else, and not in the manifest"
    folder = Path(fetch(command, tmp_path, "me/tiny"))
    assert contents(folder) == contents(pack) and folder.is_relative_to(tmp_path / "hf")
    check_manifest(folder)
    again = write_pack(tmp_path / "again", **{"lm/config.json": "[1]"})
    upload(command, again, "me/tiny")  # the second commit removes the files that only the first one had
    assert stored.keys() - hub.repositories["me/tiny"].keys() == {"acoustic/config.json"}
    assert contents(Path(fetch(command, tmp_path, "me/tiny"))) == contents(again)
    assert contents(Path(fetch(command, tmp_path, "me/tiny", HF_ENDPOINT=NOWHERE))) == contents(again)


def test_a_refusal_of_the_hub_is_one_line(hub, command, tmp_path):
    pack = write_pack(tmp_path / "pack")
    hub.repositories["me/other"], hub.commits["me/other"] = {"config.json": b"{}"}, 0
    refused = {
        "HTTP 401: set HF_TOKEN to a token that has access": upload(command, pack, "me/x", code=2, HF_TOKEN="hf_wrong"),
        "to me/x: [Errno 111] Connection refused": upload(command, pack, "me/x", code=2, HF_ENDPOINT=NOWHERE),
        "HTTP 401: set HF_TOKEN": fetch(command, tmp_path, "me/none", HF_TOKEN="hf_wrong"),
        "[Errno 111] Connection refused": fetch(command, tmp_path, "me/none", HF_ENDPOINT=NOWHERE),
        "me/other holds 'config.json' and no audiopalm.json": upload(command, pack, "me/other", code=2),
        "HF_HUB_OFFLINE": fetch(command, tmp_path, "me/none", HF_HUB_OFFLINE="1"),
    }
    messages = fetch(command, tmp_path, "me/none", "me/other@v2", "me/other").splitlines()
    assert all("it is not there, or it is private" in said for said in messages[:2])
    assert "is no pack: it has no audiopalm.json" in messages[2] and len(messages) == 3
    for message, said in refused.items():
        assert message in said and len(said.strip().splitlines()) == 1, said
    assert "me/x" not in hub.repositories and hub.repositories["me/other"] == {"config.json": b"{}"}


def test_a_folder_that_cannot_be_uploaded_is_one_line(tmp_path):
    pack = write_pack(tmp_path / "pack")
    for folder, repository, message in ((pack, "me", "'me' is no hub id; it has the form user/model"),
                                        (pack, "../me/x", "is no hub id"),
                                        (tmp_path, "me/x", "audiopalm.json does not exist; run stage 14")):
        with pytest.raises(AudioPaLMError, match=message):
            upload_pack(folder, repository)
    (pack / "lm/config.json").write_text("[]")
    with pytest.raises(AudioPaLMError, match="lm/config.json has SHA-256"):
        upload_pack(pack, "me/x")
