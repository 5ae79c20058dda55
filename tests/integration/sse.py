"""A reader of Server-Sent Events that keeps every byte, so that frames can be compared exactly.

A blank line may come only after data (and after the heartbeats of user streams, see HEARTBEAT): the
reader insists. What stands between blocks, the opening and the heartbeats of topics streams, it
hands out as pieces of their own, like blocks without data."""

import json
import re
import select
import time
import zlib

BLOCK_END = b"\n\n"
HEARTBEAT = b": heartbeat\n\n"
LINES = re.compile(  # the opening, with the position that follows it at once; or a heartbeat
    rb"(?:retry: \d+\n)?: (?:waiting|connected|listening [^\n]*)\n"
    rb"(?:event: position\n(id: (\S+)\n)data: \{\"position\":\"\2\"\}\n\n)?"
    rb"|: heartbeat\n(?!\n)")
POSITION = rb"(\d+)\.([0-9a-z]{13})\.(\d+)"


class Block:
    """One block: its bytes with the blank line, and what the lines mean. lines: given if they are
    others: of an opening with a position, the greeting's and the id."""

    def __init__(self, raw, lines=None):
        self.raw = raw
        assert b"\r" not in raw, raw
        text = (raw if lines is None else lines).decode()
        self.lines = (text[:-2] if text.endswith("\n\n") else text[:-1]).split("\n")
        self.fields = [tuple(line.partition(":")[::2]) for line in self.lines]
        assert all(value == "" or value.startswith(" ") for _, value in self.fields), raw

    def __repr__(self):
        return f"Block({self.raw!r})"

    def _values(self, name):
        return [value[1:] for field, value in self.fields if field == name]

    def _value(self, name):
        values = self._values(name)
        assert len(values) <= 1, self.raw
        return values[0] if values else None

    @property
    def comments(self):
        return self._values("")

    @property
    def id(self):
        return self._value("id")

    @property
    def event(self):
        return self._value("event")

    @property
    def retry(self):
        return self._value("retry")

    @property
    def data(self):
        lines = self._values("data")
        return "\n".join(lines) if lines else None

    def json(self):
        return json.loads(self.data)

    @property
    def place(self):
        """(D, M, S) of the id."""
        match = re.fullmatch(POSITION, self.id.split("~")[0].encode())
        assert match, self.raw
        return int(match[1]), match[2].decode(), int(match[3])


def whole_pieces(text):
    """What of these bytes of a body is whole."""
    blocks = Blocks(None)
    blocks.raw = text
    return list(iter(blocks._take, None))


class Blocks:
    """Blocks out of a connection. Who inherits says how bytes of the body come: _receive() returns
    some after reading from self.socket once, b"" if none yet, and None at the end of the body."""

    def __init__(self, socket):
        self.socket = socket
        self.raw = b""     # the whole body so far
        self._parsed = 0
        self.is_ended = False
        self._gzip = None  # its decoder

    def _expect_encoding(self, encoding):
        """What the headers say."""
        assert encoding in (None, "gzip"), encoding
        self._gzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding else None

    def _decoded(self, part):
        """All that can be read of it: nothing that has come whole may wait in a decoder."""
        if self._gzip is None:
            return part
        assert not (self._gzip.eof and part), "something comes after the end"
        return self._gzip.decompress(part)

    @property
    def has_gzip_end(self):
        """With the right checksum and length."""
        return self._gzip.eof and not self._gzip.unused_data

    def fileno(self):
        return self.socket.fileno()

    def close(self):
        self.socket.close()

    def _fill(self, deadline):
        """Reads once; False when nothing came in time."""
        ready, _, _ = select.select([self.socket], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        got = self._receive()
        if got is None:
            self.is_ended = True
        else:
            self.raw += got
        return True

    def _take(self):
        lines = LINES.match(self.raw, self._parsed)
        if lines is not None:
            self._parsed = lines.end()
            position = lines[0].find(b"event: position")
            return Block(lines[0], lines[0] if position < 0 else lines[0][:position] + lines[1])
        at = self.raw.find(BLOCK_END, self._parsed)
        if at < 0:
            return None
        raw = self.raw[self._parsed:at + 2]
        self._parsed = at + 2
        block = Block(raw)
        assert block.data is not None or raw == HEARTBEAT, f"a block without data: {raw!r}"
        return block

    def forget(self):
        """What was parsed is not kept: a long stream is not copied again and again."""
        self.raw, self._parsed = self.raw[self._parsed:], 0

    def next_block(self, seconds=5):
        deadline = time.monotonic() + seconds
        while True:
            block = self._take()
            if block is not None:
                return block
            assert not self.is_ended, f"the stream ended after {self.raw[-300:]!r}"
            assert self._fill(deadline), f"no block within {seconds} s after {self.raw[-300:]!r}"

    def blocks_so_far(self):
        """What has come since, without waiting for more."""
        while not self.is_ended and self._fill(time.monotonic()):
            pass
        return list(iter(self._take, None))

    def next_event(self, seconds=5):
        """The next block that has data; heartbeats, greetings and positions are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            block = self.next_block(max(0, deadline - time.monotonic()))
            if block.data is not None and block.event != "position":
                return block

    def next_data(self, seconds=5):
        block = self.next_event(seconds)
        assert block.event not in ("refresh", "close"), block
        return block.json()

    def next_refresh(self, seconds=5):
        block = self.next_event(seconds)
        assert block.event == "refresh", block
        return block

    def read_to_end(self, seconds=5):
        """All blocks up to the end of the body."""
        blocks = []
        deadline = time.monotonic() + seconds
        while True:
            block = self._take()
            if block is not None:
                blocks.append(block)
            elif self.is_ended:
                assert self._parsed == len(self.raw), f"half a block: {self.raw[self._parsed:]!r}"
                return blocks
            else:
                assert self._fill(deadline), f"no end within {seconds} s: {self.raw[-300:]!r}"

    def silence(self, seconds):
        """Nothing may come in that time."""
        deadline = time.monotonic() + seconds
        while True:
            block = self._take()
            assert block is None, f"{block} came"
            if self.is_ended or not self._fill(deadline):
                return
