"""Durable events on the topics API's streams: as they are published, and from a position on."""

import json

import pytest

from durable import (Publisher, assert_both, bodies, come_back, events, fixture_topic,  # noqa: F401
                     head, is_refresh, publish, publish_numbers, read_both, refreshes, running,
                     split, wait_head)
from schema import fixture_durable  # noqa: F401
from source import Source, place_text
from waiting import wait_for

RING = 8  # of .small


@pytest.fixture(scope="module", name="large")
def fixture_large(cluster):
    """All that is published there is in its log."""
    with running(cluster, cluster.create_database()) as deployment:
        yield deployment


@pytest.fixture(scope="module", name="small")
def fixture_small(cluster):
    """Its log holds the last few events of each topic."""
    with running(cluster, cluster.create_database(), ring_capacity=str(RING)) as deployment:
        yield deployment


@pytest.fixture(params=["log", "table"])
def either(request):
    return request.getfixturevalue({"log": "large", "table": "small"}[request.param])


def fill(deployment, topic, first, last, rest=""):
    """The broker has read them all."""
    publish_numbers(deployment.database, topic, first, last, rest)
    wait_head(deployment, last_id(deployment))


def last_id(deployment):
    (number,), = deployment.database.execute("SELECT max(id) FROM pgsse.events")
    return number


def head_position(deployment):
    connection = deployment.streams[0].connect()
    connection.ask("HEAD", "/topics/any/events").answer()
    connection.close()
    return connection.headers["pgsse-position"]


# --- what a frame holds --------------------------------------------------------------------------

# (data, what else is published, the lines of the block but for the id)
FRAMES = [
    ("1", {}, ["event: message", "data: 1"]),
    ("123456789012345678901234567890.10e-2", {},
     ["event: message", "data: 123456789012345678901234567890.10e-2"]),
    ('{"b":1,"a":2,"b":3}', {}, ["event: message", 'data: {"b":1,"a":2,"b":3}']),
    (r'"\u0000\ud83d\ude00\/é"', {}, ["event: message", r'data: "\u0000\ud83d\ude00\/é"']),
    ('"plain"', {}, ["event: message", 'data: "plain"']),
    (r'"one\ntwo\r\nthree\r\n"', {"is_text": True},
     ["event: message", "data: one", "data: two", "data: three", "data:"]),
    ('""', {"is_text": True}, ["event: message", "data:"]),
    ('{"n":1}', {"is_text": True}, ["event: message", 'data: {"n":1}']),
    ("null", {"event": "ünï cöde"}, ["event: ünï cöde", "data: null"]),
    ("[]", {"event": "open-door", "id": "own.id-1_", "retry": 3600000, "comment": "one\ntwo"},
     [": one", ": two", "event: open-door", "retry: 3600000", "data: []"]),
    ("0", {"retry": 0, "comment": ""}, ["event: message", "retry: 0", "data: 0"]),
    ("[" * 128 + "]" * 128, {}, ["event: message", "data: " + "[" * 128 + "]" * 128]),
]


def lines_of(block):
    return [line for line in block.lines if not line.startswith("id: ")]


def test_all_that_an_event_holds(either, topic):
    """Live, and again for who comes back: the same bytes."""
    live = Source(either, topic).greeted()
    start = live.position
    for data, more, lines in FRAMES:
        number = publish(either.database, topic, data, **more)
        block = live.next_event()
        assert lines_of(block) == lines
        assert block.place[0] == number
        assert block.id.partition("~")[2] == more.get("id", "")
    back = come_back(either, topic, start)
    assert bodies([back.next_block() for _ in FRAMES]) == bodies(live.events)


def test_white_space_between_tokens_is_left_out(large, topic):
    """As in a notification."""
    live = Source(large, topic).greeted()
    publish(large.database, topic, ' { "b" : [ 1 , 2 ] ,\n "a" : " x " } ')
    assert live.next_event().data == '{"b":[1,2],"a":" x "}'


def test_the_largest_event(either, topic):
    """1 MiB, in its place between small ones."""
    live = Source(either, topic).greeted()
    start = live.position
    large = json.dumps("x" * (2**20 - 2))
    for data in ("1", large, "2"):
        publish(either.database, topic, data)
        assert live.next_event().data == data
    back = come_back(either, topic, start)
    assert [back.next_event().data for _ in range(3)] == ["1", large, "2"]


def test_the_largest_event_in_as_many_lines_as_possible(either, topic):
    live = Source(either, topic).greeted()
    start = live.position
    count = (2**20 - 2) // 2
    publish(either.database, topic, '"' + r"\n" * count + '"', is_text=True)
    for source in (live, come_back(either, topic, start)):
        block = source.next_event()
        assert block.data == "\n" * count


def test_the_longest_comment(either, topic):
    live = Source(either, topic).greeted()
    start = live.position
    publish(either.database, topic, "1", comment="\n" * (2**20 - 1))
    for source in (live, come_back(either, topic, start)):
        block = source.next_event()
        assert block.data == "1" and len(block.comments) == 2**20


def test_topics_are_kept_apart(either, topic):
    mine, other = Source(either, topic).greeted(), Source(either, topic + "-x").greeted()
    publish(either.database, topic + "-X", 1)  # which no stream of the topics API can name
    publish(either.database, topic + "-x", 2)
    publish(either.database, topic, 3)
    assert mine.next_data() == 3 and other.next_data() == 2


# --- one position for both kinds -----------------------------------------------------------------

def test_each_kind_moves_its_own_part(large, topic):
    live = Source(large, topic).greeted()
    number = publish(large.database, topic, 1)
    first = live.next_event().place
    large.database.publish(topic, 2)
    second = live.next_event().place
    assert first[0] == number == second[0]
    assert second[1:] == (first[1], first[2] + 1)  # the hint was the one before
    assert publish(large.database, topic, 3) == live.next_event().place[0] > number


def test_head_names_the_newest_of_both(large, topic):
    number = publish(large.database, topic, 1)
    wait_head(large, number)
    position = head_position(large)
    assert position.split(".")[0] == str(number)
    source = come_back(large, topic, position)
    assert source.greeting.id is None  # it has that one
    publish(large.database, topic, 2)
    assert source.next_event().json() == 2


@pytest.mark.parametrize("settings, query", (({}, "heartbeat=event"),
                                             ({"position_interval": "300ms"}, "")))
def test_positions_carry_the_head_that_is_somebody_elses(deploy, durable, settings, query):
    """So a quiet client does not come back from far behind."""
    deployment = deploy(durable.url, keep_alive="150ms", **settings)
    deployment.start_broker()
    deployment.start_stream()
    source = Source(deployment, query=query).greeted()
    number = publish(durable, "beta", 1)

    def is_moved():
        block = source.next_block()
        assert block.comments == ["heartbeat"] or block.event == "position"
        return block.event == "position" and block.place[0] == number
    wait_for(is_moved, "a position after the event")


def mixed(deployment, topic, turns=6):
    """Both kinds in turn, heard one by one; the live client."""
    live = Source(deployment, topic).greeted()
    live.start = live.position
    for number in range(1, turns + 1):
        publish(deployment.database, topic, number)
        live.read_to(number)
        deployment.database.publish(topic, -number)
        live.read_to(-number)
    return live


def test_from_each_event_of_a_mixed_stream(large, topic):
    """From the log: in the order of who was there."""
    live = mixed(large, topic)
    positions = [live.start] + [block.id for block in live.events]
    for number, position in enumerate(positions):
        source = come_back(large, topic, position)
        rest = live.events[number:]
        got = [source.next_block() for _ in rest]
        assert bodies(got) == bodies(rest)
        durable, place = source_place(position)
        for block, was in zip(got, rest):
            if block.json() > 0:
                durable = was.place[0]
            else:
                place = was.place[1:]
            assert block.place == (durable, *place)
        source.cut()


def source_place(position):
    durable, marker, since = position.split(".")
    return int(durable), (marker, int(since))


def test_from_each_event_of_a_mixed_stream_from_the_table(small, topic):
    """Durable events have left the log, the ephemeral ones have not: each kind is whole."""
    live = Source(small, topic).greeted()
    positions = [live.position]
    for number in range(1, 21):
        publish(small.database, topic, number)
        positions.append(live.next_event().id)
    for number in range(1, RING - 2):
        small.database.publish(topic, -number)
        positions.append(live.next_event().id)
    wanted = [block.json() for block in live.events]
    for number, position in enumerate(positions):
        source = come_back(small, topic, position)
        rest = wanted[number:]
        assert [source.next_data() for _ in rest] == rest
        source.cut()


def test_durable_from_the_table_and_ephemeral_from_the_log(small, topic):
    """Published in turn, so many that each is kept at one place only."""
    source = Source(small, topic).greeted().cut()
    fill(small, topic, 1, 30)
    for number in range(1, RING + 1):
        small.database.publish(topic, -number)
    small.database.publish("behind", 1)
    source.connect()
    read_both(source, 30 + RING)
    assert split(events(source), lambda number: number > 0) == (
        list(range(1, 31)), [-number for number in range(1, RING + 1)])
    assert refreshes(source) == []


def test_ephemeral_events_that_the_log_has_lost_are_told(small, topic):
    """Once; the durable ones are whole nevertheless."""
    source = Source(small, topic).greeted().cut()
    for number in range(1, RING + 3):
        small.database.publish(topic, -number)
    fill(small, topic, 1, 3)
    source.connect().read_to(3)
    durable, _ = split(events(source), lambda number: number > 0)
    assert durable == [1, 2, 3] and refreshes(source) == ["gap"]


def test_ids_of_a_replay_never_move_back(either, topic):
    source = Source(either, topic).greeted().cut()
    with Publisher(either.database, topic) as publisher:
        publisher.wait_more(30)
        source.connect()
        publisher.wait_more(10)
    while 0 not in (durable_of(source) or [0])[-1:] and durable_of(source)[-1] < publisher.count:
        source.next_event()
    places = [block.place for block in source.events if not is_refresh(block)]
    ids = [durable for durable, _, _ in places]
    assert ids == sorted(ids)
    assert [since for _, _, since in places] == sorted(since for _, _, since in places)


def durable_of(source):
    return [number for number in events(source) if number > 0]


def is_positive(body):
    return not body[-1].startswith("data: -")


def test_cut_after_many_a_byte(either, topic):
    """Wherever it is cut: nothing is missing, nothing comes twice, nobody is told of a gap."""
    source = Source(either, topic).greeted().cut()
    count = 12 + RING // 2 - 1
    published = either.totals()["published"]
    fill(either, topic, 1, 12)
    for number in range(1, RING // 2):
        either.database.publish(topic, -number)
    either.wait_totals(published=published + count)
    whole = read_both(Source(either, topic, source.position), count)
    wanted = bodies(whole.events)
    assert len(wanted) == count
    for length in range(0, len(whole.connection.raw) + 1, 5):
        back = Source(either, topic, source.position).read_bytes(length).cut().connect()
        read_both(back, count)
        assert split(bodies(back.events), is_positive) == split(wanted, is_positive), length
        back.cut()


# --- where positions begin -----------------------------------------------------------------------

def test_without_position_nothing_old_comes(either, topic):
    fill(either, topic, 1, 20)
    source = Source(either, topic).greeted()
    publish(either.database, topic, 21)
    assert source.next_block().data == "21"


def test_zero_is_all_that_is_kept(either, topic):
    fill(either, topic, 1, 20)
    either.database.publish(topic, -1)
    source = read_both(come_back(either, topic, "0"), 21)
    assert events(source) == [*range(1, 21), -1] and refreshes(source) == []


def test_zero_again_from_each_event(either, topic):
    """What was kept was sent to the end, or goes on from where it was cut."""
    published = either.totals()["published"]
    fill(either, topic, 1, 12)
    for number in (1, 2):
        either.database.publish(topic, -number)
    either.wait_totals(published=published + 14)
    whole = read_both(come_back(either, topic, "0"), 14)
    assert refreshes(whole) == []
    for number, block in enumerate(whole.events[:-1]):
        source = come_back(either, topic, block.id).read_to(-2, 1)
        assert bodies(source.events) == bodies(whole.events[number + 1:]), block
        source.cut()


def assert_told_once(source, wanted, reason="unknown_position"):
    """In front of everything."""
    source.read_to(wanted[-1])
    assert source.data == [reason, *wanted]


def test_a_lone_id(either, topic):
    """As the durable API writes them: durable events go on from there, ephemeral ones begin at the
    head. Nothing was lost, so there is no refresh."""
    source = Source(either, topic).greeted()
    fill(either, topic, 1, 20)
    either.database.publish(topic, -1)
    source.read_to(-1).cut()
    back = come_back(either, topic, str(source.events[4].place[0]))
    either.database.publish(topic, -2)
    assert back.read_to(-2).data == [*range(6, 21), -2]


def test_a_marker_that_nobody_knows(either, topic):
    """The id is good nevertheless."""
    live = Source(either, topic).greeted()
    fill(either, topic, 1, 20)
    live.read_to(20)
    position = place_text(live.events[4].place[0], "0123456789abc", 5)
    back = come_back(either, topic, position)
    assert_told_once(back, list(range(6, 21)))


def test_an_id_beyond_the_head(either, topic):
    """Durable events go on from the head, ephemeral ones from their place."""
    live = Source(either, topic).greeted()
    either.database.publish(topic, -1)
    fill(either, topic, 1, 12)
    _, marker, since = source_place_of(live.greeting.id)
    back = come_back(either, topic, place_text(last_id(either) + 5, marker, since))
    publish(either.database, topic, 13)
    back.read_to(13)
    durable, ephemeral = split(events(back), lambda number: number > 0)
    assert durable == [13] and refreshes(back) == ["unknown_position"]
    assert ephemeral == ([-1] if either.settings.get("ring_capacity") is None else [])


def source_place_of(position):
    durable, place = source_place(position)
    return (durable, *place)


@pytest.mark.parametrize("number", [9223372036854775808, 9999999999999999999])
def test_an_id_that_is_larger_than_any(either, topic, number):
    fill(either, topic, 1, 12)
    position = place_text(number, *source_place_of(head_position(either))[1:])
    back = come_back(either, topic, position)
    publish(either.database, topic, 13)
    assert_told_once(back, [13])


@pytest.mark.parametrize("position", ["garbage", "-1", "1.2", "99999999999999999999",
                                      "00000000000000000000.0123456789abc.1", "1.0123456789abc."])
def test_garbage(large, topic, position):
    fill(large, topic, 1, 2)
    source = come_back(large, topic, position)
    publish(large.database, topic, 3)
    assert_told_once(source, [3])


def test_a_position_from_before_there_was_a_table(either, topic):
    """D is 0: who may have missed something is told, once, and goes on live."""
    live = Source(either, topic).greeted()
    _, marker, since = source_place_of(live.position)
    fill(either, topic, 1, 12)
    either.database.publish(topic, -1)
    back = come_back(either, topic, place_text(0, marker, since))
    publish(either.database, topic, 13)
    back.read_to(13)
    assert refreshes(back) == ["unknown_position"]
    assert [number for number in events(back) if number > 0] == [13]
    assert -1 in events(back)


def test_such_a_position_where_nothing_was_published(large, topic):
    _, marker, since = source_place_of(head_position(large))
    large.database.publish(topic, -1)
    back = come_back(large, topic, place_text(0, marker, since))
    assert back.next_event().data == "-1"


def test_such_a_position_again_when_something_was(large, topic):
    """What was looked up for one who missed nothing says nothing about who comes later."""
    _, marker, since = source_place_of(head_position(large))
    first = come_back(large, topic, place_text(0, marker, since)).cut()
    assert refreshes(first) == []
    fill(large, topic, 1, 1)
    second = come_back(large, topic, place_text(0, marker, since))
    publish(large.database, topic, 2)
    assert_told_once(second, [2])


# --- pages ---------------------------------------------------------------------------------------

def test_more_rows_than_a_page_has(small, topic):
    source = Source(small, topic).greeted().cut()
    fill(small, topic, 1, 3300)
    source.connect().greeted().read_to(3300)
    assert source.data == list(range(1, 3301))


def test_more_bytes_than_a_page_has(small, topic):
    rest = "x" * 60000
    source = Source(small, topic).greeted().cut()
    fill(small, topic, 1, 40, rest)
    source.connect().greeted().read_to(f"40{rest}")
    assert source.data == [f"{number}{rest}" for number in range(1, 41)]


def test_events_larger_than_a_page(small, topic):
    rest = "x" * 300000
    source = Source(small, topic).greeted().cut()
    fill(small, topic, 1, 12, rest)
    source.connect().greeted().read_to(f"12{rest}")
    assert source.data == [f"{number}{rest}" for number in range(1, 13)]


def test_topics_of_all_sizes_page_for_themselves(small, topic):
    """Between the events of one there are thousands of others."""
    names = [f"{topic}-{name}" for name in ("few", "many", "none")]
    sources = [Source(small, name).greeted().cut() for name in names]
    for number in range(4):
        fill(small, names[0], number * 10 + 1, number * 10 + 10)
        fill(small, names[1], number * 700 + 1, number * 700 + 700)
    for source in sources:
        source.connect().greeted()
    assert sources[0].read_to(40).data == list(range(1, 41))
    assert sources[1].read_to(2800).data == list(range(1, 2801))
    publish(small.database, names[2], 1)
    assert sources[2].read_to(1).data == [1]


def test_a_page_that_nobody_reads_delays_nobody(small, topic):
    rest = "x" * 7000
    stuck = Source(small, topic).greeted().cut()
    fill(small, topic, 1, 400, rest)
    stuck.connect()
    other = Source(small, topic).greeted()
    for number in range(401, 411):
        publish(small.database, topic, f'"{number}{rest}"')
        assert other.next_data(1) == f"{number}{rest}"
    stuck.read_to(f"410{rest}")
    assert stuck.data == [f"{number}{rest}" for number in range(1, 411)]


# --- while it goes on ----------------------------------------------------------------------------

def test_coming_back_again_and_again_while_both_kinds_flow(large, topic):
    source = Source(large, topic).greeted()
    with Publisher(large.database, topic) as publisher:
        for number in range(40):
            for _ in range(number % 7):
                source.next_event()
            source.cut().connect()
    read_both(source, 2 * publisher.count)
    assert_both(source, publisher.count)
    assert refreshes(source) == []


def test_coming_back_from_far_while_they_flow(small, topic):
    """From the table, again and again; ephemeral events are too many for the log."""
    source = Source(small, topic).greeted()
    with Publisher(small.database, topic) as publisher:
        for number in range(15):
            publisher.wait_more(RING + 2)
            source.cut().connect()
            for _ in range(number):
                source.next_event()
    while (durable_of(source) or [0])[-1] < publisher.count:
        source.next_event()
    assert durable_of(source) == list(range(1, publisher.count + 1))


def test_many_join_while_they_flow(either, topic):
    first = Source(either, topic).greeted().cut()
    with Publisher(either.database, topic) as publisher:
        publisher.wait_more(20)
        sources = [Source(either, topic, first.position) for _ in range(40)]
        publisher.wait_more(20)
    for source in sources:
        while (durable_of(source) or [0])[-1] < publisher.count:
            source.next_event()
        assert durable_of(source) == list(range(1, publisher.count + 1))


def test_events_of_another_tenant(either, topic):
    """They have the same topic, and nobody gets them: not live, not from the log, not from the table.
    Nor is anybody told when they are pruned."""
    source = Source(either, topic).greeted()
    start = source.position
    for number in range(1, 3 * RING):
        publish(either.database, topic, -number, tenant="t")
        publish(either.database, topic, number)
    wait_head(either, last_id(either))
    expected = list(range(1, 3 * RING))
    assert [source.next_data() for _ in expected] == expected
    either.database.execute("BEGIN; SELECT pgsse._open(true); DELETE FROM pgsse.events"
                            " WHERE tenant = 't'; INSERT INTO pgsse.floors (tenant, topic, id)"
                            " VALUES ('t', %s, %s); COMMIT", (topic, last_id(either) - 1))
    publish(either.database, topic, 0)
    assert source.next_data() == 0
    back = come_back(either, topic, start)
    assert [back.next_data() for _ in expected + [0]] == expected + [0]


def test_head_then_subscribe_has_no_gap(large, topic):
    """As a page does that renders state from SQL in between."""
    with Publisher(large.database, topic) as publisher:
        pairs = []
        for _ in range(10):
            position = head_position(large)
            publisher.wait_more(3)
            pairs.append((position, Source(large, topic, position)))
    first = publish(large.database, topic, publisher.count + 1)
    ids = {number: block for block, number in large.database.execute(
        "SELECT id, data::text::integer FROM pgsse.events WHERE topic = %s", (topic,))}
    for position, source in pairs:
        source.read_to(publisher.count + 1)
        since = int(position.split(".")[0])
        assert durable_of(source) == [number for number in ids if ids[number] > since]
        assert refreshes(source) == []
    assert head(large) == first


# --- slow clients --------------------------------------------------------------------------------

@pytest.mark.parametrize("ring_capacity", (1024, 10))
def test_a_client_that_is_too_slow_loses_no_durable_event(deploy, durable, ring_capacity):
    """It subscribes again when what waited for it is out. Ephemeral events come from the log; where
    that has dropped some, a refresh says so."""
    deployment = deploy(durable.url, client_queue_bytes="128KiB", ring_capacity=ring_capacity)
    deployment.start_broker()
    deployment.start_stream()
    well, slow = Source(deployment).greeted(), Source(deployment).greeted()
    rest = "x" * 7000
    for number in range(1, 101):
        publish(durable, "alpha", f'"{number}{rest}"')
        durable.publish("alpha", f"-{number}{rest}")
        well.next_event(), well.next_event()
    publish(durable, "alpha", '"end"')
    slow.read_to("end"), well.read_to("end")
    assert [text for text in events(slow) if text[0] != "-"] == \
        [f"{number}{rest}" for number in range(1, 101)] + ["end"]
    if ring_capacity == 1024:
        assert refreshes(slow) == [] and events(slow) == events(well)
    else:
        assert set(refreshes(slow)) == {"gap"} and len(events(slow)) < len(events(well))


def test_a_transaction_that_fits_into_the_queue_is_no_overflow(large, topic):
    """It comes at once, in one turn."""
    source = Source(large, topic).greeted()
    rest = "x" * 7000
    publish_numbers(large.database, topic, 1, 130, rest)
    source.read_to(f"130{rest}")
    assert source.data == [f"{number}{rest}" for number in range(1, 131)]
