"""A stand-in for the Hugging Face hub: the part of its API that uploads and downloads use, in this process."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in"
LARGE = 2000  # from this size on a file is uploaded apart from the commit, as LFS objects are


class Hub:
    """What the server has: {repository: {file: bytes}}, the bytes of LFS objects by SHA-256, and the requests."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: dict[str, int] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = ""

    def commit_id(self, repository: str) -> str:
        return hashlib.sha1(f"{repository} {self.commits.get(repository)}".encode()).hexdigest()


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: Any = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        if self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if self.command == "POST" and "Authorization" not in self.headers:
            return self.refuse(401, "", "Invalid username or password.")
        for method, pattern, function in ROUTES:
            if method == self.command.replace("HEAD", "GET") and (match := re.fullmatch(pattern, path)):
                parts = match.groupdict()
                if parts.get("repository", "") not in ("", *self.hub.repositories):
                    return self.refuse(404, "RepoNotFound", "Repository not found")
                if parts.pop("revision", None) not in (None, "main", self.hub.commit_id(parts.get("repository", ""))):
                    return self.refuse(404, "RevisionNotFound", "Invalid rev id")
                return function(self, body, **parts)
        return self.refuse(404, "EntryNotFound", "Entry not found")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer({"url": f"{self.hub.url}/{name}"}, 409)
        self.hub.repositories[name], self.hub.commits[name] = {".gitattributes": b""}, 0
        self.hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        return self.answer({"url": f"{self.hub.url}/{name}"})

    def validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        errors = [] if content.startswith("---\n") else [{"message": "the card has no header"}]
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, body: bytes, repository: str) -> None:
        self.answer({"files": [{"path": file["path"], "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                                "shouldIgnore": False} for file in json.loads(body)["files"]]})

    def batch(self, body: bytes, repository: str) -> None:
        self.answer({"transfer": "basic", "objects": [
            {**entry, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}}
            for entry in json.loads(body)["objects"]]}, headers={"Content-Type": "application/vnd.git-lfs+json"})

    def put(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self.answer()

    def commit(self, body: bytes, repository: str) -> None:
        files = dict(self.hub.repositories[repository])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.repositories[repository] = files
        self.hub.commits[repository] += 1
        commit = self.hub.commit_id(repository)
        self.answer({"commitUrl": f"{self.hub.url}/{repository}/commit/{commit}", "commitOid": commit})

    def info(self, body: bytes, repository: str) -> None:
        self.answer({"id": repository, "sha": self.hub.commit_id(repository), "private": False, "tags": [],
                     "siblings": [{"rfilename": name} for name in self.hub.repositories[repository]]})

    def tree(self, body: bytes, repository: str) -> None:
        self.answer([{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                     for name, content in self.hub.repositories[repository].items()])

    def resolve(self, body: bytes, repository: str, file: str) -> None:
        content = self.hub.repositories[repository].get(file)
        if content is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        return self.answer(content, headers={"ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                                             "X-Repo-Commit": self.hub.commit_id(repository)})


REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
ROUTES = (
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{REPOSITORY}/preupload/main", _Handler.preupload),
    ("POST", rf"/api/models/{REPOSITORY}/commit/main", _Handler.commit),
    ("POST", rf"/{REPOSITORY}.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.put),
    ("GET", rf"/api/models/{REPOSITORY}(/revision/(?P<revision>\w+))?", _Handler.info),
    ("GET", rf"/api/models/{REPOSITORY}/tree/(?P<revision>\w+)", _Handler.tree),
    ("GET", rf"/{REPOSITORY}/resolve/(?P<revision>\w+)/(?P<file>.+)", _Handler.resolve),
)
