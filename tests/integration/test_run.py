"""`make run`: it comes up, says how to use it, watches over its programs, and leaves nothing behind."""

import contextlib
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request

import psycopg2
import pytest

import run_instance
from run_instance import ROOT, free_port, new_run, processes, start, wait_for


@pytest.fixture(scope="module")
def run():
    """One RUN for the whole module: its cluster is made once, its path is a nasty one."""
    directory = new_run()
    yield directory / "it's a [run] \"dir\""
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def instance(run, request):
    """A running instance on RUN: kept from test to test while it is well, else started again."""
    module = request.module
    kept = getattr(module, "kept_instance", None)
    if kept is None or kept.process.poll() is not None or not (run / "env").exists():
        if kept is not None:
            kept.stop(signal.SIGKILL)
        module.kept_instance = kept = start(run)
        kept.await_ready()
    return kept


@pytest.fixture(scope="module", autouse=True)
def stop_kept_instance(request):
    yield
    kept = getattr(request.module, "kept_instance", None)
    if kept is not None:
        kept.stop()


class Stream:
    """A stream of a topic, read line by line."""

    def __init__(self, url, topic):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        self.connection.request("GET", f"/topics/{topic}/events",
                                headers={"Accept": "text/event-stream"})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        self.read_until(": listening")

    def read_until(self, word):
        """The lines up to the one that contains word; [] at the stream's end."""
        lines = []
        for raw in self.response:
            lines.append(raw.decode().rstrip("\n"))
            if word in lines[-1]:
                return lines
        return []

    def read_rest(self):
        return self.response.read().decode()

    def close(self):
        self.connection.close()


def publish(url, topic, body='{"data":{"n":1}}'):
    request = urllib.request.Request(f"{url}/topics/{topic}/events", body.encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def goes_through(url, topic="through"):
    """Does an event go the whole way?"""
    with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
        stream = Stream(url, topic)
        try:
            return publish(url, topic) == 200 and bool(stream.read_until('"n":1'))
        finally:
            stream.close()
    return False


def assert_nothing_left(instance):
    wait_for(lambda: not processes(str(instance.run)), 2, "no process of it is left")
    assert instance.sockets() == []
    assert not (instance.run / "env").exists()
    assert not (instance.run / "pids").exists()


# --- up and down -------------------------------------------------------------------------------

def test_make_run_is_ready_and_its_three_lines_work(run):
    instance = start(run, make=True)
    try:
        assert instance.await_ready() == f"pgsse ready: http://127.0.0.1:{instance.port}/"
        assert (run / "env").exists()
        subscribe = instance.read_until("curl -N").strip()
        post = instance.read_until("-d").strip()
        notify = instance.read_until("psql").strip()
        reader = subprocess.Popen(subscribe, shell=True, stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
        seen = []
        try:
            for line in reader.stdout:
                seen.append(line.strip())
                if line.startswith(": listening"):
                    subprocess.run(post, shell=True, check=True, capture_output=True)
                    subprocess.run(notify, shell=True, check=True, capture_output=True)
                if line.startswith("data:") and '"n":2' in line:
                    break
        finally:
            os.killpg(reader.pid, signal.SIGKILL)
            reader.wait()
            reader.stdout.close()
        assert 'data: {"n":1}' in seen and 'data: {"n":2}' in seen
    finally:
        instance.stop()
    assert_nothing_left(instance)


def test_the_callers_keys_reach_the_programs_and_libpqs_do_not(run):
    """The private Postgres is found whatever PG* says; PGSSE_* begin the same and are kept."""
    instance = start(run, PGSSE_KEEP_ALIVE="200ms", PGSSE_RETRY="77ms", PGHOST="/nowhere",
                     PGOPTIONS="--nonsense")
    try:
        instance.await_ready()
        assert goes_through(instance.url)
        stream = Stream(instance.url, "quiet")
        assert stream.read_until(": heartbeat")
        stream.close()
    finally:
        instance.stop()
    assert_nothing_left(instance)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order(instance, sig):
    stream = Stream(instance.url, "goodbye")
    os.kill(instance.pid("run"), signal.SIGTERM) if sig == signal.SIGTERM else \
        os.killpg(instance.process.pid, sig)
    rest = stream.read_rest()
    stream.close()
    status, output = instance.end()
    assert status == 0, output
    assert "event: close" in rest
    assert "killing it" not in output
    assert_nothing_left(instance)


def test_the_env_file_is_private_and_quoted(instance):
    path = instance.run / "env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    env = instance.env()
    sockets = str(instance.run / "sockets")
    assert env["PGSSE_URL"] == instance.url
    assert env["PGSSE_SOCKET_DIR"] == sockets
    assert env["PGSSE_BROKER_SOCKET"] == f"{sockets}/broker.sock"
    assert env["PGSSE_STATUS_SOCKET"] == f"{sockets}/status.sock"
    answer = subprocess.run(["psql", "-wXqAt", env["DATABASE_URL"], "-c", "SHOW server_encoding"],
                            check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert answer.stdout == "UTF8\n"
    assert {"broker.log", "lighttpd.log", "handlers.log", "postgres.log"} <= set(
        os.listdir(instance.run))


def test_it_listens_on_loopback_only_and_sockets_are_private(instance):
    for directory in ("sockets", "postgres", "pids"):
        assert stat.S_IMODE((instance.run / directory).stat().st_mode) == 0o700
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening.add((fields[1].split(":")[0], int(fields[1].split(":")[1], 16), fields[9]))
    pids = processes(str(instance.run))
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    inodes.update(re.findall(r"socket:\[(\d+)\]",
                                             os.readlink(f"/proc/{pid}/fd/{descriptor}")))
    ours = {(address, port) for address, port, inode in listening if inode in inodes}
    assert ours == {("0100007F", instance.port)}


def test_the_page_is_served_with_a_policy(instance):
    for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")):
        with urllib.request.urlopen(instance.url + path, timeout=10) as response:
            assert response.headers["Content-Type"].startswith(kind)
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]


# --- what dies is started again -----------------------------------------------------------------

def test_a_killed_broker_is_back_within_a_second(instance):
    before = instance.pid("broker")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: instance.pid("broker") != before, 1, "another broker")
    wait_for(lambda: goes_through(instance.url), 5, "events flow again")
    instance.read_until("broker was killed by SIGKILL")


def test_killed_handlers_are_replaced(instance):
    old = instance.handler_pids("stream") + instance.handler_pids("publish")
    assert len(old) == 3
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: goes_through(instance.url), 8, "events flow again")


def test_a_killed_lighttpd_takes_its_handlers_along_and_comes_back(instance):
    before, handlers = instance.pid("lighttpd"), instance.handler_pids("stream")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: instance.pid("lighttpd") != before, 2, "another lighttpd")
    wait_for(lambda: goes_through(instance.url), 5, "events flow again")
    assert not set(handlers) & set(instance.handler_pids("stream"))
    assert len(instance.handler_pids("stream")) == 2


def test_a_killed_postgres_comes_back(instance):
    before = instance.pid("postgres")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: instance.pid("postgres") != before, 5, "another Postgres")
    wait_for(lambda: goes_through(instance.url), 15, "events flow again")


def test_killed_itself_its_children_die_and_a_second_start_works(instance, run):
    os.kill(instance.pid("run"), signal.SIGKILL)
    instance.end()
    # Not a moment's pause: the second start has to cope with what is still dying.
    second = start(run, port=instance.port)
    try:
        second.await_ready()
        assert goes_through(second.url)
        assert len(second.handler_pids("stream")) == 2
        os.kill(second.pid("run"), signal.SIGKILL)
        second.end()
        wait_for(lambda: not processes(str(run)), 5, "all children died")
    finally:
        second.stop(signal.SIGKILL)


def test_a_start_believes_no_stale_pid_and_no_stale_socket(instance, run):
    """Everything was killed at once; by now all pids belong to somebody else."""
    names = ("lighttpd", "broker", "postgres", "run")
    pids = [instance.pid(name) for name in names]
    os.kill(pids[-1], signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    instance.end()
    wait_for(lambda: not processes(str(run)), 5, "all children died")
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        for name in ("run", "lighttpd", "broker", "postgres"):
            path = run / "pids" / name
            path.write_text(path.read_text().replace(path.read_text().split()[0], str(bystander.pid), 1))
        pidfile = run / "postgres" / "data" / "postmaster.pid"
        lines = pidfile.read_text().splitlines(keepends=True)
        pidfile.write_text("".join([f"{bystander.pid}\n"] + lines[1:]))
        assert (run / "sockets" / "broker.sock").is_socket()
        second = start(run)
        try:
            second.await_ready()
            assert goes_through(second.url)
        finally:
            second.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# --- several instances ---------------------------------------------------------------------------

def test_a_second_start_on_the_same_run_leaves_the_first_alone(instance):
    status, output = start(instance.run).end()
    assert status == 1
    assert re.fullmatch(r"pgsse: an instance runs on .* already \(pid \d+\)", output)
    assert goes_through(instance.url)


def test_two_instances_on_one_postgres(instance):
    directory = new_run()
    other = start(directory / "run", DATABASE_URL=instance.env()["DATABASE_URL"])
    try:
        other.await_ready()
        here, there = Stream(instance.url, "both"), Stream(other.url, "both")
        assert publish(other.url, "both", '{"data":"hello"}') == 200
        assert here.read_until('data: "hello"') and there.read_until('data: "hello"')
        here.close()
        there.close()
        assert not (other.run / "postgres").exists()
    finally:
        other.stop()
        assert_nothing_left(other)
        shutil.rmtree(directory)
    assert goes_through(instance.url)


# --- what cannot work says so in one line ----------------------------------------------------------

@contextlib.contextmanager
def refused(pattern, status=1, **env):
    """A start that must fail with one line that matches, and leave no process and no directory."""
    directory = new_run()
    try:
        instance = start(env.pop("run", directory / "run"), **env)
        actual, output = instance.end()
        yield instance
        assert re.fullmatch(pattern, output), output
        assert actual == status
        assert not processes(str(instance.run))
        assert instance.sockets() == []
        assert not (instance.run / "postgres").exists()
    finally:
        shutil.rmtree(directory)


def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with refused(r"pgsse: port \d+ is in use .*", port=taken.getsockname()[1]) as instance:
            assert not instance.run.exists()


def test_a_port_that_is_none():
    with refused(r"pgsse: PORT is no port: http", PORT="http"):
        pass


def test_a_missing_program(tmp_path):
    for name in os.listdir(run_instance.BIN):
        if name.startswith("pgsse-") and name != "pgsse-stream.fcgi":
            (tmp_path / name).symlink_to(pathlib.Path(run_instance.BIN).resolve() / name)
    with refused(r"pgsse: missing: .*/pgsse-stream\.fcgi \(make builds it\)", BIN=tmp_path):
        pass


def test_a_run_so_deep_that_a_socket_path_is_too_long():
    directory = new_run()
    try:
        deep = directory / ("d" * 90)
        with refused(r"pgsse: RUN is too deep: .* has \d+ bytes, and a socket's path ends at 107",
                     run=deep) as instance:
            assert not instance.run.exists()
    finally:
        shutil.rmtree(directory)


def test_a_database_that_cannot_be_reached():
    with refused(r"pgsse: cannot use the database of DATABASE_URL: .*",
                 DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none"):
        pass


def test_a_database_of_another_encoding_is_not_retried(instance):
    url = instance.env()["DATABASE_URL"]
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        began = time.monotonic()
        with refused(r"(?s)pgsse: the broker says that no restart can help: [^\n]*LATIN1[^\n]*",
                     status=78, DATABASE_URL=url.replace("/pgsse?", "/latin?")):
            assert time.monotonic() - began < 10
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE latin WITH (FORCE)")
        connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user the server cannot be")
def test_a_run_that_the_servers_user_cannot_enter(tmp_path):
    """pytest's directories are closed to other users. The cluster goes to /tmp, and stays there."""
    first = start(tmp_path / "run")
    said = first.read_until("cannot use")
    where = pathlib.Path(re.search(r"/tmp/pgsse-postgres\.\w+", said).group())
    try:
        first.await_ready()
        psycopg2.connect(first.env()["DATABASE_URL"]).close()
        first.stop()
        assert_nothing_left(first)
        second = start(tmp_path / "run")
        assert second.read_until("the database is in").endswith(str(where))
        second.await_ready()
        second.stop()
        assert list(where.glob(".s.*")) == []
    finally:
        shutil.rmtree(where)


# --- the reference configuration ---------------------------------------------------------------------

@pytest.mark.parametrize("name", ["stream", "publish"])
def test_every_key_of_a_handler_reaches_it(name):
    """bin-copy-environment in lighttpd.conf names each key of --help; the stream handler's none of the database."""
    text = (ROOT / "lighttpd.conf").read_text()
    block = next(part for part in text.split("fastcgi.server")
                 if f"/pgsse-{name}.fcgi" in part and "bin-path" in part)
    block = block.split("} else {")[0]
    usage = subprocess.run([f"{run_instance.BIN}/pgsse-{name}.fcgi", "--help"], check=True,
                           capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    keys = re.findall(r"^  ([a-z_]+) ", usage, re.MULTILINE)
    assert keys
    for key in keys:
        variable = "DATABASE_URL" if key == "database_url" else f"PGSSE_{key.upper()}"
        assert f'"{variable}"' in block, variable
    assert name != "stream" or ("DATABASE" not in block and "PGPASS" not in block)
