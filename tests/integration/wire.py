"""The broker's protocol by hand (its specification is the head of common/wire.h): a handler that
says what a test wants it to say."""

import os
import socket
import struct

MAGIC = 0x73736770
VERSION = 8
(HELLO, SUBSCRIBE, UNSUBSCRIBE, ASK_POSITION, ASK_DOCUMENT, REPORT, RESUME, CREDIT) = range(1, 9)
(WELCOME, ACCEPTED, REFUSED, REFRESH, SUBSCRIBED, EVENT, POSITION, DOCUMENT, ASK_REPORT, GOODBYE,
 REPLAY, RECHECK) = range(65, 77)
OF_TOPICS, OF_CONNECTIONS = range(2)  # the forms
REQUEST_BYTES_MAX = 64 * 1024
CREDIT_BYTES = 64 * 1024  # of a replay, at its start
NO_POSITION, MALFORMED_POSITION, ALL_POSITION, KNOWN_POSITION = range(4)


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(value)) + value


def topic(name, tenant=""):
    """A topic's key, or nothing for no topic."""
    name = name if isinstance(name, bytes) else name.encode()
    return text(tenant.encode() + b"\n" + name if name else b"")


def topics(*names):
    return struct.pack("<H", len(names)) + b"".join(topic(name) for name in names)


def frame(kind, body=b""):
    return struct.pack("<IB", len(body), kind) + body


def hello(magic=MAGIC, version=VERSION):
    return frame(HELLO, struct.pack("<IHI", magic, version, os.getpid()))


def position(marker="", since=0, durable=0):
    return struct.pack("<Q", durable) + text(marker) + struct.pack("<Q", since)


def no_position():
    return position()


def resume(place=None, is_last=True, **clients):
    """place: (marker, since) where the last connection ended; clients by topic."""
    body = struct.pack("<BB", is_last, NO_POSITION if place is None else KNOWN_POSITION)
    body += position(*place) if place else no_position()
    entries = [resume_entry(name, count) for name, count in clients.items()]
    return frame(RESUME, body + struct.pack("<I", len(entries)) + b"".join(entries))


def resume_entry(name, clients):
    return topic(name) + struct.pack("<I", clients)


def introduction():
    """Of a handler without clients."""
    return hello() + resume()


def subscribe(token, *names, place=None, form=OF_TOPICS):
    kind = NO_POSITION if place is None else KNOWN_POSITION
    return frame(SUBSCRIBE, struct.pack("<QBB", token, form, kind)
                 + (position(*place) if place else no_position()) + text("")
                 + topics(*names))


def credit(token, count):
    return frame(CREDIT, struct.pack("<QI", token, count))


def unsubscribe(token, *names, form=OF_TOPICS):
    return frame(UNSUBSCRIBE, struct.pack("<QB", token, form) + topics(*names))


FULL_HEALTH, SHORT_HEALTH, USER_STREAMS, STREAM_STATS = range(4)  # the kinds of documents


def ask_position(token):
    return frame(ASK_POSITION, struct.pack("<Q", token))


def ask_document(kind, token, limit=0, tenant=""):
    return frame(ASK_DOCUMENT, struct.pack("<QBI", token, kind, limit) + text(tenant))


class Reader:
    """Takes a body apart."""

    def __init__(self, body):
        self.body = body

    def number(self, form):
        size = struct.calcsize("<" + form)
        value, = struct.unpack("<" + form, self.body[:size])
        self.body = self.body[size:]
        return value

    def text(self):
        length = self.number("I")
        value, self.body = self.body[:length], self.body[length:]
        assert len(value) == length
        return value

    def position(self):
        return self.number("Q"), self.text(), self.number("Q")

    def topic(self):
        """Its name; its tenant is "". Empty: no topic."""
        key = self.text()
        assert not key or key[:1] == b"\n"
        return key[1:]

    def topics(self):
        return [self.topic().decode() for _ in range(self.number("H"))]

    def entries(self):
        """Of a RESUME: {topic: clients}."""
        return {self.topic().decode(): self.number("I") for _ in range(self.number("I"))}


class Handler:
    """A connection to broker.sock."""

    def __init__(self, path, seconds=5, greet=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(str(path))
        self._input = b""
        if greet:
            self.send(introduction())
            assert self.next_of(WELCOME)

    def send(self, data):
        self.socket.sendall(data)

    def next(self):
        """(type, body) of the next frame, or None when the broker has closed."""
        while True:
            if len(self._input) >= 5:
                length, kind = struct.unpack("<IB", self._input[:5])
                if len(self._input) >= 5 + length:
                    body = self._input[5:5 + length]
                    self._input = self._input[5 + length:]
                    return kind, body
            try:
                got = self.socket.recv(1 << 20)
            except (ConnectionResetError, BrokenPipeError):
                got = b""
            if not got:
                return None
            self._input += got

    def next_of(self, kind):
        """The body of the next frame of that type; others are passed over."""
        while True:
            got = self.next()
            assert got is not None, f"closed, no frame of type {kind}"
            if got[0] == kind:
                return got[1]

    def goodbye(self):
        """The reason with which the broker ends the connection; None if it ends without one."""
        reason = None
        while True:
            got = self.next()
            if got is None:
                return reason
            if got[0] == GOODBYE:
                reason = Reader(got[1]).text().decode()

    def close(self):
        self.socket.close()
