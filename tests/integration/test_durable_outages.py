"""Durable events across every outage: of Postgres, of the network, of the broker and of handlers.
They go on exactly where they were; nobody is told of a gap but for ephemeral events, once."""

import contextlib
import os
import signal
import threading

import pytest

from cluster import Cluster, Database
from durable import (Publisher, assert_both, come_back, events, head, is_refresh,  # noqa: F401
                     publish, publish_numbers, refreshes, start_streaming, wait_head)
from proxy import Proxy
from schema import fixture_durable, install, installed  # noqa: F401
from source import Source, place_text
from waiting import wait_for

SETTINGS = {"canary_interval": "300ms", "canary_timeout": "300ms", "table_poll": "300ms"}
SLACK = 3
TABLE = b"pgsse.page("
LISTEN = b"LISTEN topic_broadcast_0"
QUERY = b"pg_notify('pgsse_marker'"


@pytest.fixture(name="fragile")
def fixture_fragile(fragile_database):
    """To be stopped and killed."""
    with installed(fragile_database):
        yield fragile_database


@pytest.fixture(name="network")
def fixture_network(cluster):
    new = Proxy(cluster.socket_path)
    yield new
    new.close()


class Outage:
    """Durable events 1 to 3 before it; then, with a client that stays, one that is away and one
    that comes meanwhile, whatever the test does; at the end nothing is missing."""

    def __init__(self, deployment, database):
        self.deployment = start_streaming(deployment)
        self.database = database
        self.number = 0
        self.live = Source(deployment).greeted()
        self.away = Source(deployment).greeted().cut()
        self.quiet = Source(deployment, "beta").greeted()
        self.publish(3)
        self.live.read_to(3)

    def publish(self, count=1):
        for _ in range(count):
            self.number += 1
            publish(self.database, "alpha", self.number)

    def wait_degraded(self, *words):
        def is_degraded():
            health = self.deployment.health()
            return health["status"] == "degraded" and all(word in health["reason"]
                                                          for word in words)
        wait_for(is_degraded, lambda: f"{words}: {self.deployment.health()}", SLACK)

    def assert_exact(self, gaps):
        """The live client had so many refreshes; who was away gets the same rest."""
        wait_for(lambda: self.deployment.health()["status"] == "ok",
                 lambda: f"well again: {self.deployment.health()}", SLACK)
        self.publish(2)
        self.live.read_to(self.number)
        wanted = list(range(1, self.number + 1))
        assert events(self.live) == wanted
        assert refreshes(self.live) == ["gap"] * gaps
        self.away.connect().greeted().read_to(self.number)
        assert events(self.away) == wanted
        assert refreshes(self.away) == ["gap"] * min(gaps, 1)
        publish(self.database, "beta", 1)
        self.quiet.read_to(1)
        assert self.quiet.data == ["gap"] * gaps + [1]
        back = come_back(self.deployment, "alpha", self.live.events[-2].id)
        assert back.next_data() == self.number


def backends(database, word):
    return [pid for pid, query in database.backends().items() if word in query]


# --- Postgres ------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_the_server_is_restarted(deploy, fragile_cluster, fragile, number):
    outage = Outage(deploy(fragile.url, **SETTINGS), fragile)
    fragile.close()
    fragile_cluster.stop(number)
    wait_for(lambda: not outage.deployment.totals()["listen_connected"], "it is noticed")
    meanwhile = Source(outage.deployment, position=outage.live.position)
    assert meanwhile.next_block().comments == ["waiting"]
    fragile_cluster.start()
    outage.publish(3)
    outage.assert_exact(gaps=1)
    meanwhile.read_to(outage.number)
    assert meanwhile.data == ["gap", *range(4, outage.number + 1)]


def test_a_backend_crashes(deploy, fragile_cluster, fragile):
    """And with it the server, for a moment."""
    outage = Outage(deploy(fragile.url, **SETTINGS), fragile)
    os.kill(backends(fragile, "pgsse.")[0], signal.SIGKILL)
    outage.deployment.wait_totals(reconnects=1, seconds=8)
    fragile.close()
    wait_for(lambda: fragile_cluster.connect("postgres"), "it takes connections").close()
    outage.assert_exact(gaps=1)


@pytest.mark.parametrize("word, gaps", [("listening_channels", 1), ("pgsse.", 0),
                                        ("pgsse_marker", 0)], ids=["listen", "table", "query"])
def test_one_connection_is_terminated(deploy, durable, word, gaps):
    deployment = deploy(durable.url, **SETTINGS)
    outage = Outage(deployment, durable)
    victims = backends(durable, word)
    assert len(victims) == 1
    with Publisher(durable, "other"):
        durable.terminate(victims)
        outage.publish(3)
        deployment.wait_totals(errors=1, table_connected=True, notify_connected=True,
                               listen_connected=True)
    outage.publish(3)
    outage.assert_exact(gaps)
    assert deployment.totals()["reconnects"] == gaps


def test_again_and_again(deploy, durable):
    """All three of them, at any time, under load."""
    deployment = start_streaming(deploy(durable.url, **SETTINGS))
    source = Source(deployment).greeted()
    with Publisher(durable, "alpha") as publisher:
        for turn in range(12):
            publisher.wait_more(10)
            durable.terminate(backends(durable, ("pgsse.page", "listening", "marker")[turn % 3]))
    publish(durable, "alpha", publisher.count + 1)
    source.read_to(publisher.count + 1)
    assert [number for number in events(source) if number > 0] == \
        list(range(1, publisher.count + 2))
    assert set(refreshes(source)) <= {"gap"}
    assert len(refreshes(source)) <= deployment.totals()["reconnects"]


def test_the_table_backend_hangs(deploy, durable):
    """It is given up; ephemeral events go on meanwhile."""
    outage = Outage(deploy(durable.url, **SETTINGS), durable)
    hanging, = backends(durable, "pgsse.page")
    os.kill(hanging, signal.SIGSTOP)
    try:
        outage.publish()
        durable.publish("alpha", -1)
        assert outage.live.next_data() == -1
        outage.live.events.pop()
        outage.deployment.wait_totals(errors=1)
        outage.publish(3)
        outage.live.read_to(outage.number)
    finally:
        os.kill(hanging, signal.SIGCONT)
    wait_for(lambda: outage.deployment.health()["status"] == "ok", "well again")
    assert events(outage.live) == list(range(1, outage.number + 1))
    assert refreshes(outage.live) == []


def test_the_listen_backend_hangs(deploy, durable):
    outage = Outage(deploy(durable.url, **SETTINGS), durable)
    hanging, = backends(durable, "listening_channels")
    os.kill(hanging, signal.SIGSTOP)
    try:
        outage.publish(3)
        outage.deployment.wait_totals(reconnects=1)
    finally:
        os.kill(hanging, signal.SIGCONT)
    outage.assert_exact(gaps=1)


@contextlib.contextmanager
def locked(database):
    """Nobody can read the events."""
    connection = database.connect()
    connection.autocommit = False
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE pgsse.events IN ACCESS EXCLUSIVE MODE")
        yield
        connection.commit()


def publish_alone(database, topic, data):
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pgsse.publish(%s, to_json(%s))", (topic, data))


def test_the_table_is_locked(deploy, durable):
    """Markers and ephemeral events go on; health says why nothing durable comes."""
    outage = Outage(deploy(durable.url, **SETTINGS), durable)
    known = Source(outage.deployment, position=outage.away.position)
    known.read_to(3)
    other = threading.Thread(target=publish_alone, args=(durable, "alpha", 4))
    with locked(durable):
        other.start()
        outage.number += 1
        outage.wait_degraded("table")
        heard = outage.deployment.totals()["notifications"]
        durable.publish("alpha", -1)
        assert outage.live.next_data() == -1
        outage.live.events.pop()
        wait_for(lambda: outage.deployment.totals()["notifications"] > heard + 2, "markers")
        assert outage.deployment.totals()["listen_connected"] is True
        assert Source(outage.deployment).next_block().comments == ["listening alpha"]
    other.join()
    wait_for(lambda: outage.deployment.health()["status"] == "ok", "well again")
    outage.publish()
    assert outage.live.read_to(outage.number).data == list(range(1, outage.number + 1))


def test_a_broker_starts_while_the_table_is_locked(deploy, durable):
    """Nobody is served before it is known from where on durable events come; nobody is sent away."""
    deployment = start_streaming(deploy(durable.url, **SETTINGS))
    live = Source(deployment).greeted()
    publish(durable, "alpha", 1)
    live.read_to(1)
    with locked(durable):
        deployment.broker.kill()
        deployment.start_broker()
        wait_for(lambda: "table" in (deployment.health()["reason"] or ""), "health says why")
        new = Source(deployment)
        assert new.next_block().comments == ["waiting"]
    assert live.next_event().event == "refresh"
    new.next_event()
    publish(durable, "alpha", 2)
    assert live.read_to(2).data == [1, "restart", 2]
    assert new.read_to(2).data == ["gap", 2]


def test_what_is_given_up_does_not_pile_up(deploy, durable):
    """The server's processes that wait for a lock leave when nobody waits for them any more."""
    outage = Outage(deploy(durable.url, **SETTINGS), durable)
    with locked(durable):
        outage.wait_degraded("table")
        wait_for(lambda: outage.deployment.totals()["errors"] >= 6, "it is tried again", 8)
        waiting = durable.execute("SELECT pid FROM pg_locks WHERE NOT granted AND"
                                  " relation = 'pgsse.events'::regclass")
        assert len(waiting) <= 2, durable.backends()


# --- the network ---------------------------------------------------------------------------------

@pytest.mark.parametrize("words, gaps", [(TABLE, 0), (QUERY, 0), (LISTEN, 1)],
                         ids=["table", "query", "listen"])
def test_one_connection_is_half_open(deploy, network, durable, words, gaps):
    outage = Outage(deploy(network.url(durable.name), **SETTINGS), durable)
    link = network.find(words)
    network.hold(link)
    outage.publish(3)
    wait_for(lambda: link.is_left, "it is given up", SLACK)
    outage.publish(3)
    outage.assert_exact(gaps)


def test_answers_of_the_table_are_lost(deploy, network, durable):
    """It is asked again, and nothing comes twice."""
    outage = Outage(deploy(network.url(durable.name), **SETTINGS), durable)
    link = network.find(TABLE)
    network.hold_answers(link)
    outage.publish(3)
    wait_for(lambda: link.is_left, "it is given up", SLACK)
    outage.assert_exact(0)


def test_the_network_forgets_all_connections(deploy, network, durable):
    outage = Outage(deploy(network.url(durable.name), **SETTINGS), durable)
    before = [network.find(TABLE), network.find(QUERY), network.find(LISTEN)]
    network.hold()
    outage.publish(3)
    outage.wait_degraded()
    outage.publish(3)
    network.resume(leaving=before)
    outage.deployment.wait_totals(reconnects=1)
    outage.assert_exact(1)


def test_the_network_is_silent_for_a_moment(deploy, network, durable):
    """Nothing is given up, nobody hears of it."""
    outage = Outage(deploy(network.url(durable.name)), durable)
    network.hold()
    outage.publish(3)
    network.resume()
    outage.assert_exact(0)


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_all_is_cut(deploy, network, durable, reset):
    outage = Outage(deploy(network.url(durable.name), **SETTINGS), durable)
    network.cut(reset=reset)
    outage.publish(3)
    outage.deployment.wait_totals(reconnects=1)
    outage.assert_exact(1)


def test_the_table_is_away_when_somebody_comes_back(deploy, network, durable):
    """A page is awaited meanwhile, and comes."""
    outage = Outage(deploy(network.url(durable.name), ring_capacity="1", **SETTINGS), durable)
    network.hold(network.find(TABLE))
    network.hold_new()
    outage.away.connect()
    durable.publish("gamma", 1)
    outage.wait_degraded("table")
    network.resume()
    outage.away.read_to(3)
    assert outage.away.data == [1, 2, 3]


# --- the broker ----------------------------------------------------------------------------------

def kill_broker(deployment):
    deployment.broker.kill()
    deployment.spawn_broker()


def test_the_broker_is_killed_while_events_flow(deploy, durable):
    """Durable ones come exactly; of the others it is told, once."""
    deployment = start_streaming(deploy(durable.url))
    sources = [Source(deployment).greeted() for _ in range(5)]
    with Publisher(durable, "alpha") as publisher:
        publisher.wait_more(20)
        kill_broker(deployment)
        publisher.wait_more(200)
    deployment.wait_ready()
    for source in sources:
        publish(durable, "alpha", publisher.count + 1)
        source.read_to(publisher.count + 1)
        assert [number for number in events(source) if number > 0] == \
            list(range(1, publisher.count + 2))
        assert refreshes(source) == ["restart"]
        publisher.count += 1
        for other in sources:
            if other is not source:
                other.read_to(publisher.count)


def test_the_broker_is_killed_in_mid_replay(deploy, durable):
    """With more to come than credit and sockets hold."""
    deployment = start_streaming(deploy(durable.url, client_queue_bytes="64MiB"))
    source = Source(deployment).greeted().cut()
    rest = "x" * 7000
    publish_numbers(durable, "alpha", 1, 400, rest)
    wait_head(deployment, 401)
    source.connect().greeted().next_event()
    deployment.broker.kill()
    deployment.start_broker()
    source.read_to(f"400{rest}")
    assert events(source) == [f"{number}{rest}" for number in range(1, 401)]
    assert len(refreshes(source)) == 1


def test_while_it_was_down_thousands_came(deploy, durable):
    """Streams that stayed are brought to the head from the table, of all topics."""
    deployment = start_streaming(deploy(durable.url, client_queue_bytes="64MiB"))
    sources = [Source(deployment, topic).greeted() for topic in ("alpha", "beta")]
    deployment.broker.kill()
    publish_numbers(durable, "gamma", 1, 3000)
    publish_numbers(durable, "alpha", 1, 1500)
    publish_numbers(durable, "beta", 1, 10, "x" * 300000)
    deployment.start_broker()
    assert sources[0].read_to(1500).data == ["restart", *range(1, 1501)]
    assert len(sources[1].read_to("10" + "x" * 300000).data) == 11
    publish(durable, "beta", 11)
    assert sources[1].next_data() == 11


def test_it_is_killed_again_and_again(deploy, durable):
    deployment = start_streaming(deploy(durable.url))
    source = Source(deployment).greeted()
    with Publisher(durable, "alpha") as publisher:
        for _ in range(4):
            publisher.wait_more(20)
            kill_broker(deployment)
    deployment.wait_ready()
    publish(durable, "alpha", publisher.count + 1)
    source.read_to(publisher.count + 1)
    assert [number for number in events(source) if number > 0] == \
        list(range(1, publisher.count + 2))
    assert set(refreshes(source)) == {"restart"} and len(refreshes(source)) <= 4


def test_the_broker_starts_while_postgres_is_away(deploy, fragile_cluster, fragile):
    outage = Outage(deploy(fragile.url, **SETTINGS), fragile)
    fragile.close()
    outage.deployment.broker.kill()
    fragile_cluster.stop()
    outage.deployment.spawn_broker()
    fragile_cluster.start()
    outage.publish(2)
    outage.deployment.wait_ready()
    outage.live.read_to(outage.number)
    assert events(outage.live) == [1, 2, 3, 4, 5] and refreshes(outage.live) == ["restart"]


def test_a_handler_is_killed(deploy, durable):
    """Its clients come back to the next one, which gives them both kinds exactly."""
    deployment = start_streaming(deploy(durable.url))
    source = Source(deployment).greeted()
    with Publisher(durable, "alpha") as publisher:
        for _ in range(4):
            for _ in range(10):
                source.next_event()
            deployment.streams[0].kill()
            deployment.restart_stream(0)
            source.cut().connect()
    while len(events(source)) < 2 * publisher.count:
        source.next_event()
    assert_both(source, publisher.count)
    assert refreshes(source) == []


def test_a_handler_that_was_cut_off_gets_its_rest_from_the_table(deploy, durable):
    """The log has not kept as much as it missed."""
    deployment = start_streaming(deploy(durable.url, handler_queue_bytes="256KiB", ring_capacity="5",
                                        client_queue_bytes="64MiB"))
    alpha = [Source(deployment).greeted() for _ in range(3)]
    beta = Source(deployment, "beta").greeted()
    rest = "x" * 7000
    handler = deployment.streams[0]
    handler.send_signal(signal.SIGSTOP)
    try:
        for first in range(1, 301, 50):
            publish_numbers(durable, "alpha", first, first + 49, rest)
        publish(durable, "beta", 1)
        wait_for(lambda: "too slow" in deployment.broker.log(), "it is cut off")
        wait_head(deployment, 302)
    finally:
        handler.send_signal(signal.SIGCONT)
    for source in alpha:
        source.read_to(f"300{rest}")
        assert source.data == [f"{number}{rest}" for number in range(1, 301)]
    assert beta.read_to(1).data == [1]
    publish(durable, "alpha", 301)
    assert [source.next_data() for source in alpha] == [301] * 3


def test_a_handler_that_was_cut_off_gets_both_kinds(deploy, durable):
    """Durable ones from the table, to the head; then the others from the log, and no place moves
    back: cut anywhere, a client can go on from there."""
    deployment = start_streaming(deploy(durable.url, handler_queue_bytes="256KiB",
                                        ring_capacity="12", client_queue_bytes="64MiB"))
    source = Source(deployment).greeted()
    rest = "x" * 7000
    handler = deployment.streams[0]
    handler.send_signal(signal.SIGSTOP)
    try:
        publish_numbers(durable, "alpha", 1, 160, rest)
        wait_for(lambda: "too slow" in deployment.broker.log(), "it is cut off")
        publish_numbers(durable, "alpha", 161, 200)
        wait_head(deployment, 201)
        for number in range(1, 6):
            publish(durable, "alpha", 200 + number)
            durable.publish("alpha", -number)
        wait_head(deployment, 206)
        deployment.wait_totals(published=210)
    finally:
        handler.send_signal(signal.SIGCONT)
    while len(source.events) < 210:
        source.next_event()
    ephemeral = [-1, -2, -3, -4, -5]
    assert [data for data in source.data if data in ephemeral] == ephemeral
    assert [data for data in source.data if data not in ephemeral] == \
        [*(f"{number}{rest}" for number in range(1, 161)), *range(161, 206)]
    places = [block.place for block in source.events]
    assert [durable for durable, _, _ in places] == sorted(durable for durable, _, _ in places)
    assert [since for _, _, since in places] == sorted(since for _, _, since in places)
    for at in range(195, 210):
        back = come_back(deployment, "alpha", source.events[at - 1].id)
        got = [back.next_data() for _ in source.events[at:]]
        assert sorted(got) == sorted(source.data[at:])
        back.cut()


# --- two brokers ---------------------------------------------------------------------------------

@pytest.fixture(name="pair")
def fixture_pair(deploy, durable):
    """Each has heard a marker of the other."""
    both = [deploy(durable.url) for _ in range(2)]
    for deployment in both:
        others = set(backends(durable, "pgsse."))
        start_streaming(deployment)
        deployment.table_backend, = set(backends(durable, "pgsse.")) - others
    for deployment in both:
        source = Source(deployment, "unread", "0.zzzzzzzzzzzzz.1")
        assert is_refresh(source.next_event())
        source.cut()
    return both


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_hops_between_two_brokers(pair, durable):
    source = Source(pair[0]).greeted()
    with Publisher(durable, "alpha") as publisher:
        for turn in range(30):
            for _ in range(turn % 5):
                source.next_event()
            source.cut().connect(pair[(turn + 1) % 2])
    while len(events(source)) < 2 * publisher.count:
        source.next_event()
    assert_both(source, publisher.count)
    assert refreshes(source) == []


@pytest.mark.parametrize("who", ["broker", "table"])
def test_to_a_broker_that_is_behind(pair, durable, who):
    """Its head is not yet where the client's is: it waits until it is, and says nothing of it."""
    one, two = pair
    source = Source(one).greeted()
    with stopped(two.broker.pid if who == "broker" else two.table_backend):
        for number in range(1, 21):
            publish(durable, "alpha", number)
            durable.publish("alpha", -number)
        while source.next_data() != 10:
            pass
        ahead = source.position
        source.cut().connect(two)
        waiting = source.next_block()
        assert waiting.comments == ["waiting"]
    greeting = source.next_block()
    assert greeting.comments == ["listening alpha"] and source.position == ahead
    while len(events(source)) < 40:
        source.next_event()
    assert_both(source, 20)
    assert refreshes(source) == []


# --- fail-over -----------------------------------------------------------------------------------

def test_a_server_that_takes_over(deploy):
    """Another timeline: ids leap, and durable events go on across it."""
    cluster = Cluster(wal_level="replica")
    try:
        database = cluster.create_database()
        install(database)
        outage = Outage(deploy(database.url, **SETTINGS), database)
        database.close()
        cluster.stop()
        cluster.start_in_recovery()
        cluster.promote()
        outage.publish()
        outage.live.read_to(4)
        assert outage.live.events[-1].place[0] > 10**9
        outage.assert_exact(gaps=1)
        back = come_back(outage.deployment, "alpha",
                         place_text(99, *outage.live.events[-1].place[1:]))
        assert back.read_to(outage.number).data == list(range(4, outage.number + 1))
        outage.deployment.broker.stop()
        database.close()
    finally:
        cluster.destroy()


@contextlib.contextmanager
def twin(cluster, next_id):
    """A database of the same name in each cluster."""
    with contextlib.closing(cluster.connect("postgres")) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE twin TEMPLATE template0")
            database = Database(cluster, "twin", is_plain=False)
            install(database)
            database.execute("SELECT setval('pgsse.event_id', %s)", (next_id,))
            yield database
            database.close()
            cursor.execute("DROP DATABASE twin WITH (FORCE)")


def test_the_table_of_a_server_that_was_left(deploy, cluster, fragile_cluster):
    """LISTEN has gone over to another server, the connection to the table lives on at the old one:
    it has to follow, or what is published now would not come, without a word."""
    with twin(cluster, 1) as old, twin(fragile_cluster, 10**9) as new:
        network = Proxy(cluster.socket_path)
        try:
            outage = Outage(deploy(network.url("twin"), **SETTINGS), old)
            table = network.find(TABLE)
            network._server_path = str(fragile_cluster.socket_path)  # of links that come
            network.cut(network.find(LISTEN), network.find(QUERY))
            while outage.live.data.count("gap") < 2:  # of LISTEN, and of the other table
                outage.live.next_event()
            publish(new, "alpha", 4)
            outage.live.read_to(4, 3)
            assert table.is_left
        finally:
            outage.deployment.broker.stop()
            network.close()
