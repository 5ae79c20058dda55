"""A stream that is cut before its first event: what is published meanwhile is not lost, whatever kind
of client it is. The client here is as poor as one in the field can be: it remembers an id only from
a block with data, and hands every block to the application that has any field but a comment."""

import json

import pytest

from durable import publish
from schema import fixture_durable  # noqa: F401
from web import HttpStream


class PoorClient:
    """Of an EventSource only what the poorest have: lines, blocks, and an id that comes with data."""

    def __init__(self, deployment, path):
        self.deployment, self.path = deployment, path
        self.last_id = None
        self.given = []  # (event, data) as the application gets them

    def read(self, wanted, seconds=5):
        """Until the application has got so many messages."""
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        stream = self.deployment.keep(HttpStream(self.deployment.port, self.path, headers))
        assert stream.status == 200
        while len(self.messages) < wanted or wanted == 0 and self.last_id is None:
            self._take(stream.next_block(seconds).raw.decode())
        stream.close()
        return self

    def _take(self, text):
        fields = {}
        for line in text.split("\n"):
            name, colon, value = line.partition(": ")
            if name and colon:
                fields[name] = value
            elif line == "" and fields.keys() & {"event", "data", "id"}:
                if "data" in fields:
                    self.last_id = fields.get("id", self.last_id)
                self.given.append((fields.get("event"), fields.get("data")))
                fields = {}

    @property
    def messages(self):
        return [data for event, data in self.given if event == "message"]


@pytest.mark.parametrize("path", ("/topics/cut/events",
                                  "/api/events/stream?userId=1&channels=cut",
                                  "/api/events/stream?userId=1&channels=cut&position=1"))
def test_cut_before_the_first_event(deploy, durable, path):
    deployment = deploy(durable.url)
    deployment.start()
    durable.execute("SELECT pgsse.subscribe('1', 'cut')")
    client = PoorClient(deployment, path).read(0)
    for number in range(3):
        publish(durable, "cut", number)
    client.read(3)
    assert client.messages == ["0", "1", "2"]
    assert all(event in ("message", "position") for event, _ in client.given)
    assert all(data for _, data in client.given)
    assert [json.loads(data) for _, data in client.given]  # as README has it


def test_nothing_is_given_to_an_application_that_has_nothing_to_get(deploy, durable):
    """Opening, heartbeats, a cut, and coming back: not one empty event."""
    deployment = deploy(durable.url, keep_alive="100ms")
    deployment.start()
    client = PoorClient(deployment, "/topics/cut/events").read(0)
    stream = deployment.stream("cut", headers={"Last-Event-ID": client.last_id})
    for _ in range(3):
        client._take(stream.next_block().raw.decode())
    assert [event for event, _ in client.given] == ["position"]
