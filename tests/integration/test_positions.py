"""Where a stream is: ids in the order of notifications, Pgsse-Position, Last-Event-ID."""

import json

import pytest

from waiting import wait_for
from web import HttpStream

REFRESH = '{"reason":"unknown_position","dropped":null,"topics":["alpha"]}'


@pytest.fixture
def streaming(deploy, database):
    deployment = deploy(database.url).start(publisher=False)
    deployment.database = database
    return deployment


def test_every_notification_moves_the_position_by_one(streaming):
    stream = streaming.stream()
    durable, marker, since = stream.greeting.place
    for channel, payload in [
            ("topic_broadcast_0", "not JSON"),
            ("topic_broadcast_3", ""),
            ("topic_broadcast_7", '{"topic":"beta","data":1}'),  # somebody else's
            ("pgsse_marker", "junk"),
            ("pgsse_marker", '{"marker":"aaaaaaaaaaaaa","set":"0123456789abcdef","pid":1}'),
            ("somewhere_else", "not listened to: does not count"),
            ("topic_broadcast_0", '{"topic":"alpha","data":"here"}')]:
        streaming.database.notify(channel, payload)
    assert stream.next_event().place == (durable, marker, since + 6)


def test_two_streams_see_the_same_ids(streaming):
    one, two = streaming.stream(), streaming.stream()
    for number in range(5):
        streaming.database.publish("alpha", number)
    assert [one.next_event().raw for _ in range(5)] == [two.next_event().raw for _ in range(5)]


def test_head_answers_the_position_and_no_stream(streaming):
    answer = streaming.request("HEAD", "/topics/alpha/events")
    assert answer.status == 200 and answer.body == b""
    stream = streaming.stream()
    for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering", "Incremental", "Vary"):
        assert answer.header(name) == stream.header(name), name
    assert answer.header("Pgsse-Position") == stream.greeting.id
    streaming.database.publish("alpha", 1)
    event = stream.next_event()
    assert streaming.request("HEAD", "/topics/beta/events").header("Pgsse-Position") == event.id


def test_heads_leave_no_subscriber(streaming):
    for _ in range(5):
        streaming.request("HEAD", "/topics/alpha/events")
    assert streaming.totals()["subscribers"] == 0


def test_who_has_read_the_greeting_misses_nothing(streaming):
    for number in range(60):
        stream = streaming.stream(f"t{number}")
        streaming.database.publish(f"t{number}", number)
        event = stream.next_event()
        assert event.data == str(number)
        assert event.place[2] == stream.greeting.place[2] + 1
        stream.close()


def test_a_new_marker_renames_the_place(deploy, database):
    deployment = deploy(database.url, canary_interval="100ms").start(publisher=False)
    stream = deployment.stream()
    places = []

    def has_seen_three():
        database.publish("alpha", 1)
        places.append(stream.next_event().place)
        return len({marker for _, marker, _ in places}) == 3

    wait_for(has_seen_three, "three markers")
    for (_, marker, since), (_, next_marker, next_since) in zip(places, places[1:]):
        assert next_since == (since + 1 if next_marker == marker else 1)


# --- Last-Event-ID: nothing can be replayed yet, and that is said --------------------------------

def assert_refreshed(deployment, stream, first):
    """The greeting, with that id where the client's own position is written again; one refresh;
    then live."""
    block = stream.next_block()
    assert block.comments == ["listening alpha"] and block.retry
    if first is not None:
        assert block.event is None and block.id == first
    refresh = block if block.event else stream.next_block()
    assert refresh.raw.endswith(f"event: refresh\ndata: {REFRESH}\n\n".encode()), refresh
    durable, marker, since = refresh.place
    assert refresh.id == deployment.request("HEAD", "/topics/a/events").header("Pgsse-Position")
    deployment.database.publish("alpha", 1)
    event = stream.next_block()
    assert event.event == "message" and event.place == (durable, marker, since + 1)


@pytest.mark.parametrize("text, first", [
    ("0.abcdefghijklm.17", "0.abcdefghijklm.17"),
    ("0.abcdefghijklm.17~own-id", "0.abcdefghijklm.17"),  # parsed and written again
    ("17.abcdefghijklm.0", "17.abcdefghijklm.0"),
    ("0", None),
    ("junk", None),
    ("0.abc.1", None),
    ("1.2.3", None),
    ("0.abcdefghijklm.99999999999999999999", None),  # 20 digits
    ("-1.abcdefghijklm.1", None),
    ("0.abcdefghijklm.+1", None),
    ("x" * 4000, None),
])
def test_any_last_event_id_is_answered_by_one_refresh(shared, text, first):
    stream = shared.stream(headers={"Last-Event-ID": text}, greeted=False)
    assert_refreshed(shared, stream, first)
    assert b"xxxx" not in stream.raw and b"junk" not in stream.raw
    stream.close()


def test_a_position_that_was_just_given_out_is_unknown_too(streaming):
    first = streaming.stream()
    position = first.greeting.id
    stream = streaming.stream(headers={"Last-Event-ID": position}, greeted=False)
    assert_refreshed(streaming, stream, position)


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_last_event_id_is_none(shared, text):
    stream = shared.stream(headers={"Last-Event-ID": text}, greeted=False)
    assert stream.next_block().event is None
    shared.database.publish("alpha", 1)
    assert stream.next_block().event == "message"
    stream.close()


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId"])
def test_the_query_can_carry_it(shared, name):
    path = f"/topics/alpha/events?x=1&{name}=0.abcdefghijklm%2e5"
    stream = shared.keep(HttpStream(shared.port, path))
    assert stream.next_block().id == "0.abcdefghijklm.5"
    assert json.loads(stream.next_block().data)["reason"] == "unknown_position"
    stream.close()


def test_the_header_wins_over_the_query(shared):
    stream = shared.keep(HttpStream(shared.port, "/topics/alpha/events?last_event_id=0.bbbbbbbbbbbbb.2",
                                     {"Last-Event-ID": "0.aaaaaaaaaaaaa.1"}))
    assert stream.next_block().id == "0.aaaaaaaaaaaaa.1"
    stream.close()


def test_no_byte_of_the_client_comes_back(shared):
    """Not even where the web server lets it through."""
    stream = shared.keep(shared.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events?last_event_id=1%0Adata:%20forged%0A%0A",
               HTTP_LAST_EVENT_ID="0.aaaaaaaaaaaaa.1\ndata: forged").read_headers()
    assert_refreshed(shared, stream, None)
    assert b"forged" not in stream.raw
