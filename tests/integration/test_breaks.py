"""LISTEN lost and found again: everybody who may have missed something is told so, once, where in the
order of events it was."""

import contextlib

import pytest

from proxy import Proxy
from source import Source
from waiting import wait_for

GAP = {"reason": "gap", "dropped": None, "topics": ["alpha"]}


@contextlib.contextmanager
def deaf(deployment, database):
    """The broker's connections are cut, and not made again until the end."""
    allow = f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS "
    with contextlib.closing(database.cluster.connect("postgres")) as connection:
        with connection.cursor() as cursor:
            database.execute("SELECT 1")  # it keeps its connection
            cursor.execute(allow + "false")
            try:
                database.terminate(database.backends())
                wait_for(lambda: not deployment.totals()["listen_connected"], "LISTEN is lost")
                yield
            finally:
                cursor.execute(allow + "true")
    wait_for(deployment.is_ready, "LISTEN is back")
    wait_for(lambda: deployment.totals()["listen_connected"], "LISTEN is back")
    wait_for(lambda: deployment.totals()["notify_connected"], "and the other connection")


@pytest.fixture
def broken(deploy, database):
    """Events 1 and 2, a break in which one is lost, events 3 and 4; start: from before them all;
    wanted: the blocks of who was there all the time."""
    deployment = deploy(database.url, retry="5000")
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    live = Source(deployment).greeted()
    deployment.start_position = live.position
    for number in (1, 2):
        database.publish("alpha", number)
    live.read_to(2)
    with deaf(deployment, database):
        database.publish("alpha", "lost")
    for number in (3, 4):
        database.publish("alpha", number)
    deployment.live = live.read_to(4)
    return deployment


def test_a_live_stream_gets_one_refresh_in_its_place(broken):
    assert broken.live.data == [1, 2, "gap", 3, 4]
    refresh = broken.live.events[2]
    assert refresh.json() == GAP and refresh.place[2] == 0
    assert refresh.place[1] != broken.live.events[1].place[1]


def test_who_comes_back_from_before_gets_the_same(broken):
    source = Source(broken, position=broken.start_position).greeted().read_to(4)
    assert [block.raw for block in source.events] == [block.raw for block in broken.live.events]


def test_zero_gets_it_in_its_place_too(broken):
    source = Source(broken, position="0").greeted().read_to(4)
    assert [block.raw for block in source.events] == [block.raw for block in broken.live.events]


@pytest.mark.parametrize("number, rest", [
    (0, [2, "gap", 3, 4]), (1, ["gap", 3, 4]), (2, [3, 4]), (3, [4]), (4, [])])
def test_from_each_block_around_the_break(broken, database, number, rest):
    source = Source(broken, position=broken.live.events[number].id)
    database.publish("alpha", "end")
    assert source.read_to("end").data == rest + ["end"]


def test_cut_after_every_byte(broken):
    """Exactly one refresh in all; one that was cut in the middle was not one."""
    wanted = [block.raw for block in broken.live.events]
    length = len(Source(broken, position=broken.start_position).read_to(4).connection.raw)
    for count in range(length + 1):
        source = Source(broken, position=broken.start_position).read_bytes(count).cut()
        if len(source.events) < len(wanted):
            source.connect().read_to(4).cut()
        assert [block.raw for block in source.events] == wanted, count


def test_who_came_without_position_afterwards_hears_nothing_of_it(broken, database):
    source = Source(broken).greeted()
    database.publish("alpha", 5)
    assert source.next_block().json() == 5


def test_somebody_elses_topic_is_refreshed_as_well(broken):
    """Nobody knows what was lost."""
    source = Source(broken, "beta", broken.start_position).greeted()
    refresh = source.next_event()
    assert refresh.json() == {**GAP, "topics": ["beta"]}
    assert refresh.place[1] not in broken.start_position


def test_two_breaks_with_nothing_between_make_one_refresh(broken, database):
    for _ in range(2):
        with deaf(broken, database):
            pass
    database.publish("alpha", 5)
    source = Source(broken, position=broken.live.events[3].id).greeted()
    assert source.read_to(5).data == [4, "gap", 5]
    assert broken.live.read_to(5).data[5:] == ["gap", "gap", 5]  # to it they were two


def test_a_place_behind_what_was_counted_before_the_break_is_unknown(broken):
    """Another broker may have counted on from the same marker."""
    durable, marker, since = broken.live.events[1].place
    source = Source(broken, position=f"{durable}.{marker}.{since + 1}").greeted()
    assert source.next_event().json()["reason"] == "unknown_position"


def test_who_comes_while_it_is_deaf_waits_and_is_told(broken, database):
    with deaf(broken, database):
        fresh = Source(broken)
        known = Source(broken, position=broken.live.events[3].id)
        newest = Source(broken, position=broken.live.position)
        everything = Source(broken, position="0")
        for source in (fresh, known, newest, everything):
            assert source.next_block().comments == ["waiting"]
        database.publish("alpha", "lost")
    database.publish("alpha", 5)
    assert fresh.read_to(5).data == ["gap", 5]
    assert known.read_to(5).data == [4, "gap", 5]
    assert newest.read_to(5).data == ["gap", 5]
    assert everything.read_to(5).data == [1, 2, "gap", 3, 4, "gap", 5]


def test_the_lone_loss_of_the_other_connection_is_no_break(broken, database):
    others = [pid for pid in database.backends() if pid not in database.listen_backends()]
    database.terminate(others)
    database.publish("alpha", 5)
    assert broken.live.read_to(5).data == [1, 2, "gap", 3, 4, 5]
    assert Source(broken, position=broken.live.events[3].id).read_to(5).data == [4, 5]


# --- between the commit of LISTEN and the word that it is over ---------------------------------------

@pytest.fixture
def network(cluster):
    new = Proxy(cluster.socket_path)
    yield new
    new.close()


def test_what_comes_before_listen_is_over_stands_behind_the_break(deploy, network, database):
    """Postgres may tell of notifications as soon as the transaction of LISTEN has committed, before
    it says that it is ready."""
    deployment = deploy(network.url(database.name), canary_timeout="10s")
    deployment.start_broker()
    deployment.start_stream()
    deployment.wait_served()
    live = Source(deployment).greeted()
    start = live.position
    for number in (1, 2):
        database.publish("alpha", number)
    live.read_to(2)
    heard = deployment.totals()["notifications"]
    network.hold_ready(b"LISTEN topic_broadcast_0")
    network.cut(network.find(b"LISTEN topic_broadcast_0"))
    network.wait_ready_held()
    database.publish("alpha", 3)
    wait_for(lambda: deployment.totals()["notifications"] > heard, "the broker has heard it")
    network.say_ready()
    database.publish("alpha", 4)
    live.read_to(4)
    assert live.data == [1, 2, "gap", 3, 4]
    _, before, gap, third, _ = live.events
    assert gap.json() == GAP
    assert gap.place[1] != before.place[1] and gap.place[2] == 0
    assert third.place == (0, gap.place[1], 1)
    back = Source(deployment, position=start).greeted().read_to(4)
    assert [block.raw for block in back.events] == [block.raw for block in live.events]
    deployment.wait_totals(listen_connected=True, reconnects=1)
