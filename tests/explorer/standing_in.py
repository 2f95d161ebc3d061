"""A stand-in for Zooniverse's API on this machine: as much of it as uploading and retiring need."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD, CLIENT, SECRET, TOKEN = "galaxy", "pass-word", "client-1", "client-secret", "token-1"


class Panoptes(ThreadingHTTPServer):
    """What it was told; `trouble` is asked before each answer and may raise, or return a status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.sets: dict[int, dict[str, Any]] = {}
        self.subjects: dict[int, dict[str, Any]] = {}
        self.media: dict[int, bytes] = {}
        self.retired: list[tuple[int, tuple[str, ...], str]] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.trouble: dict[tuple[str, str], list[int]] = {}
        self.next_id = 1000
        self.lock = threading.Lock()

    def new_id(self) -> int:
        with self.lock:
            self.next_id += 1
            return self.next_id

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Panoptes
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do(self) -> None:
        server, method = self.server, self.command
        parts = urlsplit(self.path)
        path, query = parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with server.lock:
            server.asked.append((method, path))
            server.headers.append(dict(self.headers))
            key = next((k for k in server.trouble if k[0] == method and re.fullmatch(k[1], path)), None)
            status = server.trouble[key].pop(0) if key and server.trouble[key] else 200
        lost = status == -1  # it is done, and the answer never arrives
        if status >= 400:
            return self.answer(status, {"errors": [{"message": f"trouble {status}"}]})
        if path == "/users/sign_in":
            if method == "GET":
                return self.answer(200, {}, x_csrf_token="csrf")
            told = json.loads(body)["user"]
            if (told["login"], told["password"]) != (USER, PASSWORD):
                return self.answer(401, {"error": "Invalid email or password."})
            return self.answer(200, {"users": [{"id": "1"}]})
        if path == "/oauth/token":
            told = parse_qs(body.decode())
            if told["grant_type"] == ["client_credentials"] and told["client_secret"] != [SECRET]:
                return self.answer(401, {"errors": "unknown client"})
            return self.answer(200, {"access_token": TOKEN, "expires_in": 7200, "refresh_token": "again"})
        if path.startswith("/media/"):
            server.media[int(path.rsplit("/", 1)[1])] = body
            return self.answer(201)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"errors": [{"message": "You must be logged in"}]})
        answer = self.api(method, path.removeprefix("/api"), query, json.loads(body) if body else {})
        if lost:
            self.close_connection = True
            return self.connection.close()
        status, content, headers = (*answer, None, None)[:3]
        return self.answer(status, content, **(headers or {}))

    do_GET = do_POST = do_PUT = do_DELETE = do

    def api(self, method: str, path: str, query: dict[str, str], told: dict[str, Any]) -> tuple[Any, ...]:
        server = self.server
        if (method, path) == ("GET", "/subject_sets"):
            found = [s for s in server.sets.values() if s["links"]["project"] == query["project_id"]]
            return self.page("subject_sets", found, query)
        if (method, path) == ("POST", "/subject_sets"):
            made = {**told["subject_sets"], "id": str(server.new_id())}
            server.sets[int(made["id"])] = made
            return 201, {"subject_sets": [made]}
        if (method, path) == ("GET", "/subjects"):
            return self.page("subjects", self.of_set(query["subject_set_id"]), query)
        if (method, path) == ("POST", "/subjects"):
            subject = server.new_id()
            made = {**told["subjects"], "id": str(subject)}
            made["locations"] = [{kind: f"{server.url}/media/{subject}"} for kind in made["locations"]]
            server.subjects[subject] = made
            return 201, {"subjects": [made]}
        if found := re.fullmatch(r"/subjects/(\d+)", path):
            subject = int(found[1])
            if subject not in server.subjects:
                return 404, {"errors": [{"message": "no such subject"}]}
            if method == "DELETE":
                if self.headers.get("If-Match") != f'"{subject}"':
                    return 428, {"errors": [{"message": "If-Match is missing"}]}
                del server.subjects[subject]
                return (204,)
            return 200, {"subjects": [server.subjects[subject]]}, {"ETag": f'"{subject}"'}
        if found := re.fullmatch(r"/workflows/(\d+)/retired_subjects", path):
            server.retired.append((int(found[1]), tuple(told["subject_ids"]), told["retirement_reason"]))
            return (204,)
        return 404, {"errors": [{"message": f"{method} {path} is not stood in for"}]}

    def of_set(self, subject_set: str) -> list[dict[str, Any]]:
        return [s for _, s in sorted(self.server.subjects.items()) if subject_set in s["links"]["subject_sets"]]

    @staticmethod
    def page(kind: str, found: list[Any], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        size, page = 3, int(query["page"])  # smaller than was asked for, as a server may
        meta = {"page": page, "page_count": max(1, -(-len(found) // size))}
        return 200, {kind: found[(page - 1) * size : page * size], "meta": {kind: meta}}


@contextmanager
def panoptes() -> Iterator[Panoptes]:
    """The stand-in, at work."""
    server = Panoptes()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
