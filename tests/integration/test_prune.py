"""Events that were pruned before somebody had them: it gets a refresh, in its place, exactly if one
of its topics lost something."""

import contextlib

import pytest

from durable import (Publisher, come_back, events, fixture_topic, is_refresh,  # noqa: F401
                     publish, publish_numbers, refreshes, running, start_streaming, wait_head)
from schema import fixture_durable, value  # noqa: F401
from source import Source

GAP = {"reason": "gap", "dropped": None}


@pytest.fixture(scope="module", name="world")
def fixture_world(cluster):
    """Its log has room for nothing: all comes from the table."""
    with running(cluster, cluster.create_database(), ring_capacity="1",
                 client_queue_bytes="64MiB") as deployment:
        yield deployment


def prune(database, topic, up_to):
    """As pgsse.prune does it, of one topic only, so that tests do not meet."""
    database.execute(
        "BEGIN; SELECT pgsse._open(true); WITH gone AS (DELETE FROM pgsse.events WHERE topic = %s"
        " AND id <= %s RETURNING id) INSERT INTO pgsse.floors AS f (topic, id) SELECT %s, max(id)"
        " FROM gone HAVING max(id) IS NOT NULL ON CONFLICT (tenant, topic) DO UPDATE SET id ="
        " greatest(f.id, excluded.id); COMMIT", (topic, up_to, topic))


def ids_of(database, topic):
    return [number for number, in database.execute(
        "SELECT id FROM pgsse.events WHERE topic = %s ORDER BY id", (topic,))]


def fill(world, topic, first, last, rest=""):
    publish_numbers(world.database, topic, first, last, rest)
    ids = ids_of(world.database, topic)
    wait_head(world, ids[-1])
    return ids


def test_while_a_client_is_away(world, topic):
    """What is left follows behind the refresh."""
    source = Source(world, topic).greeted().cut()
    ids = fill(world, topic, 1, 20)
    prune(world.database, topic, ids[11])
    source.connect().greeted()
    source.read_to(20)
    assert source.data == ["gap", *range(13, 21)]
    refresh = source.events[0]
    assert refresh.json() == {**GAP, "topics": [topic]} and refresh.place[0] == ids[11]


def test_its_position_lets_the_stream_go_on(world, topic):
    """Without another refresh."""
    source = Source(world, topic).greeted().cut()
    ids = fill(world, topic, 1, 20)
    prune(world.database, topic, ids[11])
    refresh = source.connect().next_event()
    assert is_refresh(refresh)
    source.cut().connect().read_to(20)
    assert source.data == ["gap", *range(13, 21)]


def test_all_of_a_topic(world, topic):
    source = Source(world, topic).greeted().cut()
    ids = fill(world, topic, 1, 20)
    prune(world.database, topic, ids[-1])
    source.connect()
    publish(world.database, topic, 21)
    assert source.read_to(21).data == ["gap", 21]
    again = come_back(world, topic, source.events[0].id)
    assert again.read_to(21).data == [21]


@pytest.mark.parametrize("has, wanted", [(0, ["gap", 13, 14]), (11, ["gap", 13, 14]),
                                         (12, [13, 14]), (13, [14])])
def test_exactly_those_who_lost_something(world, topic, has, wanted):
    """By the number of events that it has; 12 were pruned."""
    live = Source(world, topic).greeted()
    fill(world, topic, 1, 14)
    live.read_to(14)
    prune(world.database, topic, live.events[11].place[0])
    position = live.events[has - 1].id if has else live.greeting.id
    assert come_back(world, topic, position).read_to(14).data == wanted


def test_somebody_elses_topic(world, topic):
    """Which is pruned, and the own one is not: no word of it."""
    source = Source(world, topic).greeted().cut()
    fill(world, topic, 1, 20)
    other = fill(world, topic + "-other", 1, 20)
    prune(world.database, topic + "-other", other[-1])
    assert source.connect().greeted().read_to(20).data == list(range(1, 21))


def test_zero_after_a_prune(world, topic):
    ids = fill(world, topic, 1, 20)
    prune(world.database, topic, ids[4])
    assert come_back(world, topic, "0").read_to(20).data == ["gap", *range(6, 21)]


def test_what_the_log_has_is_not_lost(deploy, durable):
    """It was pruned, but is kept there."""
    deployment = start_streaming(deploy(durable.url))
    source = Source(deployment).greeted().cut()
    publish_numbers(durable, "alpha", 1, 20)
    wait_head(deployment, 21)
    durable.execute("SELECT pgsse.prune(keep => 0)")
    assert source.connect().read_to(20).data == list(range(1, 21))


def test_live_clients_hear_nothing_of_it(deploy, durable):
    """They have all of it."""
    deployment = start_streaming(deploy(durable.url))
    source = Source(deployment).greeted()
    with Publisher(durable, "alpha") as publisher:
        for _ in range(20):
            publisher.wait_more(3)
            durable.execute("SELECT pgsse.prune(keep => 50)")
    publish(durable, "alpha", publisher.count + 1)
    source.read_to(publisher.count + 1)
    assert [number for number in events(source) if number > 0] == \
        list(range(1, publisher.count + 2))
    assert refreshes(source) == []


def test_between_two_pages(world, topic):
    """Of a client that does not read on: what it has not got by then is told in its place."""
    rest = "x" * 7000
    source, other = (Source(world, name).greeted().cut() for name in (topic, topic + "-other"))
    fill(world, topic + "-other", 1, 400, rest)
    ids = fill(world, topic, 1, 400, rest)
    for one in (source, other):
        one.connect().greeted().next_event()
    prune(world.database, topic, ids[389])
    source.read_to(f"400{rest}")
    at, = [at for at, block in enumerate(source.events) if is_refresh(block)]
    assert 1 < at < 300 and source.events[at].place[0] == ids[389]
    assert [number if number == "gap" else int(number.rstrip("x")) for number in source.data] == \
        [*range(1, at + 1), "gap", *range(391, 401)]
    assert other.read_to(f"400{rest}").data == [f"{number}{rest}" for number in range(1, 401)]


def test_again_and_again_between_pages(world, topic):
    """Each time behind where it stands, or before that: never a hole without a word."""
    rest = "x" * 7000
    source = Source(world, topic).greeted().cut()
    ids = fill(world, topic, 1, 600, rest)
    source.connect().greeted()
    for up_to in (50, 300, 500):
        source.next_event()
        prune(world.database, topic, ids[up_to - 1])
    source.read_to(f"600{rest}")
    expected = 1
    for block in source.events:
        if is_refresh(block):
            expected = ids.index(block.place[0]) + 2
        else:
            assert block.json() == f"{expected}{rest}"
            expected += 1
    assert 1 <= len(refreshes(source)) <= 3


@pytest.fixture(name="deaf")
def fixture_deaf(deploy, durable):
    """deaf(): a context in which the broker does not run."""
    deployment = start_streaming(deploy(durable.url, ring_capacity="1000"))
    deployment.database = durable

    @contextlib.contextmanager
    def stopped():
        deployment.broker.send_signal(19)
        try:
            yield
        finally:
            deployment.broker.send_signal(18)
    deployment.stopped = stopped
    return deployment


def test_before_the_broker_has_read_it(deaf, durable):
    """Live streams of that topic get the refresh, in order, and those of others do not."""
    live, other = Source(deaf).greeted(), Source(deaf, "beta").greeted()
    start = live.position
    with deaf.stopped():
        publish(durable, "alpha", 1)
        publish(durable, "beta", 1)
        lost = publish(durable, "alpha", 2)
        prune(durable, "alpha", lost)
        publish(durable, "alpha", 3)
    assert live.read_to(3).data == ["gap", 3]
    assert live.events[0].json() == {**GAP, "topics": ["alpha"]}
    assert live.events[0].place[0] < lost  # told before anything else goes on
    assert other.read_to(1).data == [1]
    publish(durable, "beta", 2)
    assert other.read_to(2).data == [1, 2]
    back = come_back(deaf, "alpha", start)
    assert back.read_to(3).data == ["gap", 3]
    behind = come_back(deaf, "alpha", live.events[1].id)
    publish(durable, "alpha", 4)
    assert behind.read_to(4).data == [4]
    assert come_back(deaf, "beta", start).read_to(2).data == [1, 2]


def test_all_of_it_before_the_broker_has_read_it(deaf, durable):
    """Nothing is left that would come: it is told all the same."""
    live = Source(deaf).greeted()
    with deaf.stopped():
        publish_numbers(durable, "alpha", 1, 5)
        durable.execute("SELECT pgsse.prune(keep => 0)")
    assert live.next_event().json() == {**GAP, "topics": ["alpha"]}
    publish(durable, "alpha", 6)
    assert live.read_to(6).data == ["gap", 6]


def test_while_there_was_no_broker(deploy, durable):
    """Streams that stayed: those of the topic have a gap, the others only what a restart costs."""
    deployment = start_streaming(deploy(durable.url))
    live, other = Source(deployment).greeted(), Source(deployment, "beta").greeted()
    deployment.broker.kill()
    publish_numbers(durable, "alpha", 1, 10)
    publish_numbers(durable, "beta", 1, 10)
    prune(durable, "alpha", ids_of(durable, "alpha")[6])
    deployment.start_broker()
    live.read_to(10)
    assert live.data == ["restart", "gap", 8, 9, 10]
    assert other.read_to(10).data == ["restart", *range(1, 11)]


def test_while_postgres_could_not_be_heard(deploy, durable):
    deployment = start_streaming(deploy(durable.url))
    live, other = Source(deployment).greeted(), Source(deployment, "beta").greeted()
    with contextlib.closing(durable.cluster.connect("postgres")) as elsewhere:
        with elsewhere.cursor() as cursor:
            durable.execute("SELECT 1")
            cursor.execute(f"ALTER DATABASE {durable.name} ALLOW_CONNECTIONS false")
            durable.terminate(durable.backends())
            publish_numbers(durable, "alpha", 1, 10)
            publish_numbers(durable, "beta", 1, 10)
            prune(durable, "alpha", ids_of(durable, "alpha")[6])
            cursor.execute(f"ALTER DATABASE {durable.name} ALLOW_CONNECTIONS true")
    assert live.read_to(10).data == ["gap", "gap", 8, 9, 10]
    assert other.read_to(10).data == ["gap", *range(1, 11)]


def test_under_load(deploy, durable):
    """Somebody prunes hard, a client comes back again and again from some place: each event comes
    once, or a refresh stands where it would have."""
    deployment = start_streaming(deploy(durable.url, ring_capacity="3"))
    source = Source(deployment).greeted()
    with Publisher(durable, "alpha") as publisher:
        for _ in range(25):
            publisher.wait_more(8)
            source.cut()
            publisher.wait_more(4)
            durable.execute("SELECT pgsse.prune(keep => 5)")
            source.connect().next_event()
    publish(durable, "alpha", publisher.count + 1)
    source.read_to(publisher.count + 1)
    expected = 1
    is_told = False
    for block in source.events:
        if is_refresh(block):
            is_told = True
        elif block.json() > 0:
            assert block.json() == expected or (is_told and block.json() > expected), source.data
            expected, is_told = block.json() + 1, False
    assert value(durable, "SELECT count(*) FROM pgsse.floors") == 1
