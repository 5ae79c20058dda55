"""Requests over HTTP/1.1: answers that end (request) and streams (HttpStream)."""

import http.client
import socket

from sse import Blocks


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.getheaders()]
        self.body = response.read()

    def __repr__(self):
        return f"Answer({self.status}, {self.headers}, {self.body!r})"

    def header(self, name):
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None


class Connection:
    """A connection that may be used again and again."""

    def __init__(self, port, seconds=10):
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)

    def request(self, method, path, body=None, headers=None):
        if isinstance(body, str):
            body = body.encode()
        self._http.putrequest(method, path, skip_accept_encoding=True,
                              skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            self._http.putheader(name, value)
        if body is not None:
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders()
        if body:
            self._http.send(body)
        return Answer(self._http.getresponse())

    def close(self):
        self._http.close()


def request(port, method, path, body=None, headers=None, seconds=10):
    connection = Connection(port, seconds)
    try:
        return connection.request(method, path, body, headers)
    finally:
        connection.close()


class HttpStream(Blocks):
    """GET of a stream through the web server: status line and headers are read, then blocks."""

    def __init__(self, port, path, headers=None, receive_buffer=None, seconds=5):
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(seconds)
        connection.connect(("127.0.0.1", port))
        super().__init__(connection)
        lines = [f"GET {path} HTTP/1.1"]
        lines += [f"{name}: {value}"
                  for name, value in {"Host": "localhost", **(headers or {})}.items()]
        connection.sendall("\r\n".join(lines + ["", ""]).encode())
        self._read_headers()

    def _read_headers(self):
        head = b""
        while b"\r\n\r\n" not in head:
            got = self.socket.recv(65536)
            assert got, f"closed after {head!r}"
            head += got
        head, self._wire = head.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = [(name.lower(), value.strip())
                        for name, _, value in (line.partition(":") for line in lines)]
        self._is_chunked = ("transfer-encoding", "chunked") in self.headers
        self._left = 0  # of the chunk begun
        self._take_wire()

    def _take_wire(self):
        """Moves what the wire brought to the body."""
        if not self._is_chunked:
            self.raw, self._wire = self.raw + self._wire, b""
            return
        while self._wire:
            if self._left > 2:
                part = self._wire[:self._left - 2]
                self.raw += part
                self._wire = self._wire[len(part):]
                self._left -= len(part)
            elif self._left:  # CR LF behind the chunk
                part = self._wire[:self._left]
                assert b"\r\n"[2 - self._left:].startswith(part), part
                self._wire = self._wire[len(part):]
                self._left -= len(part)
            else:
                line, end, rest = self._wire.partition(b"\r\n")
                if not end:
                    return
                self._wire = rest
                self._left = int(line, 16) + 2
                if self._left == 2:
                    self.is_ended = True
                    return

    def _receive(self):
        try:
            got = self.socket.recv(1 << 20)
        except ConnectionResetError:
            return None
        self._wire += got
        self._take_wire()
        return b"" if got and not self.is_ended else None

    @property
    def ended_in_order(self):
        """Did the answer end as HTTP says, and not by a cut?"""
        return self.is_ended and (not self._is_chunked or self._left == 2)

    def header(self, name):
        return dict(self.headers).get(name.lower())
