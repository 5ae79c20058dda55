"""The address of Postgres leads to another server, and the one from before lives on, as a primary of
its own. Whichever of the broker's connections has gone over, all of them come to the same server in
the end; and each loss of LISTEN is told once."""

import contextlib
import threading
import time

import pytest

from durable import publish, refreshes
from proxy import Proxy
from source import Source
from test_durable import head_position
from test_durable_outages import LISTEN, QUERY, SETTINGS, TABLE, Outage, twin
from waiting import wait_for

ALL = (LISTEN, QUERY, TABLE)
HEALED = 5


@pytest.fixture(name="network")
def fixture_network(cluster):
    """To the old server, at first."""
    new = Proxy(cluster.socket_path)
    yield new
    new.close()


@pytest.fixture(name="servers")
def fixture_servers(network, deploy, cluster, fragile_cluster):
    """(the old, the new, an Outage at the old one)"""
    with twin(cluster, 1) as old, twin(fragile_cluster, 10**9) as new:
        outage = Outage(deploy(network.url("twin"), **SETTINGS), old)
        yield old, new, outage
        outage.deployment.broker.stop()


@contextlib.contextmanager
def traffic(database):
    """Notifications that are none of ours to count on, all the while."""
    is_over = threading.Event()

    def notify():
        with contextlib.closing(database.connect()) as connection:
            with connection.cursor() as cursor:
                while not is_over.wait(0.05):
                    cursor.execute("SELECT pg_notify('topic_broadcast_0', 'nonsense')")

    thread = threading.Thread(target=notify)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def assert_one_server(network, outage, new):
    """All is well, and what is committed at the new server comes."""
    wait_for(lambda: outage.deployment.health()["status"] == "ok",
             lambda: f"well again: {outage.deployment.health()}", HEALED)
    wait_for(lambda: outage.deployment.totals()["table_connected"], "the table can be read", HEALED)
    time.sleep(0.2)  # nothing tells when it has been looked at: what is there by then is not sent
    outage.database = new
    outage.publish()
    new.publish("alpha", -1)
    while not {-1, outage.number} <= set(outage.live.data):
        outage.live.next_event()
    assert head_position(outage.deployment)
    stranger = Source(outage.deployment, "beta", "5.aaaaaaaaaaaaa.5")
    assert stranger.next_event().json()["reason"] == "unknown_position"
    assert [network.find(words).server_path for words in ALL] == [str(new.cluster.socket_path)] * 3


def gaps(*databases):
    """One of LISTEN, and one of the table if it is not a copy of the other: known by its oid."""
    return ["gap"] * len({database.execute("SELECT 'pgsse.events'::regclass::oid")[0]
                          for database in databases})


@pytest.mark.parametrize("busy", ["none", "old", "new"])
@pytest.mark.parametrize("words", ALL, ids=["listen", "query", "table"])
def test_one_connection_goes_over(network, servers, words, busy):
    old, new, outage = servers
    with contextlib.ExitStack() as stack:
        if busy != "none":
            stack.enter_context(traffic({"old": old, "new": new}[busy]))
        network.lead_to(new.cluster.socket_path)
        network.cut(network.find(words))
        wait_for(lambda: all(link.is_left or link.server_path == str(new.cluster.socket_path)
                             for link in network.links), "nothing is left at the old one", HEALED)
        assert_one_server(network, outage, new)
    assert refreshes(outage.live) == gaps(old, new)
    assert outage.deployment.totals()["reconnects"] == 1


def test_nothing_goes_over_for_good(network, servers):
    """One connection strays to another server for a moment: streams notice nothing."""
    old, new, outage = servers
    network.lead_to(new.cluster.socket_path)
    network.hold_new()
    network.cut(network.find(TABLE))
    wait_for(lambda: len(network.links) > 3, "it is made anew")
    network.lead_to(old.cluster.socket_path)
    network.resume()
    assert_one_server(network, outage, old)
    assert refreshes(outage.live) == []
    assert outage.deployment.totals()["reconnects"] == 0


def test_a_table_elsewhere_is_not_read(network, servers):
    """Its ids would be taken for those of the server that is listened to."""
    old, new, outage = servers
    told = gaps(old, new)
    for number in range(100, 103):
        publish(new, "alpha", number)
    network.lead_to(new.cluster.socket_path)
    network.hold(network.find(QUERY))
    network.cut(network.find(TABLE))
    wait_for(lambda: "than LISTEN" in outage.deployment.broker.log(), "it is noticed")
    assert_one_server(network, outage, new)
    assert outage.live.data[3:3 + len(told)] == told  # before anything of the other table


def plain(network, database):
    """What comes before the first message is none."""
    return f"{network.url(database.name)} sslmode=disable gssencmode=disable"


def test_a_pooler_of_transactions(deploy, network, database):
    """LISTEN does not work through it: what to do is said in the log and in health."""
    network.pool_transactions()
    deployment = deploy(plain(network, database), **SETTINGS)
    deployment.spawn_broker()
    wait_for(lambda: "set listen_database_url" in deployment.broker.log(), "it is said")
    assert "pooler" in deployment.broker.log()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        document = deployment.ask_status_socket()[1]
        assert document["status"] == "degraded"
    assert "pooler" in document["reason"] and "listen_database_url" in document["reason"]


def test_a_pooler_beside_listen(deploy, network, database):
    """Where LISTEN has an address of its own, nothing is wrong with the pooler."""
    network.pool_transactions()
    deployment = deploy(plain(network, database), listen_database_url=database.url, **SETTINGS)
    deployment.start(publisher=False)
    wait_for(lambda: deployment.health()["status"] == "ok", lambda: deployment.health())
    live = Source(deployment).greeted()
    database.publish("alpha", 1)
    assert live.next_data() == 1
