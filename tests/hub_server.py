"""A small local stand-in for the Hugging Face hub, for ``HF_ENDPOINT``.

It serves folders as repositories: ``add("owner/name", folder)``. What it answers is what the hub
client needs to resolve a revision, list files and download them; refusals carry the hub's own
error codes.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
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

    def _answer(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.requests.append(f"{self.command} /{path}")
        if match := re.fullmatch(r"((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        elif match := re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(/.*)?", path):
            kind, name, rest = match.groups()
            self._api(f"datasets/{name}" if kind == "datasets" else name, name, rest or "")
        else:
            self._refuse(404, "EntryNotFound", "nothing here")

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
                 "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings}
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
