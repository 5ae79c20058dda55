"""The hook: what is run when the connection comes, goes and fails; and the watch over the queue."""

import pathlib
import re
import time

import pytest

from program import BROKER, environment, run
from waiting import wait_for

CONFIG_ERROR = 78
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
FACTS = "$1|$PGSSE_EVENT|$PGSSE_TIME|$PGSSE_REASON|$PGSSE_ATTEMPT|$PGSSE_QUEUE_USAGE"


class Hook:
    """A script that notes each run's facts; more is done before that."""

    def __init__(self, directory, more=""):
        self.path = directory / "hook"
        self.notes = directory / "notes"
        self.path.write_text(f"#!/bin/sh\nnotes={self.notes}\n{more}\necho \"{FACTS}\" >>$notes\n")
        self.path.chmod(0o755)

    def runs(self):
        """[(event, reason, attempt, usage)], each as text."""
        if not self.notes.exists():
            return []
        runs = []
        for line in self.notes.read_text().splitlines():
            argument, event, when, reason, attempt, usage = line.split("|")
            assert argument == event and re.fullmatch(TIME, when), line
            runs.append((event, reason, attempt, usage))
        return runs

    def events(self):
        return [run[0] for run in self.runs()]

    def wait(self, event, count=1):
        """Until so many runs for it have been; returns the last."""
        wait_for(lambda: self.events().count(event) >= count,
                 lambda: f"{count} times {event}: {self.runs()}")
        return [run for run in self.runs() if run[0] == event][-1]


@pytest.fixture
def hook(tmp_path):
    return Hook(tmp_path)


def is_alive(pid):
    """And not a zombie that nobody waits for."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stop_postgres(cluster, database):
    database.close()
    cluster.stop()


def test_an_outage_from_end_to_end(deploy, fragile_cluster, fragile_database, hook):
    deployment = deploy(fragile_database.url, hook=hook.path)
    deployment.start_broker()
    assert hook.wait("connect")[1:] == ("", "1", "")
    assert hook.events() == ["connect"]
    stop_postgres(fragile_cluster, fragile_database)
    event, reason, attempt, _ = hook.wait("disconnect")
    assert "LISTEN" in reason and attempt == ""
    event, reason, attempt, _ = hook.wait("reconnect_attempt", 3)
    assert "LISTEN" in reason and int(attempt) >= 3
    assert "connection" in hook.wait("error")[1]
    fragile_cluster.start()
    assert int(hook.wait("reconnect_success")[2]) >= 3
    totals = deployment.wait_totals(reconnects=1)
    attempts = [int(run[2]) for run in hook.runs() if run[0] == "reconnect_attempt"]
    assert attempts == list(range(1, totals["reconnect_attempts"] + 1))
    events = hook.events()
    assert events.count("connect") == events.count("disconnect") == 1
    assert events.count("reconnect_success") == 1 and "reconnect_failed" not in events
    assert [event for event in events if event != "error"][0:3] == [
        "connect", "disconnect", "reconnect_attempt"]
    wait_for(lambda: deployment.totals()["hook_runs"] == len(hook.events()), "all are counted")
    totals = deployment.totals()
    assert totals["hook_failures"] == totals["hook_dropped"] == 0
    assert re.fullmatch(TIME, totals["last_hook_at"])


def test_the_query_connection_is_lost(deploy, database, hook):
    deployment = deploy(database.url, hook=hook.path)
    deployment.start_broker()
    database.terminate(wait_for(database.query_backends, "it has sent a marker"))
    event, reason, attempt, usage = hook.wait("error")
    assert "query connection" in reason and attempt == usage == ""
    assert hook.events() == ["connect", "error"]


def test_no_secret_is_in_the_environment(deploy, database, tmp_path):
    hook = Hook(tmp_path, "env >$notes.env")
    deployment = deploy(database.url + " password=hunter2", hook=hook.path,
                        listen_database_url=database.url + " password=hunter2", log_level="debug")
    plain = deployment.environment
    deployment.environment = lambda *arguments, **more: {
        **plain(*arguments, **more), "PGPASSWORD": "hunter2", "PGAPPNAME": "shown"}
    deployment.start_broker()
    hook.wait("connect")
    text = (tmp_path / "notes.env").read_text()
    assert "hunter2" not in text and "hunter2" not in deployment.broker.log()
    assert "PGAPPNAME=shown\n" in text and f"PGSSE_SOCKET_DIR={deployment.directory}\n" in text


def test_events_go_on_while_a_hook_runs(deploy, database, tmp_path):
    hook = Hook(tmp_path, 'until [ -e "$notes.go" ]; do sleep 0.01; done')
    deployment = deploy(database.url, hook=hook.path).start()
    stream = deployment.stream()
    deployment.wait_totals(hook_runs=1)
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1
    assert hook.events() == []
    (tmp_path / "notes.go").touch()
    hook.wait("connect")


def test_what_a_hook_writes_is_in_the_log(deploy, database, tmp_path):
    hook = Hook(tmp_path, "echo said aloud; echo complained >&2; [ $1 != connect ] || exit 3")
    deployment = deploy(database.url, hook=hook.path)
    deployment.start_broker()
    deployment.wait_totals(hook_failures=1)
    assert "said aloud\n" in deployment.broker.log() and "complained\n" in deployment.broker.log()
    assert "hook for connect ended with status 3" in deployment.broker.log()
    assert deployment.health()["status"] == "ok"


def test_a_hook_that_hangs_is_killed_with_its_children(deploy, database, tmp_path):
    hook = Hook(tmp_path, "sleep 1000 & echo $$ $! >$notes.pids; wait")
    deployment = deploy(database.url, hook=hook.path, hook_timeout="300ms")
    deployment.start_broker()
    deployment.wait_totals(hook_failures=1)
    pids = (tmp_path / "notes.pids").read_text().split()
    wait_for(lambda: not any(is_alive(pid) for pid in pids), f"{pids} are gone")
    assert "it took too long" in deployment.broker.log()
    assert hook.events() == []


def test_a_stop_takes_the_running_hook_along(deploy, database, tmp_path):
    hook = Hook(tmp_path, "trap '' TERM INT; sleep 1000 & echo $$ $! >$notes.pids; wait")
    deployment = deploy(database.url, hook=hook.path)
    deployment.start_broker()
    pids = wait_for(lambda: (tmp_path / "notes.pids").exists()
                    and (tmp_path / "notes.pids").read_text().split(), "it runs")
    assert all(is_alive(pid) for pid in pids)
    started = time.monotonic()
    deployment.broker.stop()
    assert time.monotonic() - started < 2
    wait_for(lambda: not any(is_alive(pid) for pid in pids), f"{pids} are gone")


@pytest.mark.parametrize("kind", ["missing", "directory", "not executable"])
def test_what_is_no_program_is_refused(tmp_path, kind):
    path = tmp_path / "hook"
    if kind == "directory":
        path.mkdir()
    elif kind == "not executable":
        path.write_text("#!/bin/sh\n")
    status, out, err = run([BROKER, "--hook", path],
                           environment(DATABASE_URL="dbname=x", PGSSE_SOCKET_DIR=tmp_path))
    assert status == CONFIG_ERROR and out == ""
    assert len(err.splitlines()) == 1 and "hook" in err and str(path) in err


def test_a_hook_that_vanishes_later(deploy, database, hook):
    deployment = deploy(database.url, hook=hook.path)
    deployment.start_broker()
    hook.wait("connect")
    hook.path.unlink()
    database.terminate(wait_for(database.query_backends, "it has sent a marker"))
    deployment.wait_totals(hook_failures=1, hook_runs=1)
    assert "hook for error cannot be started" in deployment.broker.log()
    wait_for(lambda: deployment.health()["status"] == "ok", "it goes on")


# --- giving up ---------------------------------------------------------------------------------

def test_reconnect_attempts_are_used_up(deploy, fragile_cluster, fragile_database, tmp_path):
    """The hook runs to its end, the broker exits with 1, the handlers keep their clients."""
    hook = Hook(tmp_path, "[ $1 != reconnect_failed ] || sleep 0.5")
    deployment = deploy(fragile_database.url, hook=hook.path, reconnect_attempts="3",
                        keep_alive="200ms").start()
    stream = deployment.stream()
    stop_postgres(fragile_cluster, fragile_database)
    deployment.broker.wait(1)
    events = hook.events()
    assert events[-1] == "reconnect_failed"
    _, reason, attempt, _ = hook.runs()[-1]
    assert "LISTEN" in reason and attempt == "3"
    assert events.count("reconnect_attempt") == 3 and events.count("reconnect_failed") == 1
    log = deployment.broker.log()
    assert log.count("the LISTEN connection is down") == 1 + 3 + 1, "it went on while the hook ran"
    last = log.splitlines()[-1]
    assert "error: gave up after 3 attempts" in last and reason[:100] in last

    assert stream.next_block().comments == ["heartbeat"]
    fragile_cluster.start()
    deployment.start_broker()
    assert stream.next_event().event == "refresh"
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1


def test_giving_up_without_a_hook(deploy, cluster):
    """The attempts from the start count, too."""
    deployment = deploy(cluster.url("nowhere"), reconnect_attempts="2")
    deployment.spawn_broker().wait(1)
    last = deployment.broker.log().splitlines()[-1]
    assert "gave up after 2 attempts" in last and '"nowhere" does not exist' in last
    assert not deployment.broker_socket.exists()


def test_a_hook_that_hangs_does_not_keep_the_broker(deploy, cluster, tmp_path):
    hook = Hook(tmp_path, 'echo "$1" >>$notes.begun; exec sleep 1000')
    deployment = deploy(cluster.url("nowhere"), reconnect_attempts="2", hook=hook.path,
                        hook_timeout="300ms")
    started = time.monotonic()
    deployment.spawn_broker().wait(1)
    assert time.monotonic() - started < 3
    assert (tmp_path / "notes.begun").read_text().splitlines()[-1] == "reconnect_failed"


def test_a_success_starts_the_count_anew(deploy, database, hook):
    deployment = deploy(database.url, reconnect_attempts="1", hook=hook.path)
    deployment.start_broker()
    for number in range(1, 4):
        database.terminate(database.listen_backends())
        deployment.wait_totals(reconnects=number, reconnect_attempts=number)
        assert hook.wait("reconnect_success", number)[2] == "1"
    assert hook.events()[1:] == ["disconnect", "reconnect_attempt", "reconnect_success"] * 3


# --- the queue ---------------------------------------------------------------------------------

class Sleeper:
    """A session that listens and stays in a transaction: Postgres keeps the queue for it."""

    def __init__(self, database):
        self._connection = database.connect()
        self._connection.cursor().execute("LISTEN sleeper")
        self._connection.cursor().execute("BEGIN")
        self._connection.cursor().execute("SELECT 1")

    def close(self):
        self._connection.close()


def fill_queue(database):
    """Some pages of 8 KiB."""
    database.execute("SELECT pg_notify('elsewhere', n || repeat('x', 7900))"
                     " FROM generate_series(1, 20) n")


def test_a_queue_that_fills(deploy, database, hook):
    """One warning, and the next one only after it was empty again."""
    deployment = deploy(database.url, hook=hook.path, queue_warn="0.000005", queue_poll="100ms")
    deployment.start_broker()
    for number in range(1, 3):
        deployment.wait_totals(queue_usage=0)
        sleeper = Sleeper(database)
        fill_queue(database)
        event, reason, _, usage = hook.wait("queue_warning", number)
        assert "queue" in reason and 0.000005 < float(usage) < 0.001
        heard = deployment.totals()["notifications"]
        wait_for(lambda: deployment.totals()["notifications"] > heard + 2, "it was asked again")
        totals = deployment.totals()
        assert totals["queue_warnings"] == number and totals["queue_usage"] > 0.000005
        assert re.fullmatch(TIME, totals["last_queue_warning_at"])
        assert deployment.health()["status"] == "ok"
        sleeper.close()
    assert hook.events() == ["connect", "queue_warning", "queue_warning"]
    assert "warning: Postgres' NOTIFY queue is" in deployment.broker.log()


def test_no_warning_when_it_is_not_wanted(deploy, database, hook):
    deployment = deploy(database.url, hook=hook.path, queue_warn="1", queue_poll="100ms")
    deployment.start_broker()
    sleeper = Sleeper(database)
    fill_queue(database)
    wait_for(lambda: deployment.totals()["queue_usage"] > 0, "it was asked")
    assert deployment.totals()["queue_warnings"] == 0
    sleeper.close()


def test_a_long_queue_poll_does_not_make_markers_rare(deploy, database):
    deployment = deploy(database.url, queue_poll="600s", canary_interval="100ms")
    deployment.start_broker()
    wait_for(lambda: deployment.totals()["notifications"] > 3, "markers every canary_interval")
