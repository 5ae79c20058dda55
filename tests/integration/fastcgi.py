"""A web server by hand: speaks FastCGI to a handler, says what it wants, and sees every record."""

import collections
import socket
import struct

from sse import Blocks

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES = \
    range(1, 10)
RESPONDER = 1
KEEP_CONNECTION = 1

Record = collections.namedtuple("Record", "type request_id content")


def record(kind, content=b"", request_id=1):
    return struct.pack(">BBHHBB", 1, kind, request_id, len(content), 0, 0) + content


def begin(flags=0, request_id=1):
    return record(BEGIN_REQUEST, struct.pack(">HB5x", RESPONDER, flags), request_id)


def _length(value):
    return bytes([value]) if value < 128 else struct.pack(">I", value | 1 << 31)


def pairs(params):
    out = b""
    for name, value in params.items():
        name, value = name.encode(), value if isinstance(value, bytes) else value.encode()
        out += _length(len(name)) + _length(len(value)) + name + value
    return out


def request_bytes(method, uri, body=b"", flags=0, **params):
    """All records of one request, as lighttpd sends them."""
    path, _, query = uri.partition("?")
    values = {"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1",
              "REQUEST_METHOD": method, "REQUEST_URI": uri, "SCRIPT_NAME": "", "PATH_INFO": path,
              "QUERY_STRING": query, "REMOTE_ADDR": "127.0.0.1", "SERVER_SOFTWARE": "test",
              "CONTENT_LENGTH": str(len(body))}
    values.update(params)
    out = begin(flags) + record(PARAMS, pairs(values)) + record(PARAMS)
    for at in range(0, len(body), 32768):
        out += record(STDIN, body[at:at + 32768])
    return out + record(STDIN)


class FastCgi(Blocks):
    """A connection to a handler. ask() sends one request; then either answer() for one that ends,
    or, when read_headers() was called, blocks as in any stream."""

    def __init__(self, path, seconds=5):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        super().__init__(connection)
        self._limit(seconds)
        self._wire = b""
        self.records = []   # all that came
        self._text = b""    # of STDOUT, as far as the headers are not complete
        self.headers = None
        self.status = None
        self.end_status = None  # (application status, protocol status) of END_REQUEST
        self.is_closed = False
        self.receive_bytes = 1 << 20  # at most, at a time

    def _limit(self, seconds):
        """Blocking, and the kernel keeps the time: a socket with Python's timeout polls before it
        writes, and so stops at a quarter of the buffer, which no web server does."""
        value = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, method, uri, body=b"", **params):
        self.send(request_bytes(method, uri, body, **params))
        return self

    def _take_records(self):
        while len(self._wire) >= 8:
            _, kind, request_id, length, padding, _ = struct.unpack(">BBHHBB", self._wire[:8])
            if len(self._wire) < 8 + length + padding:
                return
            content = self._wire[8:8 + length]
            self._wire = self._wire[8 + length + padding:]
            assert self.end_status is None, "a record behind END_REQUEST"
            self.records.append(Record(kind, request_id, content))
            if kind == STDOUT:
                self._text += content
            elif kind == END_REQUEST:
                self.end_status = struct.unpack(">IB3x", content)

    def _receive(self):
        try:
            got = self.socket.recv(self.receive_bytes)
        except ConnectionResetError:
            got = b""
        self._wire += got
        self._take_records()
        if not got:
            self.is_closed = True
        if self.headers is None:
            head, blank, rest = self._text.partition(b"\r\n\r\n")
            if blank:
                lines = [line.partition(":") for line in head.decode().split("\r\n")]
                self.headers = {name.lower(): value.strip() for name, _, value in lines}
                self.status = int(self.headers.get("status", "200").split()[0])
                self._text = rest
                self._expect_encoding(self.headers.get("content-encoding"))
        if self.headers is None:
            return None if self.is_closed else b""
        text, self._text = self._text, b""
        if text:
            return self._decoded(text)
        return None if self.is_closed or self.end_status is not None else b""

    def read_headers(self):
        while self.headers is None:
            got = self._receive()
            assert got is not None, f"closed before the headers: {self._text!r}"
            self.raw += got
        return self

    def answer(self):
        """Reads to the end of the request; self.status, .headers, .raw tell."""
        while True:
            got = self._receive()
            if got is None:
                break
            self.raw += got
        assert self.headers is not None, f"no headers: {self._text!r}"
        return self

    def wait_closed(self, seconds=5):
        """The handler closes, or resets, the connection."""
        self._limit(seconds)
        while not self.is_closed:
            self._receive()
