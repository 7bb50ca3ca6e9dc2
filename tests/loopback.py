"""A web server on loopback that gives files in pieces, breaks off, changes its mind, and remembers what was asked."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file."""

    content: bytes
    tag: str | None = '"1"'
    cuts: list[int] = field(default_factory=list)
    """After how many bytes of an answer the connection breaks: one number an answer, then none."""
    codes: list[int] = field(default_factory=list)
    """Answers before the file is given."""
    ranges: bool = True
    sized: bool = True
    asked: list[str | None] = field(default_factory=list)
    """The Range of every GET."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        served = self.server.files.get(self.path)
        if served is None or (body and served.codes):
            code = served.codes.pop(0) if served else 404
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        if body:
            served.asked.append(asked)
        begin, size = 0, len(served.content)
        same = self.headers.get("If-Range") in (None, served.tag)
        if asked and served.ranges and same:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
        if begin and begin >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        if served.sized:
            self.send_header("Content-Length", str(size - begin))
        if served.tag:
            self.send_header("ETag", served.tag)
        self.end_headers()
        if body:
            end = begin + served.cuts.pop(0) if served.cuts else size
            self.wfile.write(served.content[begin:end])
        self.close_connection = True


class Loopback:
    """``with Loopback() as web``: ``web.give("a.zip", content)`` returns an address."""

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.files = {}
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def address(self, name):
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def give(self, name, content, **how):
        self.server.files[f"/{name}"] = Served(content, **how)
        return self.address(name)

    def __getitem__(self, name):
        return self.server.files[f"/{name}"]
