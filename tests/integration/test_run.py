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
import threading
import time
import urllib.error
import urllib.request

import psycopg2
import pytest

import run_instance
from run_instance import ROOT, free_port, new_run, processes, start, wait_for


class Kept:
    """What tests hand on, because it takes seconds to make: a RUN with its cluster, and an instance
    that runs on it. A test that fails hands on nothing."""

    def __init__(self):
        self.directory = None
        self.instance = None

    def run(self):
        """Its path is a nasty one."""
        if self.directory is None:
            self.directory = new_run()
        return self.directory / "it's a [run] \"dir\""

    def running(self):
        if self.instance is None or not self._is_well():
            run_instance.kill_processes(self.run())
            self.instance = None
            new = start(self.run())
            new.await_ready()
            self.instance = new
        return self.instance

    def _is_well(self):
        return self.instance.process.poll() is None and (self.run() / "env").exists()

    def discard(self):
        if self.directory is not None:
            run_instance.kill_processes(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = self.instance = None


@pytest.fixture(scope="module")
def kept():
    new = Kept()
    yield new
    try:
        if new.instance is not None:
            new.instance.stop()
    finally:
        new.discard()


@pytest.fixture(autouse=True)
def no_failure_is_handed_on(kept, request):
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before:
        kept.discard()


@pytest.fixture
def run(kept):
    """A RUN on which nothing runs."""
    if kept.instance is not None:
        kept.instance.stop()
        kept.instance = None
    return kept.run()


@pytest.fixture
def instance(kept):
    return kept.running()


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


def test_killed_itself_its_children_die_and_a_second_start_works(instance):
    run = instance.run
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


def test_a_start_believes_no_stale_pid_and_no_stale_socket(instance):
    """Everything was killed at once; by now all pids belong to somebody else."""
    run = instance.run
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


# --- the tests themselves --------------------------------------------------------------------------

def test_one_that_does_not_stop_is_cleared_away(kept):
    """What a test leaves behind, whatever its state, does not fail the next one."""
    stuck = kept.running()
    pid = stuck.pid("run")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="not stopped within 0.5 s: .*tools/run"):
        os.killpg(stuck.process.pid, signal.SIGINT)
        stuck.end(0.5)
    assert not processes(str(stuck.run))
    again = kept.running()
    assert again is not stuck and goes_through(again.url)


def test_stopped_though_the_tests_run_in_the_background(kept):
    """As a script's background job, which has SIGINT ignored: so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        other = start(new_run() / "run", DATABASE_URL=kept.running().env()["DATABASE_URL"])
        other.await_ready()
        status, _ = other.stop(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 0
    assert_nothing_left(other)
    shutil.rmtree(other.run.parent)


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


# --- secrets -----------------------------------------------------------------------------------------

class Watch(threading.Thread):
    """Looks at all command lines as fast as it can, as any user may, for a word."""

    def __init__(self, word):
        super().__init__(daemon=True)
        self.word = word.encode()
        self.seen = set()
        self.is_over = False
        self.start()

    def run(self):
        while not self.is_over:
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        command = pathlib.Path(entry.path, "cmdline").read_bytes()
                        if self.word in command:
                            self.seen.add(command)

    def end(self):
        self.is_over = True
        self.join()
        return self.seen


def test_a_password_is_in_no_command_line_and_no_log(instance):
    directory = new_run()
    watch = Watch("hunter2")
    other = start(directory / "run", DATABASE_URL=instance.env()["DATABASE_URL"] + "&password=hunter2",
                  PGSSE_LOG_LEVEL="debug")
    try:
        other.await_ready()
        assert goes_through(other.url)
        os.kill(other.pid("broker"), signal.SIGKILL)
        wait_for(lambda: goes_through(other.url), 10, "events flow again")
        logs = {path.name: path.read_text() for path in other.run.glob("*.log")}
        assert "hunter2" in other.env()["DATABASE_URL"]
    finally:
        other.stop()
        shutil.rmtree(directory)
    assert not watch.end()
    assert "broker.log" in logs and not [name for name, text in logs.items() if "hunter2" in text]


# --- descriptors -------------------------------------------------------------------------------------

EVENT_SOURCE = {"Accept": "text/event-stream"}


def open_until_full(url, most):
    """Streams, until one is refused: they, and the refusal's response."""
    streams = []
    for _ in range(most):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        connection.request("GET", "/topics/many/events")
        response = connection.getresponse()
        if response.status != 200:
            return streams, response
        streams.append((connection, response))
    raise AssertionError(f"{most} streams, and none was refused")


def test_streams_are_refused_before_descriptors_run_out(kept):
    """With 256 of them lighttpd would spin and answer nobody; so it does not come to that."""
    directory = new_run()
    other = start(directory / "run", DATABASE_URL=kept.running().env()["DATABASE_URL"],
                  descriptors=256)
    try:
        other.read_until("ulimit -Hn is 256: 90 streams at a time, at most")
        other.await_ready()
        streams, refusal = open_until_full(other.url, 120)
        assert 45 <= len(streams) <= 90
        assert refusal.status == 503 and refusal.headers["Retry-After"]
        assert b"too many streams" in refusal.read()
        request = urllib.request.Request(f"{other.url}/topics/many/events", headers=EVENT_SOURCE)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
            assert re.fullmatch(rb"retry: \d+\n: too many [^\n]*\nevent: close\ndata: {}\n\n",
                                answer.read())
        before = cpu_seconds(other.pid("lighttpd"))
        for _ in range(20):
            with urllib.request.urlopen(f"{other.url}/healthz", timeout=2) as answer:
                assert answer.status == 200
            assert publish(other.url, "other") == 200
        time.sleep(1)  # nothing is to happen
        assert cpu_seconds(other.pid("lighttpd")) - before < 0.5
        streams.pop()[0].close()
        wait_for(lambda: goes_through(other.url), 5, "there is room again")
    finally:
        other.stop()
        shutil.rmtree(directory)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


@pytest.mark.parametrize("url", ["hunter2", "postgresql://u:hunter2/x@h/d", "password='hunter2"])
def test_a_database_url_that_is_none(url):
    with refused(r"pgsse: cannot use the database of DATABASE_URL: (?!.*hunter2).*database_url: .*",
                 status=78, DATABASE_URL=url):
        pass


def test_too_few_descriptors():
    with refused(r"pgsse: at least 128 descriptors are needed, ulimit -Hn is 100", descriptors=100):
        pass


def test_a_run_that_everybody_may_write_to():
    directory = new_run()
    (directory / "run").mkdir()
    (directory / "run").chmod(0o777)
    with refused(r"pgsse: everybody may write to .*/run: choose another RUN", run=directory / "run"):
        pass
    (directory / "run").chmod(0o755)
    directory.chmod(0o777)
    with refused(r"pgsse: everybody may write to .*: choose another RUN", run=directory / "run"):
        pass
    shutil.rmtree(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("theirs", [".", "run"])
def test_a_run_of_another_user(theirs):
    """There he could have put a link in the place of a log, to be written to as root."""
    directory = new_run()
    run, victim = directory / "run", directory / "victim"
    victim.write_text("untouched")
    run.mkdir()
    (run / "broker.log").symlink_to(victim)
    os.chown(directory / theirs, 65534, 65534)
    with refused(r"pgsse: .*/run (belongs to nobody|lies in .*, which belongs to nobody): .*", run=run):
        pass
    assert victim.read_text() == "untouched"
    shutil.rmtree(directory)


def test_a_cluster_whose_version_is_none(run):
    """The file belongs to the server's user, and what is found with it runs as ourselves."""
    version = run / "postgres" / "data" / "PG_VERSION"
    instance = start(run)
    instance.await_ready()
    instance.stop()
    before = version.read_text()
    version.write_text("../../../tmp/evil\n")
    try:
        status, output = start(run).end()
        assert status == 1 and re.fullmatch(r"pgsse: .*/PG_VERSION names no version", output)
    finally:
        version.write_text(before)


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
