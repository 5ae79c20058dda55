"""A client as a browser's EventSource is one: takes whole blocks only, remembers the last id, and
comes back with it. It is connected to a handler directly, without the web server's buffers."""

import time

from sse import whole_pieces


class Source:
    def __init__(self, deployment, topic="alpha", position=None, handler=0, query="", encoding=""):
        self.deployment = deployment
        self.topic = topic
        self.query = query
        self.encoding = encoding
        self.position = position  # the last id, as it will be handed in
        self.events = []          # blocks with data, of all connections, but for positions
        self.connection = None
        self.connect(handler=handler)

    def connect(self, deployment=None, handler=0):
        """Asks, and does not wait for the answer."""
        self.deployment = deployment or self.deployment
        params = {} if self.position is None else {"HTTP_LAST_EVENT_ID": self.position}
        self.connection = self.deployment.streams[handler].connect()
        self.deployment.keep(self.connection)
        if self.encoding:
            params["HTTP_ACCEPT_ENCODING"] = self.encoding
        if self.query:
            params["QUERY_STRING"] = self.query
        self.connection.ask("GET", f"/topics/{self.topic}/events", **params)
        return self

    def _note(self, block):
        if block.id is not None:
            self.position = block.id
        if block.data is not None and block.event != "position":
            self.events.append(block)
        return block

    def next_block(self, seconds=5):
        return self._note(self.connection.next_block(seconds))

    def next_event(self, seconds=5):
        """Also a refresh or close; greetings, heartbeats and positions are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            block = self.next_block(max(0, deadline - time.monotonic()))
            if block.data is not None and block.event != "position":
                return block

    def next_data(self, seconds=5):
        block = self.next_event(seconds)
        assert block.event not in ("refresh", "close"), block
        return block.json()

    def read_to(self, data, seconds=5):
        """Up to the event with that data, which is the last taken."""
        deadline = time.monotonic() + seconds
        while not self.events or _data(self.events[-1]) != data:
            self.next_event(max(0, deadline - time.monotonic()))
        return self

    def read_ended(self, seconds=5):
        """All blocks up to the end that the handler makes."""
        return [self._note(block) for block in self.connection.read_to_end(seconds)]

    def read_bytes(self, count, seconds=5):
        """Takes what is whole in the first bytes of the body, so many, and nothing behind them."""
        deadline = time.monotonic() + seconds
        while len(self.connection.raw) < count:
            assert not self.connection.is_ended and self.connection._fill(deadline)
        for block in whole_pieces(self.connection.raw[:count]):
            self._note(block)
        return self

    def cut(self):
        self.connection.close()
        return self

    def greeted(self):
        """Reads the opening, which has to be an ordinary greeting, perhaps after a waiting. The client
        that came without a position has been given one with it; another has its own."""
        self.greeting = self.next_block()
        if self.position is not None and self.greeting.comments == ["waiting"]:
            self.greeting = self.next_block()
        assert f"listening {self.topic}" in self.greeting.comments, self.greeting
        return self

    @property
    def data(self):
        """Of all events; a refresh is its reason."""
        return [_data(block) for block in self.events]


def _data(block):
    return block.json()["reason"] if block.event == "refresh" else block.json()


def place_text(durable, marker, since):
    return f"{durable}.{marker}.{since}"
