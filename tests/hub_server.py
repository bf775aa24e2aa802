"""A small local stand-in for the Hugging Face hub, for ``HF_ENDPOINT``.

It serves folders as repositories: ``add("owner/name", folder)``. What it answers is what the hub
client needs to resolve a revision, list files and download them; refusals carry the hub's own
error codes. With a folder for ``uploads`` it takes commits of whoever has ``TOKEN``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

TOKEN = "hf_a_token_that_may_write"
USER = "someone"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


_UPLOADS = r"(?:api/models/)?([^/]+/[^/]+?)(?:\.git)?/(preupload|commit|info)/.+"


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.cards: dict[str, dict[str, str]] = {}
        self.uploads: Path | None = None
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, folder: Path, *, dataset: bool = False) -> None:
        self.repositories[f"datasets/{name}" if dataset else name] = folder


@contextmanager
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._body = self.rfile.read(length)
        self._answer()

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.requests.append(f"{self.command} /{path}")
        if self.command in ("POST", "PUT") and self._upload(path):
            return
        if match := re.fullmatch(r"((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        elif match := re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(/.*)?", path):
            kind, name, rest = match.groups()
            self._api(f"datasets/{name}" if kind == "datasets" else name, name, rest or "")
        else:
            self._refuse(404, "EntryNotFound", "nothing here")

    def _upload(self, path: str) -> bool:
        """Creating, uploading and committing; False where the request is none of these."""
        match = re.fullmatch(_UPLOADS, path)
        if path == "api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path.startswith("storage/"):  # where large files go; their address is the permission
            self._stored[path.removeprefix("storage/")] = self._body
            self._json({})
        elif path != "api/repos/create" and match is None:
            return False
        elif self.server.uploads is None or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "Unauthorized", "Invalid credentials")
        elif match is None:
            asked = json.loads(self._body)
            name = f"{asked.get('organization') or USER}/{asked['name']}"
            if name.startswith("another/"):
                self._refuse(403, "Forbidden", "no right to write here")
                return True
            (self.server.uploads / name).mkdir(parents=True, exist_ok=True)
            self.server.add(name, self.server.uploads / name)
            self._json({"url": f"{self.server.endpoint}/{name}"})
        else:
            name, what = match.groups()
            {"preupload": self._preupload, "info": self._large, "commit": self._commit}[what](name)
        return True

    def _preupload(self, name: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self._body)["files"]
        ]
        self._json({"files": files})

    def _large(self, name: str) -> None:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.server.endpoint}/storage/{o['oid']}"}}}
            for o in json.loads(self._body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str) -> None:
        assert self.server.uploads is not None
        for line in self._body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                continue
            value = entry["value"]
            content = (
                self._stored[value["oid"]]
                if entry["key"] == "lfsFile"
                else base64.b64decode(value["content"])
            )
            (self.server.uploads / name / value["path"]).write_bytes(content)
        url = f"{self.server.endpoint}/{name}/commit/{COMMIT}"
        self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

    _stored: ClassVar[dict[str, bytes]] = {}

    def _find(self, key: str) -> Path | None:
        if key in self.server.gated:
            self._refuse(403, "GatedRepo", "Access to this repository is restricted")
            return None
        folder = self.server.repositories.get(key)
        if folder is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        return folder

    def _file(self, key: str, revision: str, name: str) -> None:
        folder = self._find(key)
        if folder is None:
            return
        if revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        file = folder / name
        if not file.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        self._send(200, content, "application/octet-stream", headers)

    def _api(self, key: str, name: str, rest: str) -> None:
        folder = self._find(key)
        if folder is None:
            return
        revision = re.match(r"/(?:revision|tree|paths-info)/([^/]+)", rest)
        if revision and revision.group(1) not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision.group(1)}")
            return
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if rest.startswith(("/tree/", "/paths-info/")):
            wanted = files
            if rest.startswith("/paths-info/"):
                asked = json.loads(self._body).get("paths", []) if self._body else []
                wanted = [f for f in files if f in asked]
            entries = [
                {
                    "type": "file",
                    "path": f,
                    "size": (folder / f).stat().st_size,
                    "oid": hashlib.sha1((folder / f).read_bytes()).hexdigest(),
                }
                for f in wanted
            ]
            self._json(entries)
        else:
            siblings = [{"rfilename": f} for f in files]
            self._json(
                {"_id": "0", "id": name, "sha": COMMIT, "private": False, "gated": False,
                 "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
                 "cardData": self.server.cards.get(name, {})}
            )  # fmt: skip

    _body = b""

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), "application/json", {})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, json.dumps({"error": message}).encode(), "application/json", headers)

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
