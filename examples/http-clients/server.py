"""A server that knows nothing of attestation: a page, a stream of events, an upload, and git repositories.

    server.py PORT [--git DIR] [--tls CERT KEY]

    GET  /            the request as it arrived: request line and headers
    GET  /events?n=5  n server-sent events, 100 ms apart
    GET  /bytes?n=9   n bytes
    POST /upload      SHA-256 of the body
    any  /git/...     git's own http-backend over the repositories in DIR
"""

import argparse
import hashlib
import os
import ssl
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    git_root = None

    def do_GET(self):
        url = urlsplit(self.path)
        count = int(parse_qs(url.query).get("n", ["5"])[0])
        if url.path.startswith("/git/"):
            self.git(url)
        elif url.path == "/events":
            self.events(count)
        elif url.path == "/bytes":
            self.answer(b"x" * count)
        else:
            self.answer(f"{self.requestline}\n{self.headers}".encode())

    def do_POST(self):
        url = urlsplit(self.path)
        if url.path.startswith("/git/"):
            self.git(url)
        else:
            self.answer(hashlib.sha256(self.body()).hexdigest().encode())

    def answer(self, body, status=200, headers=(("Content-Type", "text/plain"),)):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, count):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(1, count + 1):
            self.chunk(f"data: event {number}\n\n".encode())
            time.sleep(0.1)
        self.chunk(b"")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def git(self, url):
        """CGI (RFC 3875) to `git http-backend`."""
        body = self.body()
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.git_root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path.removeprefix("/git"),
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE, check=True)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().splitlines()]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self.answer(answer, status, [header for header in headers if header[0] != "Status"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--git")
    parser.add_argument("--tls", nargs=2)
    args = parser.parse_args()
    Handler.git_root = args.git
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
