"""The broker's own sockets and its database: who is let in, and what cannot be started."""

import os
import pathlib
import stat
import subprocess
import sys
import tempfile

import pytest

import program
import wire
from deployment import nobody
from waiting import wait_for

as_root = pytest.mark.skipif(nobody() is None, reason="only root can be another user")


def test_sockets_have_the_mode_that_was_configured(deploy, database):
    one = deploy(database.url)
    one.start_broker()
    assert {stat.S_IMODE(path.stat().st_mode)
            for path in (one.broker_socket, one.status_socket)} == {0o660}
    two = deploy(database.url, socket_mode="0600")
    two.start_broker()
    assert stat.S_IMODE(two.broker_socket.stat().st_mode) == 0o600


def test_a_second_broker_refuses_and_harms_nothing(running):
    stream = running.stream()
    first = running.broker
    sockets = [path.stat().st_ino for path in (running.broker_socket, running.status_socket)]
    second = running.spawn_broker()
    second.wait(1)
    assert len(second.log().splitlines()) == 1 and str(running.directory) in second.log()
    running.broker = first
    assert sockets == [path.stat().st_ino
                       for path in (running.broker_socket, running.status_socket)]
    running.publish("alpha", 1)
    assert stream.next_data() == 1
    assert running.stream("beta").greeting
    assert running.health()["status"] == "ok"


def test_many_brokers_at_once_leave_one(deploy, database):
    deployment = deploy(database.url)
    brokers = [deployment.spawn_broker() for _ in range(6)]
    wait_for(lambda: sum(one.is_running() for one in brokers) == 1, "one is left")
    deployment.broker = next(one for one in brokers if one.is_running())
    for one in brokers:
        if one is not deployment.broker:
            one.wait(1)
    deployment.wait_ready()


def test_stale_sockets_are_replaced(deploy, database):
    deployment = deploy(database.url)
    deployment.start_broker()
    deployment.broker.kill()
    assert deployment.broker_socket.exists() and deployment.status_socket.exists()
    deployment.start_broker()
    deployment.handler_by_hand()


def test_somebody_elses_live_socket_is_left_alone(deploy, database):
    import socket
    deployment = deploy(database.url)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(deployment.broker_socket))
        other.listen(1)
        inode = deployment.broker_socket.stat().st_ino
        deployment.spawn_broker().wait(1)
        assert deployment.broker_socket.stat().st_ino == inode
    assert "broker.sock" in deployment.broker.log()


def test_what_is_no_socket_is_left_alone(deploy, database):
    deployment = deploy(database.url)
    deployment.broker_socket.write_text("precious")
    deployment.spawn_broker()
    wait_for(lambda: not deployment.broker.is_running(), "it refuses")
    assert deployment.broker.process.returncode not in (0, None)
    deployment.broker.expected = {deployment.broker.process.returncode}
    assert deployment.broker_socket.read_text() == "precious"


def test_a_path_as_long_as_a_socket_allows(deploy, database):
    """107 bytes work, 108 are refused with one line, never cut off."""
    with tempfile.TemporaryDirectory(prefix="pgsse-", dir="/tmp") as base:
        for length, works in [(107, True), (108, False), (300, False)]:
            directory = base
            while len(directory) < length - len("/broker.sock"):
                directory += "/" + "d" * min(50, length - len("/broker.sock") - len(directory) - 1)
            if len(directory) + len("/broker.sock") != length:
                directory = directory.rstrip("/")
            os.makedirs(directory, exist_ok=True)
            deployment = deploy(database.url, socket_dir=directory)
            broker = deployment.spawn_broker()
            if works:
                assert len(directory + "/broker.sock") == 107
                wait_for(pathlib.Path(directory + "/broker.sock").exists, "it listens there")
                broker.stop()
                assert not list(pathlib.Path(directory).glob("*.sock"))
            else:
                wait_for(lambda broker=broker: not broker.is_running(), "it refuses")
                assert broker.process.returncode not in (0, None)
                broker.expected = {broker.process.returncode}
                assert len(broker.log().splitlines()) == 1 and "107" in broker.log()


def test_a_handler_with_too_long_a_path_says_so(deploy):
    deployment = deploy(None, socket_dir="/tmp/" + "d" * 120)
    handler = deployment.start_stream()
    wait_for(lambda: not handler.is_running() or handler.log(), "it says something")
    if not handler.is_running():
        assert handler.process.returncode > 0
        handler.expected = {handler.process.returncode}
    assert "107" in handler.log() or "too long" in handler.log()


def test_a_directory_that_is_not_there(deploy, database):
    deployment = deploy(database.url, socket_dir="/tmp/pgsse-is-not-there")
    broker = deployment.spawn_broker()
    wait_for(lambda: not broker.is_running(), "it refuses")
    assert broker.process.returncode > 0
    broker.expected = {broker.process.returncode}
    assert len(broker.log().splitlines()) == 1 and "pgsse-is-not-there" in broker.log()


# --- who is let in ----------------------------------------------------------------------------------

AS_NOBODY = """
import os, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sys.path.insert(0, sys.argv[1])
import wire
handler = wire.Handler(sys.argv[2], greet=False)
try:
    handler.send(wire.introduction() + wire.subscribe(1, "alpha"))
except OSError:
    pass
kinds = []
reason = ""
while len(kinds) < 5:
    got = handler.next()
    if got is None:
        break
    kinds.append(got[0])
    if got[0] == wire.GOODBYE:
        reason = wire.Reader(got[1]).text().decode()
    if got[0] == wire.SUBSCRIBED:
        break
print(kinds, reason)
"""


def what_nobody_gets(deployment):
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, os.path.dirname(wire.__file__),
                           str(deployment.broker_socket)], capture_output=True, text=True,
                          timeout=10, check=True, env=program.environment(PYTHONDONTWRITEBYTECODE=1))
    return done.stdout


@as_root
def test_other_users_are_refused(deploy, database):
    deployment = deploy(database.url, socket_mode="0666").start()
    stream = deployment.stream()
    got = what_nobody_gets(deployment)
    assert str(wire.ACCEPTED) not in got and str(wire.WELCOME) not in got.split("]")[0], got
    assert deployment.totals()["subscribers"] == 1
    assert "nobody" in deployment.broker.log() or "65534" in deployment.broker.log()
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1


@as_root
def test_handler_users_are_let_in(deploy, database):
    deployment = deploy(database.url, socket_mode="0666", handler_users="daemon, nobody")
    deployment.start_broker()
    assert str(wire.SUBSCRIBED) in what_nobody_gets(deployment)


def test_a_handler_user_who_does_not_exist(deploy, database):
    deployment = deploy(database.url, handler_users="root,no-such-user-anywhere")
    broker = deployment.spawn_broker()
    wait_for(lambda: not broker.is_running(), "it refuses")
    assert broker.process.returncode in (1, 78)
    broker.expected = {broker.process.returncode}
    assert "no-such-user-anywhere" in broker.log() and len(broker.log().splitlines()) == 1


# --- which databases --------------------------------------------------------------------------------

def test_an_encoding_that_cannot_be_served(deploy, cluster):
    """Refused with one line and the status that says: do not try again."""
    database = cluster.create_database("ENCODING 'LATIN1' LOCALE 'C'")
    deployment = deploy(database.url)
    deployment.start_stream()
    broker = deployment.spawn_broker()
    broker.wait(78)
    lines = [line for line in broker.log().splitlines() if "LATIN1" in line]
    assert len(lines) == 1, broker.log()
    assert not deployment.broker_socket.exists() and not deployment.status_socket.exists()
    database.close()


def test_sql_ascii_is_served(deploy, cluster):
    database = cluster.create_database("ENCODING 'SQL_ASCII' LOCALE 'C'")
    deployment = deploy(database.url).start()
    stream = deployment.stream()
    answer = deployment.post("alpha", '{"data":"é€😀"}')
    assert answer.status == 200
    assert stream.next_event().data == '"é€😀"'
    database.close()
