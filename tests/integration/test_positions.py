"""Where a stream is: ids in the order of notifications, Pgsse-Position, Last-Event-ID."""

import json

import pytest

from cluster import Listener
from marker import name_of, say_marker
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


# --- Last-Event-ID: which places are known (what is replayed from them: test_resume.py) -----------

def next_but_waiting(stream):
    """The first block; where the barrier took long, the one behind it."""
    block = stream.next_block()
    assert block.retry
    return stream.next_block() if block.comments == ["waiting"] else block


def publish(deployment, data):
    """An event of alpha, that the broker has heard by now."""
    before = deployment.totals()["published"]
    deployment.database.publish("alpha", data)
    deployment.wait_totals(published=before + 1)


def assert_refreshed(deployment, stream):
    """The greeting; one refresh, with the first id; then live."""
    greeting = next_but_waiting(stream)
    assert greeting.comments == ["listening alpha"] and greeting.id is None
    refresh = stream.next_block()
    assert refresh.raw.endswith(f"event: refresh\ndata: {REFRESH}\n\n".encode()), refresh
    durable, marker, since = refresh.place
    assert refresh.id == deployment.request("HEAD", "/topics/a/events").header("Pgsse-Position")
    deployment.database.publish("alpha", 1)
    event = stream.next_block()
    assert event.event == "message" and event.place == (durable, marker, since + 1)


@pytest.mark.parametrize("text", [
    "0.abcdefghijklm.17", "0.abcdefghijklm.17~own-id", "17.abcdefghijklm.0", "00.abcdefghijklm.017",
    "17", "junk", "0.abc.1", "1.2.3",
    "0.abcdefghijklm.99999999999999999999",  # 20 digits
    "-1.abcdefghijklm.1", "0.abcdefghijklm.+1", "x" * 4000,
], ids=lambda text: str(text)[:24])
def test_an_unknown_place_is_answered_by_one_refresh(shared, text):
    publish(shared, "of the past: nobody gets it")
    stream = shared.stream(headers={"Last-Event-ID": text}, greeted=False)
    assert_refreshed(shared, stream)
    assert b"xxxx" not in stream.raw and b"junk" not in stream.raw
    stream.close()


@pytest.mark.parametrize("beyond", [2, 1000, 9 * 10 ** 18])
def test_a_place_that_is_not_reached_yet_is_unknown(streaming, beyond):
    """After the barrier; until then it might be that of a broker that is ahead."""
    durable, marker, since = streaming.stream().greeting.place
    place = f"{durable}.{marker}.{since + beyond}"
    stream = streaming.stream(headers={"Last-Event-ID": place}, greeted=False)
    assert_refreshed(streaming, stream)


def test_a_place_that_is_reached_before_the_barrier_is_known(streaming):
    """Here by the barrier's own marker, which is a notification, too."""
    durable, marker, since = streaming.stream().greeting.place
    stream = streaming.stream(headers={"Last-Event-ID": f"{durable}.{marker}.{since + 1}"},
                              greeted=False)
    greeting = next_but_waiting(stream)
    assert greeting.comments == ["listening alpha"]
    streaming.database.publish("alpha", 1)
    assert stream.next_block().event == "message"


def test_the_barrier_waits_for_a_marker_sent_after_the_question(streaming):
    """Known places are answered at once, without one."""
    first = streaming.stream()
    before = streaming.totals()["notifications"]
    streaming.stream(headers={"Last-Event-ID": first.greeting.id})
    assert streaming.totals()["notifications"] == before
    stream = streaming.stream(headers={"Last-Event-ID": "0.abcdefghijklm.1"}, greeted=False)
    stream.next_block()
    refresh = stream.next_refresh()
    assert refresh.place[1] != first.greeting.place[1] and refresh.place[2] == 0
    assert streaming.totals()["notifications"] == before + 1


def test_many_who_ask_at_once_share_the_barrier(streaming):
    before = streaming.totals()["notifications"]
    streams = [streaming.keep(streaming.streams[0].connect()) for _ in range(30)]
    for stream in streams:
        stream.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0.abcdefghijklm.1")
    for stream in streams:
        stream.read_headers().next_refresh()
    assert streaming.totals()["notifications"] <= before + 10


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_last_event_id_is_none(shared, text):
    publish(shared, "of the past: nobody gets it")
    stream = shared.stream(headers={"Last-Event-ID": text}, greeted=False)
    assert stream.next_block().event is None
    shared.database.publish("alpha", 1)
    assert stream.next_block().event == "message"
    stream.close()


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId"])
def test_the_query_can_carry_it(shared, name):
    path = f"/topics/alpha/events?x=1&{name}=0.abcdefghijklm%2e5"
    stream = shared.keep(HttpStream(shared.port, path))
    assert stream.next_refresh().json()["reason"] == "unknown_position"
    stream.close()


def test_the_header_wins_over_the_query(shared):
    topic = "header-and-query"
    first = shared.stream(topic)
    shared.database.publish(topic, 1)
    known = first.next_event().id
    for header, query, wanted in ((first.greeting.id, known, 1), (known, first.greeting.id, 2)):
        stream = shared.keep(HttpStream(shared.port, f"/topics/{topic}/events?last_event_id={query}",
                                        {"Last-Event-ID": header}))
        if wanted == 2:
            shared.database.publish(topic, 2)
        assert stream.next_event().json() == wanted
        stream.close()
    first.close()


def test_no_byte_of_the_client_comes_back(shared):
    """Not even where the web server lets it through."""
    stream = shared.keep(shared.streams[0].connect())
    stream.ask("GET", "/topics/alpha/events?last_event_id=1%0Adata:%20forged%0A%0A",
               HTTP_LAST_EVENT_ID="0.aaaaaaaaaaaaa.1\ndata: forged").read_headers()
    assert_refreshed(shared, stream)
    assert b"forged" not in stream.raw


# --- markers that cannot be trusted ---------------------------------------------------------------

@pytest.fixture
def markers(streaming):
    """What the broker says to Postgres on its marker channel."""
    listener = Listener(streaming.database, ["pgsse_marker"])
    yield listener
    listener.close()


def ask_with(streaming, place):
    """The first event or refresh that a client with this position gets."""
    stream = streaming.stream(headers={"Last-Event-ID": place}, greeted=False)
    event = stream.next_event()
    stream.close()
    return event


def a_marker(streaming, markers, number=0):
    """The payload of one that the broker sends, provoked by an unknown place."""
    streaming.stream(headers={"Last-Event-ID": "0.zzzzzzzzzzzzz.1"}, greeted=False)
    return json.loads(markers.heard(number + 1)[number][1])


def test_a_genuine_marker_of_another_broker_is_a_place(streaming, markers):
    """Somebody with the same set of channels, whose position is unknown to nobody."""
    known = a_marker(streaming, markers)
    ours = say_marker(streaming.database, marker="ours4resuming", set=known["set"])
    publish(streaming, 1)
    event = ask_with(streaming, f"0.{name_of(ours)}.0")
    assert event.event == "message" and event.json() == 1


@pytest.mark.parametrize("change", [
    {"pid": 1}, {"pid": "1"}, {"pid": None}, {"set": "0123456789abcdef"}, {"set": None},
    {"marker": "tooshort"}, {"marker": "UPPERCASE4444"}, {"marker": None},
    {"at": 1}, {"at": "1"}, {"at": None}, {"at": -1},
], ids=str)
def test_a_forged_marker_is_no_place(streaming, markers, change):
    """It counts as any notification does, and that is all."""
    known = a_marker(streaming, markers)
    forged = say_marker(streaming.database,
                        **{"marker": "forged4forged", "set": known["set"], **change})
    publish(streaming, 1)
    for name in (name_of(forged), "forged4forged"):
        assert ask_with(streaming, f"0.{name}.0").json()["reason"] == "unknown_position"
    assert ask_with(streaming, f"0.{name_of(known)}.0").json() == 1


@pytest.mark.parametrize("with_own", [(), ("pid",), ("pid", "at")], ids=str)
def test_a_marker_repeated_by_somebody_else_changes_nothing(streaming, markers, with_own):
    known = a_marker(streaming, markers)
    publish(streaming, 1)
    say_marker(streaming.database,
               **{part: value for part, value in known.items() if part not in with_own})
    publish(streaming, 2)
    name = name_of(known)
    stream = streaming.stream(headers={"Last-Event-ID": f"0.{name}.0"})
    events = [stream.next_event() for _ in range(2)]
    assert [event.json() for event in events] == [1, 2]
    assert [event.place for event in events] == [(0, name, 1), (0, name, 3)]


@pytest.mark.parametrize("with_own", [(), ("pid",), ("pid", "at")], ids=str)
def test_a_marker_repeated_at_a_broker_that_did_not_hear_it(streaming, markers, with_own):
    """It was restarted. What was published while it was away is lost, and the client that comes
    with a position of the broker before is told, whatever a stranger says."""
    known = a_marker(streaming, markers)
    publish(streaming, "seen")
    position = streaming.request("HEAD", "/topics/alpha/events").header("Pgsse-Position")
    assert position == f"0.{name_of(known)}.1"
    streaming.broker.kill()
    streaming.database.publish("alpha", "lost")
    streaming.start_broker()
    streaming.wait_served()
    for name in (known["marker"], name_of(known)):
        say_marker(streaming.database, **{part: value for part, value in known.items()
                                          if part not in with_own} | {"marker": name})
    streaming.database.notify("topic_broadcast_3", "{}")
    publish(streaming, "after")
    assert ask_with(streaming, position).json()["reason"] == "unknown_position"
