"""What becomes of Postgres and of the network before it, fault by fault. Every one is noticed in
time, health says what it is and since when, nobody is disconnected, publishing is refused honestly
where it fails, and afterwards exactly those are told of a gap who may have missed something.

(test_postgres_away.py has the plain cases: stopped, frozen, one backend terminated or stopped.)"""

import concurrent.futures
import contextlib
import datetime
import json
import os
import signal
import struct
import threading
import time

import pytest

from cluster import Cluster
from proxy import Proxy
from waiting import wait_for

INTERVAL = 0.3
TIMEOUT = 0.3
PUBLISH_TIMEOUT = 0.5
SLACK = 1.5  # for slow binaries and busy machines
NOTICED = INTERVAL + TIMEOUT + SLACK
SETTINGS = {"canary_interval": "300ms", "canary_timeout": "300ms", "keep_alive": "200ms",
            "publish_timeout": "500ms"}

LISTEN = b"LISTEN topic_broadcast_0"
QUERY = b"pg_notify('pgsse_marker'"
PUBLISH = b"pgsse_publish"

PASSWORD = "open-sesame"


@pytest.fixture(scope="module", name="strict_cluster")
def _strict_cluster():
    """It can be a standby, has none, and wants a password of the role app."""
    new = Cluster(authentication="local all app scram-sha-256", wal_level="replica",
                  max_wal_senders="2", synchronous_standby_names="nobody",
                  synchronous_commit="local")
    yield new
    new.destroy()


@pytest.fixture
def strict_database(strict_cluster):
    new = strict_cluster.create_database()
    yield new
    strict_cluster.give_back(new)


@pytest.fixture
def waiting_database(strict_cluster):
    """Whose new sessions wait for the standby. What is executed here does not."""
    new = strict_cluster.create_database(options="CONNECTION LIMIT -1")  # so nobody gets it next
    new.execute(f"ALTER DATABASE {new.name} SET synchronous_commit = on")
    yield new
    strict_cluster.give_back(new)


@pytest.fixture
def network(cluster):
    """Between all our programs and the cluster that nobody stops."""
    new = Proxy(cluster.socket_path)
    yield new
    new.close()


@pytest.fixture
def over_network(deploy, network, database):
    return deploy(network.url(database.name), **SETTINGS).start()


# --- what is looked at -----------------------------------------------------------------------


def health(deployment):
    answer = deployment.request("GET", "/healthz")
    return answer.status, json.loads(answer.body)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Outage:
    """To be made right before the fault."""

    def __init__(self, deployment, *streams):
        self.deployment = deployment
        self.streams = list(streams)
        self._began = now()
        self._document = None

    def wait_noticed(self, status, *reasons):
        """Health says so in time; to who is on this machine it names one of the reasons."""
        def is_noticed():
            got, document = health(self.deployment)
            reason = str(self.deployment.health("?limit=0")["reason"])
            named = any(word in reason for word in reasons)
            is_told = got == status and document["status"] == "degraded"
            return document if is_told and named else None
        document = wait_for(
            is_noticed, lambda: f"{status} for {reasons}: {health(self.deployment)}", NOTICED)
        assert document["totals"]["listen_connected"] is (status == 200)
        assert document["totals"]["errors"] >= 1 and document["totals"]["last_error_at"]
        since = datetime.datetime.fromisoformat(document["degraded_since"].replace("Z", "+00:00"))
        assert self._began - datetime.timedelta(seconds=0.01) < since <= now()
        self._document = document

    def assert_lasts(self, seconds=0.4):
        """In all that time health does not change its mind, and every stream stays open and has
        heartbeats."""
        for stream in self.streams:
            assert_beats(stream.blocks_so_far())
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            document = health(self.deployment)[1]
            assert document["status"] == "degraded" and document["reason"], document
            assert document["degraded_since"] == self._document["degraded_since"]
            time.sleep(0.01)
        for stream in self.streams:
            blocks = stream.blocks_so_far()
            assert blocks
            assert_beats(blocks)

    def come_late(self):
        """Another stream, which is taken and held."""
        stream = self.deployment.stream(greeted=False)
        first = stream.next_block(2)
        assert first.comments == ["waiting"] and first.id is None and first.retry
        self.streams.append(stream)
        return stream

    def wait_over(self):
        def is_over():
            status, document = health(self.deployment)
            return document if status == 200 and document["status"] == "ok" else None
        document = wait_for(is_over, lambda: f"health is well again: {health(self.deployment)}", 8)
        assert document["reason"] is None and document["degraded_since"] is None
        assert document["totals"]["listen_connected"] and document["totals"]["notify_connected"]
        return document["totals"]

    def go_on(self, database, gaps):
        """Live again: before the next event every stream had as many gaps, and later none."""
        database.publish("alpha", "next")
        for stream in self.streams:
            assert_gaps(events_up_to(stream, "next"), gaps)
        heard = self.deployment.totals()["notifications"]
        wait_for(lambda: self.deployment.totals()["notifications"] > heard, "one more marker")
        database.publish("alpha", "last")
        for stream in self.streams:
            assert_gaps(events_up_to(stream, "last"), 0)


def assert_beats(blocks):
    for block in blocks:
        assert block.data is None, block
        assert block.comments in (["heartbeat"], ["waiting"]), block


def events_up_to(stream, data):
    """The blocks with data that came before that event."""
    blocks = []
    while True:
        block = stream.next_event()
        if block.event == "message" and block.json() == data:
            return blocks
        blocks.append(block)


def assert_gaps(blocks, count):
    assert [block.event for block in blocks] == ["refresh"] * count, blocks
    for block in blocks:
        assert block.json() == {"reason": "gap", "dropped": None, "topics": ["alpha"]}


def assert_refused(deployment, *outcomes):
    """Publishing is answered by an honest 503 within publish_timeout."""
    started = time.monotonic()
    answer = deployment.post("alpha", '{"data":"refused"}')
    assert time.monotonic() - started < PUBLISH_TIMEOUT + SLACK
    assert answer.status == 503 and int(answer.header("Retry-After")) > 0
    assert answer.header("Cache-Control") == "no-store"
    if answer.header("Content-Type").startswith("text/plain"):
        assert "rolled back" in outcomes, answer
    else:
        assert json.loads(answer.body)["outcome"] in outcomes, answer


def wait_published(deployment, data):
    wait_for(lambda: deployment.post("alpha", json.dumps({"data": data})).status == 200,
             "publishing works again")


def wait_marker_heard(deployment):
    """Returns right after one, so that the next one is canary_interval away."""
    heard = deployment.totals()["notifications"]
    wait_for(lambda: deployment.totals()["notifications"] > heard, "a marker")


def wait_listen_proved(database):
    """Returns right after a marker was heard and LISTEN has answered what is asked after it: nothing is
    under way on either connection."""
    def answered():
        return database.execute(
            "SELECT max(query_start) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle' AND query LIKE '%pg_listening_channels%'")[0][0]
    before = answered()
    wait_for(lambda: answered() not in (None, before), "LISTEN has answered")
    time.sleep(0.02)  # the answer is on its way


def live_stream(deployment, database):
    """It has had an event, through the publisher if there is one: so that is connected, too."""
    stream = deployment.stream()
    (deployment if deployment.publisher else database).publish("alpha", "before")
    assert stream.next_data() == "before"
    return stream


def whole_outage(deployment, database, stop, start, *reasons):
    """Nobody of ours reaches Postgres, and knows it at once."""
    outage = Outage(deployment, live_stream(deployment, database))
    stop()
    outage.wait_noticed(503, *reasons)
    assert_refused(deployment, "rolled back", "unknown")
    outage.come_late()
    outage.assert_lasts()
    start()
    totals = outage.wait_over()
    assert totals["reconnects"] == 1
    outage.go_on(database, gaps=1)
    wait_published(deployment, "published")
    for stream in outage.streams:
        assert_gaps(events_up_to(stream, "published"), 0)


# --- the server ------------------------------------------------------------------------------


def test_immediate_shutdown(deploy, fragile_cluster, fragile_database):
    deployment = deploy(fragile_database.url, **SETTINGS).start()

    def stop():
        fragile_database.close()
        fragile_cluster.stop(signal.SIGQUIT)

    whole_outage(deployment, fragile_database, stop, fragile_cluster.start,
                 "No such file", "Connection refused")


def test_a_backend_crashes(deploy, fragile_cluster, fragile_database):
    """The server then throws everybody out and recovers by itself. Who is back before it notices is
    thrown out once more: another break."""
    deployment = deploy(fragile_database.url, **SETTINGS).start()
    outage = Outage(deployment, live_stream(deployment, fragile_database))
    os.kill(fragile_database.listen_backends()[0], signal.SIGKILL)
    wait_for(lambda: deployment.totals()["reconnects"] >= 1, "LISTEN is back", 8)
    fragile_database.close()
    outage.wait_over()
    wait_for(lambda: fragile_cluster.connect("postgres"), "it takes connections").close()
    outage.go_on(fragile_database, gaps=deployment.totals()["reconnects"])
    wait_published(deployment, "published")


def test_a_wrong_password(deploy, strict_cluster, strict_database):
    strict_database.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    url = f"{strict_database.url.replace('user=postgres', 'user=app')} password={PASSWORD}"
    deployment = deploy(url, **SETTINGS).start()

    def change_password():
        strict_database.execute("ALTER ROLE app PASSWORD 'another'")
        strict_database.terminate(strict_database.backends())

    whole_outage(deployment, strict_database, change_password,
                 lambda: strict_database.execute(f"ALTER ROLE app PASSWORD '{PASSWORD}'"),
                 'password authentication failed for user "app"')
    assert PASSWORD not in deployment.logs()


def test_a_missing_database(deploy, cluster):
    database = cluster.create_database(options="CONNECTION LIMIT -1")  # so nobody gets it next
    deployment = deploy(database.url, **SETTINGS).start()
    other = cluster.connect("postgres")

    def execute(sql):
        with other.cursor() as cursor:
            cursor.execute(sql)

    def drop():
        database.close()
        execute(f"DROP DATABASE {database.name} WITH (FORCE)")

    whole_outage(deployment, database, drop,
                 lambda: execute(f"CREATE DATABASE {database.name} TEMPLATE template0"),
                 f'database "{database.name}" does not exist')
    database.close()
    other.close()


def test_a_database_in_recovery(deploy, strict_cluster, strict_database):
    """It connects and answers, but neither LISTEN nor NOTIFY can be had until it is promoted."""
    deployment = deploy(strict_database.url, **SETTINGS).start()

    def demote():
        strict_database.close()
        strict_cluster.stop()
        strict_cluster.start_in_recovery()

    try:
        whole_outage(deployment, strict_database, demote, strict_cluster.promote,
                     "cannot execute LISTEN during recovery")
    finally:
        if strict_cluster.is_in_recovery():
            strict_cluster.promote()


@contextlib.contextmanager
def hanging_commit(database):
    """Somebody's INSERT with a NOTIFY waits for a standby that there is not, and every NOTIFY of
    the server waits behind it. At the end it is let go."""
    database.execute("CREATE TABLE rows (number int)")
    connection = database.connect()

    def insert():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO rows VALUES (1); SELECT pg_notify('topic_broadcast_0',"
                           """ '{"topic":"alpha","data":"hanging"}')""")

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        wait_for(lambda: database.execute("SELECT 1 FROM pg_stat_activity"
                                          " WHERE wait_event = 'SyncRep'"), "the commit hangs")
        yield
    finally:
        connection.cancel()  # it is committed, but no longer waits
        thread.join()
        connection.close()


def test_a_commit_that_hangs(deploy, waiting_database):
    """Nothing is published any more, but LISTEN is well: nothing is missed, and nobody told so."""
    deployment = deploy(waiting_database.url, **SETTINGS).start()
    stream = live_stream(deployment, waiting_database)
    listening = waiting_database.listen_backends()
    outage = Outage(deployment, stream)
    with hanging_commit(waiting_database):
        outage.wait_noticed(200, "does not complete statements")
        assert_refused(deployment, "unknown")
        outage.assert_lasts(1.3 * (INTERVAL + TIMEOUT))  # the connection is replaced meanwhile
        assert waiting_database.listen_backends() == listening
    totals = outage.wait_over()
    assert totals["reconnects"] == 0
    wait_published(deployment, "published")
    # Of what was answered "unknown" some may come: it has waited in the same queue.
    events = events_up_to(stream, "hanging") + events_up_to(stream, "published")
    assert {(block.event, block.data) for block in events} <= {("message", '"refused"')}
    outage.go_on(waiting_database, gaps=0)


def test_notify_alone_waits_for_no_standby(deploy, waiting_database):
    """It writes nothing that a standby would have to have."""
    deployment = deploy(waiting_database.url, **SETTINGS).start()
    stream = deployment.stream()
    for _ in range(2):
        wait_marker_heard(deployment)
        deployment.publish("alpha", 1)
        assert stream.next_data() == 1
    assert health(deployment)[1]["status"] == "ok"


# --- the network: everything -----------------------------------------------------------------


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_everything_is_cut(over_network, network, database, reset):
    def cut():
        network.refuse()
        network.cut(reset=reset)

    whole_outage(over_network, database, cut, network.resume, "Connection refused")


def test_a_short_cut(over_network, network, database):
    """It is back at once: also then, what came between may be missing."""
    outage = Outage(over_network, live_stream(over_network, database))
    network.cut()
    over_network.wait_totals(reconnects=1)
    assert outage.wait_over()["reconnects"] == 1
    outage.go_on(database, gaps=1)


def test_the_network_falls_silent_and_recovers(over_network, network, database):
    """What was under way arrives: nothing is missing."""
    outage = Outage(over_network, live_stream(over_network, database))
    wait_listen_proved(database)
    network.hold()
    outage.wait_noticed(200, "does not complete statements", "no connection")
    assert_refused(over_network, "unknown")
    assert_refused(over_network, "rolled back")
    outage.assert_lasts()
    database.publish("alpha", "meanwhile")
    network.resume()
    totals = outage.wait_over()
    assert totals["reconnects"] == 0
    wait_published(over_network, "published")
    stream, = outage.streams
    came = events_up_to(stream, "meanwhile") + events_up_to(stream, "published")
    assert {(block.event, block.data) for block in came} <= {("message", '"refused"')}
    outage.go_on(database, gaps=0)


def test_the_network_forgets_its_connections(over_network, network, database):
    """Those from before stay half-open for ever, and only new ones get through."""
    outage = Outage(over_network, live_stream(over_network, database))
    before = [network.find(LISTEN), network.find(QUERY), network.find(PUBLISH)]
    wait_listen_proved(database)
    network.hold()
    outage.wait_noticed(200, "does not complete statements", "no connection")
    database.publish("alpha", "missed")
    network.resume(leaving=before)
    over_network.wait_totals(reconnects=1)
    assert outage.wait_over()["reconnects"] == 1
    outage.go_on(database, gaps=1)
    wait_published(over_network, "published")
    wait_for(lambda: all(link.is_left for link in before), "we have closed them all")


# --- the network: one connection -------------------------------------------------------------


def test_only_listen_is_half_open(over_network, network, database):
    """Its marker is not heard; it is replaced, and what sends the markers follows it."""
    outage = Outage(over_network, live_stream(over_network, database))
    listening, query = network.find(LISTEN), network.find(QUERY)
    network.hold(listening)
    started = time.monotonic()
    database.publish("alpha", "missed")
    over_network.wait_totals(reconnects=1, seconds=NOTICED)
    assert time.monotonic() - started < NOTICED
    assert "was not heard" in over_network.broker.log()
    totals = outage.wait_over()
    assert totals["errors"] == 1 and totals["last_error_at"]
    outage.go_on(database, gaps=1)
    wait_for(lambda: listening.is_left, "the old one was closed")
    assert network.find(LISTEN) is not listening and network.find(QUERY) is not query


def test_listen_stays_away(over_network, network, database):
    """Publishing works all the while, and those who come wait."""
    outage = Outage(over_network, live_stream(over_network, database))
    listening, query = network.find(LISTEN), network.find(QUERY)
    network.hold(listening)
    network.hold_new()
    outage.wait_noticed(503, "was not heard")
    outage.come_late()
    over_network.publish("alpha", "missed")
    outage.assert_lasts()
    over_network.publish("alpha", "missed, too")
    assert health(over_network)[1]["totals"]["notify_connected"] is True
    network.resume(leaving=[listening])
    totals = outage.wait_over()
    assert totals["reconnects"] == 1
    outage.go_on(database, gaps=1)
    assert network.find(QUERY) is not query


def test_listen_does_not_answer(deploy, network, database):
    """The markers come, but what is asked behind them is not answered: that is noticed, too."""
    deployment = deploy(network.url(database.name), **SETTINGS).start()
    outage = Outage(deployment, live_stream(deployment, database))
    listening = network.find(LISTEN)
    network.hold_words(listening)
    deployment.wait_totals(reconnects=1, seconds=NOTICED)
    assert "does not answer" in deployment.broker.log()
    outage.wait_over()
    outage.go_on(database, gaps=1)
    assert listening.is_left


def test_the_session_listens_to_less(over_network, network, database):
    """As behind a pooler that gives it to somebody else. The markers still come."""
    outage = Outage(over_network, live_stream(over_network, database))
    statement = b"UNLISTEN topic_broadcast_5\0"
    network.say(network.find(LISTEN), b"Q" + struct.pack("!i", 4 + len(statement)) + statement)
    over_network.wait_totals(reconnects=1, seconds=NOTICED)
    assert "does not listen" in over_network.broker.log()
    outage.wait_over()
    outage.go_on(database, gaps=1)


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_only_listen_is_cut(over_network, network, database, reset):
    outage = Outage(over_network, live_stream(over_network, database))
    query = network.find(QUERY)
    network.cut(network.find(LISTEN), reset=reset)
    over_network.wait_totals(reconnects=1)
    outage.wait_over()
    outage.go_on(database, gaps=1)
    assert network.find(QUERY) is not query


def test_only_the_query_connection_is_half_open(over_network, network, database):
    """It is replaced, and nobody has missed anything."""
    outage = Outage(over_network, live_stream(over_network, database))
    listening, query = network.find(LISTEN), network.find(QUERY)
    network.hold(query)
    wait_for(lambda: query.is_left, "it is given up", NOTICED)
    assert "does not complete statements" in over_network.broker.log()
    totals = outage.wait_over()
    assert totals["reconnects"] == 0 and totals["errors"] == 1 and totals["last_error_at"]
    outage.go_on(database, gaps=0)
    assert network.find(LISTEN) is listening and network.find(QUERY) is not query


def test_the_query_connection_stays_away(over_network, network, database):
    """Degraded, and everything goes on."""
    outage = Outage(over_network, live_stream(over_network, database))
    listening, query = network.find(LISTEN), network.find(QUERY)
    network.hold(query)
    network.hold_new()
    outage.wait_noticed(200, "does not complete statements")
    outage.assert_lasts()
    outage.streams.append(over_network.stream())
    over_network.publish("alpha", "on")
    for stream in outage.streams:
        assert stream.next_data() == "on"
    assert health(over_network)[1]["totals"]["notify_connected"] is False
    network.resume(leaving=[query])
    assert outage.wait_over()["reconnects"] == 0
    outage.go_on(database, gaps=0)
    assert network.find(LISTEN) is listening


def test_the_query_backend_hangs(deploy, database):
    """Its server process stops; a new one does."""
    deployment = deploy(database.url, **SETTINGS).start(publisher=False)
    outage = Outage(deployment, live_stream(deployment, database))
    listening = database.listen_backends()
    hanging, = wait_for(database.query_backends, "it has sent a marker")
    os.kill(hanging, signal.SIGSTOP)
    try:
        wait_for(lambda: set(database.query_backends()) - {hanging}, "another", NOTICED)
        assert outage.wait_over()["reconnects"] == 0
        outage.go_on(database, gaps=0)
    finally:
        os.kill(hanging, signal.SIGCONT)
    assert database.listen_backends() == listening


def test_only_the_publishers_connection_is_half_open(over_network, network, database):
    """What is under way on it is unknown, the next goes another way; the broker is fine."""
    stream = live_stream(over_network, database)
    publishing = network.find(PUBLISH)
    network.hold(publishing)
    assert_refused(over_network, "unknown")
    wait_published(over_network, "published")
    assert_gaps(events_up_to(stream, "published"), 0)
    assert publishing.is_left
    totals = over_network.totals()
    assert health(over_network)[1]["status"] == "ok" and totals["errors"] == 0


def test_the_answer_to_a_publish_is_lost(over_network, network, database):
    """It was published, but who asked cannot know, so it is not sent again."""
    stream = live_stream(over_network, database)
    publishing = network.find(PUBLISH)
    network.hold_answers(publishing)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(over_network.post, "alpha", '{"data":"once"}')
        assert stream.next_data() == "once"
        network.cut(publishing)
        answer = asked.result()
    assert answer.status == 503 and json.loads(answer.body)["outcome"] == "unknown"
    wait_published(over_network, "published")
    assert_gaps(events_up_to(stream, "published"), 0)


def test_listen_reaches_another_server(deploy, cluster, database):
    """It answers, and it listens, and it hears nothing: never "ok", and what is wrong is said."""
    elsewhere = cluster.create_database()
    deployment = deploy(database.url, listen_database_url=elsewhere.url, **SETTINGS)
    deployment.spawn_broker()
    deployment.start_stream()
    deployment.start_lighttpd()
    wait_for(lambda: "to another server, or database, than LISTEN" in deployment.broker.log(),
             "it is noticed", NOTICED)
    wait_for(lambda: "degraded_since" in health(deployment)[1], "the handler has found the broker")
    deadline = time.monotonic() + 1.3 * (INTERVAL + TIMEOUT)
    since = set()
    while time.monotonic() < deadline:
        document = health(deployment)[1]
        assert document["status"] == "degraded" and document["reason"], document
        since.add(document["degraded_since"])
        time.sleep(0.01)
    assert len(since) == 1
    cluster.give_back(elsewhere)
