"""A private Postgres cluster, fast and forgetful, and the databases in it."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import psycopg2

from program import Program
from waiting import wait_for

SERVER_USER = "postgres" if os.geteuid() == 0 else None
SUPERUSER = "postgres"

# Nothing here has to survive anything.
SETTINGS = {
    "listen_addresses": "", "fsync": "off", "full_page_writes": "off", "autovacuum": "off",
    "synchronous_commit": "off", "max_wal_size": "256MB", "shared_buffers": "32MB",
    "max_connections": "300", "log_min_messages": "warning", "unix_socket_permissions": "0777",
    "wal_level": "minimal", "max_wal_senders": "0", "jit": "off",
}


def _bin_dir():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"),
                   key=lambda path: int(path.parts[-3]))
    assert found, "no Postgres server is installed"
    return found[-1].parent


class Cluster:
    def __init__(self, authentication="", **settings):
        """authentication: lines for the head of pg_hba.conf, where all are trusted otherwise."""
        self._settings = {**SETTINGS, **settings}
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pgsse-db-", dir="/tmp"))
        self._names = itertools.count(1)
        self._given_back = []
        self.server = None
        data = self.directory / "data"
        if SERVER_USER:
            shutil.chown(self.directory, SERVER_USER)
        self.directory.chmod(0o755)
        subprocess.run(self._as_server([_bin_dir() / "initdb", "-D", data, "-A", "trust", "-N",
                                        "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]),
                       check=True, capture_output=True, cwd="/")
        rules = data / "pg_hba.conf"
        rules.write_text(authentication + "\n" + rules.read_text())
        self.start()

    @staticmethod
    def _as_server(argv):
        prefix = ["setpriv", "--reuid", SERVER_USER, "--regid", SERVER_USER, "--init-groups",
                  "--"] if SERVER_USER else []
        return prefix + [str(word) for word in argv]

    def start(self):
        argv = [_bin_dir() / "postgres", "-D", self.directory / "data", "-k", self.directory]
        for name, value in self._settings.items():
            argv += ["-c", f"{name}={value}"]
        self.server = Program("postgres", argv, self.directory / "log", user=SERVER_USER,
                              death_signal=signal.SIGQUIT, cwd="/")
        wait_for(self._answers, lambda: f"Postgres answers\n{self.server.log()}", 20)

    def _answers(self):
        assert self.server.is_running(), self.server.log()
        with contextlib.suppress(psycopg2.OperationalError):
            self.connect("postgres").close()
            return True
        return False

    def start_in_recovery(self):
        """As a standby whose primary is gone; for a cluster with wal_level replica."""
        self._standby_sign.touch()
        self.start()

    @property
    def _standby_sign(self):
        return self.directory / "data" / "standby.signal"

    def is_in_recovery(self):
        return self._standby_sign.exists()

    def promote(self):
        connection = self.connect("postgres")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_promote()")
            assert cursor.fetchone() == (True,)
        connection.close()

    def stop(self, number=signal.SIGINT):
        """Everybody is disconnected at once; with SIGQUIT without a word."""
        self.server.stop(number, 20)

    @property
    def socket_path(self):
        return self.directory / ".s.PGSQL.5432"

    def pids(self):
        """The postmaster and all its children."""
        children = pathlib.Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children")
        return [self.server.pid] + [int(pid) for pid in children.read_text().split()]

    def pause(self):
        """The whole server freezes: sockets stay open, nothing answers."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def destroy(self):
        if self.server.is_running():
            self.resume()
            self.server.stop(signal.SIGQUIT, 20)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, name):
        return f"host={self.directory} dbname={name} user={SUPERUSER}"

    def connect(self, name):
        connection = psycopg2.connect(self.url(name), connect_timeout=5)
        connection.autocommit = True
        return connection

    def create_database(self, options=""):
        """With options, a new one. Without, perhaps one that was given back and has nobody connected
        any more: it holds nothing, so it is as good as new, and 0.2 s cheaper."""
        connection = self.connect("postgres")
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_stat_activity WHERE datname IS NOT NULL")
            busy = {name for name, in cursor.fetchall()}
            idle = [name for name in self._given_back if name not in busy]
            if idle and not options:
                name = idle[0]
                self._given_back.remove(name)
            else:
                name = f"test_{next(self._names)}"
                cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        connection.close()
        return Database(self, name, is_plain=not options)

    def give_back(self, database):
        database.close()
        if database.is_plain:
            self._given_back.append(database.name)


class Database:
    """One database, and what a test does in it. NOTIFY does not leave it."""

    def __init__(self, cluster, name, is_plain):
        self.cluster = cluster
        self.name = name
        self.is_plain = is_plain
        self.url = cluster.url(name)
        self._connection = None

    def connect(self):
        """A connection of its own; autocommit."""
        return self.cluster.connect(self.name)

    def execute(self, sql, arguments=None):
        """Rows of one statement, on a connection that is kept, or made again when it was lost."""
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall() if cursor.description else []
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._connection.close()
            raise

    def notify(self, channel, payload):
        self.execute("SELECT pg_notify(%s, %s)", (channel, payload))

    def publish(self, topic, data, shard=0, **envelope):
        """As a shell script would: the envelope on a shard of its choice."""
        envelope = {"topic": topic, "data": data, **envelope}
        self.notify(f"topic_broadcast_{shard}", json.dumps(envelope, ensure_ascii=False))

    def backends(self):
        """{pid: last query} of everybody else who is connected to this database."""
        return dict(self.execute(
            "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"))

    def listen_backends(self):
        return [pid for pid, query in self.backends().items() if "LISTEN" in query.upper()
                or "listening_channels" in query]

    def query_backends(self):
        """Those that have sent markers."""
        return [pid for pid, query in self.backends().items() if "pg_notify" in query]

    def terminate(self, pids):
        for pid in pids:
            self.execute("SELECT pg_terminate_backend(%s)", (pid,))

    def close(self):
        if self._connection is not None:
            self._connection.close()


class Listener:
    """A bare LISTEN client: what Postgres really delivers."""

    def __init__(self, database, channels):
        self._connection = database.connect()
        with self._connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN {channel}")

    def heard(self, count):
        """[(channel, payload)] of everything so far, when there are that many."""
        def all_heard():
            self._connection.poll()
            return len(self._connection.notifies) >= count
        wait_for(all_heard, lambda: f"{count} notifications: {self._connection.notifies}")
        return [(notify.channel, notify.payload) for notify in self._connection.notifies]

    def close(self):
        self._connection.close()
