"""What every client has to have been handed after the scenario; a module of tests takes them in with
its own clients."""

import json

import pytest

from scenario import STREAMS, after_cut, events, positions, until_cut, wanted


@pytest.mark.parametrize("stream", STREAMS)
def test_nothing_is_lost_over_a_cut(records, stream):
    """In order, once, also if several names match; and nothing else was handed over: no empty event,
    no heartbeat."""
    assert events(after_cut(records(stream))) == wanted(stream) + [("close", "{}")]


@pytest.mark.parametrize("stream", [name for name in STREAMS if name != "lost"])
def test_a_quiet_stream_hands_over_nothing_but_positions(records, stream):
    assert events(until_cut(records(stream))) == []


def test_a_position_that_cannot_be_used_is_told(records):
    (kind, data), = events(until_cut(records("lost")))
    assert kind == "refresh" and json.loads(data)["reason"] == "unknown_position"
    assert positions(records("lost")) == []


@pytest.mark.parametrize("stream", ["cut", "user", "asked", "many"])
def test_a_stream_is_given_its_position_once(records, stream):
    position, = positions(records(stream))
    assert json.loads(position.data) == {"position": position.id} and position.id
    assert position in until_cut(records(stream))


def test_a_page_can_see_that_its_stream_is_alive(records):
    """The first position comes with the opening, the next instead of a heartbeat."""
    seen = positions(until_cut(records("beat")))
    assert len(seen) >= 2
    assert all(json.loads(position.data) == {"position": position.id} for position in seen)
