"""Last-Event-ID: who comes back gets exactly what came since, as if it had stayed."""

import itertools

import pytest

from publisher import Publisher
from source import Source, place_text
from waiting import wait_for
from web import HttpStream

# What a frame can hold: types, comments, ids of the publisher's own, several lines, a retry.
EVENTS = [
    {"data": 1},
    {"data": {"n": 2}, "event": "type", "id": "own-2"},
    {"data": "three\nlines\r\nhere", "text": True},
    {"data": "4", "comment": "two\nlines", "id": "4.4"},
    {"data": "", "text": True, "retry": 1234},
    {"data": "é€😀", "event": "ünï"},
]


TOPICS = itertools.count(1)


@pytest.fixture
def topic():
    """A name of its own, as the log goes on from test to test."""
    return f"topic-{next(TOPICS)}"


def publish_all(shared, topic):
    for event in EVENTS:
        shared.database.publish(topic, event["data"],
                                **{key: value for key, value in event.items() if key != "data"})


def head_position(shared):
    return shared.request("HEAD", "/topics/any/events").header("Pgsse-Position")


def publish_noise(shared):
    """What moves the place and is not for the client; the broker has heard it afterwards."""
    before = shared.totals()["bad_notifications"]
    shared.database.publish("somebody-elses", 1)
    shared.database.notify("topic_broadcast_3", "malformed")
    shared.database.notify("pgsse_marker", "no marker")
    shared.wait_totals(bad_notifications=before + 2)


def live_blocks(shared, topic, publish):
    """(greeting, [event blocks]) of one who is there while they are published."""
    live = Source(shared, topic).greeted()
    publish()
    blocks = [live.next_event() for _ in EVENTS]
    live.cut()
    return live.greeting, blocks


def assert_rest(source, rest):
    """The greeting, and the rest as it was live: the client has a position, and needs no other one."""
    source.greeted()
    assert source.greeting.id is None
    assert [source.next_block().raw for _ in rest] == [block.raw for block in rest]
    assert source.connection.blocks_so_far() == []


# --- exactly the rest ----------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["header", "last_event_id", "lastEventId"])
def test_from_each_event(shared, topic, name):
    greeting, blocks = live_blocks(shared, topic, lambda: publish_all(shared, topic))
    for number, position in enumerate([greeting.id] + [block.id for block in blocks]):
        path = f"/topics/{topic}/events"
        headers = {"Last-Event-ID": position} if name == "header" else {}
        if name != "header":
            path += f"?{name}={position}"
        stream = shared.keep(HttpStream(shared.port, path, headers))
        source = Source.__new__(Source)
        source.connection, source.topic, source.events, source.position = stream, topic, [], position
        assert_rest(source, blocks[number:])
        stream.close()


def test_from_each_place_between(shared, topic):
    """Also where somebody else's event, junk or a marker stands."""
    def publish():
        for event in EVENTS:
            publish_noise(shared)
            shared.database.publish(topic, **event)
        publish_noise(shared)

    greeting, blocks = live_blocks(shared, topic, publish)
    durable, marker, first = greeting.place
    head = head_position(shared)
    assert head == place_text(durable, marker, first + 4 * len(EVENTS) + 3)
    for since in range(first, first + 4 * len(EVENTS) + 4):
        position = place_text(durable, marker, since)
        rest = [block for block in blocks if block.place[2] > since]
        source = Source(shared, topic, position)
        assert_rest(source, rest)
        source.cut()


def test_at_the_head_nothing_follows(shared, topic):
    publish_noise(shared)
    head = head_position(shared)
    source = Source(shared, topic, head).greeted()
    assert source.greeting.id is None
    shared.database.publish(topic, "first")
    event = source.next_block()
    assert event.json() == "first"


def test_live_events_follow_the_replayed_ones(shared, topic):
    source = Source(shared, topic).greeted().cut()
    shared.database.publish(topic, 1)
    source.connect().read_to(1)
    for number in (2, 3):
        shared.database.publish(topic, number)
    assert source.read_to(3).data == [1, 2, 3]
    assert [block.place[2] - source.events[0].place[2] for block in source.events] == [0, 1, 2]


def test_the_publishers_id_goes_after_the_position(shared, topic):
    live = Source(shared, topic).greeted()
    shared.database.publish(topic, 1, id="own")
    shared.database.publish(topic, 2, id="other")
    own, _ = live.next_event().id, live.next_event()
    assert own.endswith("~own")
    source = Source(shared, topic, own).greeted()
    assert source.next_block().id.endswith("~other")


def test_positions_are_good_for_any_topic(shared, topic):
    source = Source(shared, topic + "-a").greeted().cut()
    shared.database.publish(topic + "-b", "b")
    shared.database.publish(topic + "-a", "a")
    assert Source(shared, topic + "-b", source.position).next_data() == "b"
    assert source.connect().next_data() == "a"


def test_through_another_handler(deploy, database):
    deployment = deploy(database.url).start(handlers=2, publisher=False)
    source = Source(deployment, handler=0).greeted().cut()
    for number in range(3):
        database.publish("alpha", number)
    assert source.connect(handler=1).read_to(2).data == [0, 1, 2]


# --- everything ----------------------------------------------------------------------------------

def test_zero_is_everything_that_is_kept(shared, topic):
    _, blocks = live_blocks(shared, topic, lambda: publish_all(shared, topic))
    assert_rest(Source(shared, topic, "0"), blocks)


def test_zero_where_nothing_is_kept(shared, topic):
    source = Source(shared, topic, "0").greeted()
    assert source.greeting.id is None
    shared.database.publish(topic, 1)
    assert source.next_block().json() == 1


# --- what is larger than the credit ---------------------------------------------------------------

def publish_large(database, topic, first, last):
    database.execute("SELECT pg_notify('topic_broadcast_' || n %% 8, json_build_object('topic',"
                     " %s, 'data', n || repeat('x', 7000))::text) FROM generate_series(%s, %s) n",
                     (topic, first, last))


def numbers(source):
    return [int(text.rstrip("x")) for text in source.data]


def test_a_long_replay(shared, topic):
    """Eight times the credit, with small pauses of the reader, and live events behind it."""
    source = Source(shared, topic).greeted().cut()
    publish_large(shared.database, topic, 1, 80)
    source.connect()
    for _ in range(40):
        source.next_event()
    publish_large(shared.database, topic, 81, 90)
    for _ in range(50):
        source.next_event()
    assert numbers(source) == list(range(1, 91))


def test_a_replay_that_nobody_reads_delays_nobody(shared, topic):
    stuck = Source(shared, topic).greeted().cut()
    before = shared.totals()["published"]
    publish_large(shared.database, topic, 1, 200)
    shared.wait_totals(published=before + 200)
    stuck.connect()
    other = Source(shared, topic).greeted()
    for number in range(201, 211):
        publish_large(shared.database, topic, number, number)
        other.next_event(1)
    assert numbers(other) == list(range(201, 211))
    while len(stuck.events) < 210:
        stuck.next_event()
    assert numbers(stuck) == list(range(1, 211))


# --- under load ------------------------------------------------------------------------------------

def test_head_then_subscribe_has_no_gap(shared, topic):
    """As a page does that renders state from SQL in between."""
    reference = Source(shared, topic).greeted()
    with Publisher(shared.database, topic) as publisher:
        sources = []
        for _ in range(30):
            position = head_position(shared)
            count = publisher.count
            wait_for(lambda count=count: publisher.count > count + 3, "some events more")
            sources.append((position, Source(shared, topic, position)))
    reference.read_to(publisher.count)
    for position, source in sources:
        since = int(position.split(".")[2])
        wanted = [block.raw for block in reference.events if block.place[2] > since]
        source.read_to(publisher.count)
        assert [block.raw for block in source.events] == wanted


def test_coming_back_again_and_again_while_events_flow(shared, topic):
    source = Source(shared, topic).greeted()
    with Publisher(shared.database, topic) as publisher:
        for number in range(60):
            for _ in range(number % 7):
                source.next_event()
            source.cut().connect()
    source.read_to(publisher.count)
    assert source.data == list(range(1, publisher.count + 1))


def test_many_join_while_events_flow(shared, topic):
    first = Source(shared, topic).greeted().cut()
    with Publisher(shared.database, topic) as publisher:
        wait_for(lambda: publisher.count > 50, "a backlog")
        sources = [Source(shared, topic, first.position) for _ in range(100)]
        count = publisher.count
        wait_for(lambda: publisher.count > count + 50, "live events")
    for source in sources:
        source.read_to(publisher.count)
        assert source.data == list(range(1, publisher.count + 1))


# --- the stream cut after every possible byte ---------------------------------------------------------

def test_cut_after_every_byte_of_a_replay(shared, topic):
    start = Source(shared, topic).greeted().cut().position
    live = Source(shared, topic).greeted()
    publish_all(shared, topic)
    publish_noise(shared)
    wanted = [live.next_event().raw for _ in EVENTS]
    whole = Source(shared, topic, start)
    while len(whole.events) < len(wanted):
        whole.next_block()
    length = len(whole.connection.raw)
    assert [block.raw for block in whole.events] == wanted and length > 400
    for count in range(length + 1):
        source = Source(shared, topic, start).read_bytes(count).cut()
        source.connect().greeted()
        while len(source.events) < len(wanted):
            source.next_event()
        assert [block.raw for block in source.events] == wanted, count
        source.cut()
