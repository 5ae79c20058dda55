"""What one test runs: a broker, handlers, a lighttpd before them, all in one directory of its own.

The handlers are started here and not by lighttpd (which `make run` is tested with), so that a test
has their exit status, their log and their pid; lighttpd knows only their sockets."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import tempfile

import fastcgi
import program
import web
import wire
from program import Program
from waiting import wait_for

# What makes tests quick; a test may say otherwise.
SETTINGS = {"reconnect_min": "20ms", "reconnect_max": "200ms", "canary_interval": "600s",
            "queue_poll": "600s"}

LIGHTTPD_CONF = """\
server.modules = ("mod_setenv", "mod_fastcgi")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{directory}"
server.errorlog = "{directory}/lighttpd-errors.log"
server.max-fds = 4096
server.max-connections = 2000
server.listen-backlog = 1024
server.max-keep-alive-requests = 50000
server.stream-response-body = 2
server.stream-request-body = 0
server.max-request-size = 2048
server.feature-flags = ("server.graceful-shutdown-timeout" => 5)
mimetype.assign = (".html" => "text/html", ".js" => "text/javascript", ".css" => "text/css")
$HTTP["host"] == "acme.test" {{ # a tenant for each virtual host
    setenv.set-environment = ("PGSSE_TENANT" => "acme")
}} else $HTTP["host"] == "other.test" {{
    setenv.set-environment = ("PGSSE_TENANT" => "other")
}} else $HTTP["host"] == "wrong.test" {{
    setenv.set-environment = ("PGSSE_TENANT" => "no tenant")
}}
$HTTP["url"] =~ "^/pages/" {{ # files, for tests with browsers
    index-file.names = ("index.html")
}} else $HTTP["request-method"] == "POST" {{
    fastcgi.server = ("/" => ({publish}))
}} else $HTTP["url"] =~ "^/api/events/(history|channels)(/|$)" {{
    fastcgi.server = ("/" => ({publish}))
}} else {{
    fastcgi.server = ("/" => ({stream}))
}}
"""
LIGHTTPD_ENTRY = ('("socket" => "{path}", "check-local" => "disable", "fix-root-scriptname" => "enable",'
                  ' "tcp-fin-propagate" => "enable", "disable-time" => 0)')


class Handler(Program):
    """A FastCGI handler and the listening socket that it was given as descriptor 0."""

    def __init__(self, name, binary, path, log, env):
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(1024)
            super().__init__(name, [binary], log, env=env, stdin=listener)
        self.socket_path = path

    def connect(self):
        """As the web server does."""
        return fastcgi.FastCgi(self.socket_path)


class Deployment:
    def __init__(self, database_url, **settings):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pgsse-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.database_url = database_url
        self.settings = {**SETTINGS, **settings}
        self.programs = []
        self._open = []  # clients to close at the end
        self.broker = None
        self.streams = []
        self.publisher = None
        self.lighttpd = None
        self.port = None

    # --- starting ----------------------------------------------------------------------------

    def path(self, name):
        return self.directory / name

    @property
    def broker_socket(self):
        return self.path("broker.sock")

    @property
    def status_socket(self):
        return self.path("status.sock")

    def environment(self, with_database, **settings):
        env = {f"PGSSE_{key.upper()}": value
               for key, value in {"socket_dir": self.directory, **self.settings, **settings}.items()}
        if with_database and self.database_url is not None:
            env["DATABASE_URL"] = self.database_url
        return program.environment(**env)

    def _started(self, new):
        self.programs.append(new)
        return new

    def spawn_broker(self, **settings):
        """Starts it and does not wait."""
        log = self.path(f"broker-{len(self.programs)}.log")
        self.broker = self._started(Program("pgsse-broker", [program.BROKER], log,
                                            env=self.environment(True, **settings)))
        return self.broker

    def start_broker(self, **settings):
        """Starts it and waits until it hears Postgres and counts from a marker of its own."""
        self.spawn_broker(**settings)
        self.wait_ready()
        return self.broker

    def wait_ready(self, seconds=10):
        wait_for(self.is_ready, lambda: f"the broker is ready\n{self.broker.log()}", seconds)

    def is_ready(self):
        assert self.broker.is_running(), self.broker.log()
        with contextlib.suppress(OSError):
            status, health = self.ask_status_socket()
            return status == 200 and health["totals"]["canary_ms"] is not None
        return False

    def start_stream(self):
        number = len(self.streams)
        new = Handler("pgsse-stream", program.STREAM, self.path(f"stream-{number}.sock"),
                      self.path(f"stream-{len(self.programs)}.log"), self.environment(False))
        self.streams.append(self._started(new))
        return new

    def restart_stream(self, number):
        """A new process on the same path."""
        old = self.streams[number]
        assert not old.is_running()
        new = Handler("pgsse-stream", program.STREAM, old.socket_path,
                      self.path(f"stream-{len(self.programs)}.log"), self.environment(False))
        self.streams[number] = self._started(new)
        return new

    def start_publisher(self):
        self.publisher = self._started(Handler(
            "pgsse-publish", program.PUBLISH, self.path("publish.sock"),
            self.path(f"publish-{len(self.programs)}.log"), self.environment(True)))
        return self.publisher

    def start_publisher_and_find(self, database):
        """Starts it and returns the pids of the server's processes that it talks to."""
        before = set(database.backends())
        self.start_publisher()
        return wait_for(lambda: set(database.backends()) - before, "it has connected to Postgres")

    def start_lighttpd(self, handlers=1):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        entries = [LIGHTTPD_ENTRY.format(path=self.path(f"stream-{number}.sock"))
                   for number in range(handlers)]
        conf = self.path("lighttpd.conf")
        conf.write_text(LIGHTTPD_CONF.format(
            port=self.port, directory=self.directory, stream=", ".join(entries),
            publish=LIGHTTPD_ENTRY.format(path=self.path("publish.sock"))))
        self.lighttpd = self._started(Program(
            "lighttpd", [program.tool("lighttpd"), "-D", "-f", conf], self.path("lighttpd.log")))
        self.lighttpd.expected = {0, 1}  # SIGTERM with connections still in its hands: 1
        wait_for(self._lighttpd_answers, lambda: f"lighttpd answers\n{self.lighttpd.log()}")
        return self.lighttpd

    def _lighttpd_answers(self):
        assert self.lighttpd.is_running(), self.lighttpd.log()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def start(self, handlers=1, publisher=True):
        """Everything, ready for requests."""
        self.spawn_broker()
        for _ in range(handlers):
            self.start_stream()
        if publisher:
            self.start_publisher()
        self.start_lighttpd(handlers)
        self.wait_ready()
        self.wait_served(handlers)
        return self

    def wait_served(self, handlers=1):
        """Until each stream handler has found the broker: its HEAD is answered with a position."""
        for handler in self.streams[:handlers]:
            connection = self.keep(handler.connect())
            connection.ask("HEAD", "/topics/ready/events").answer()
            assert connection.status == 200, connection.headers

    # --- using -------------------------------------------------------------------------------

    def keep(self, client):
        """It is closed at the end of the test at the latest."""
        self._open.append(client)
        return client

    def stream(self, topic="alpha", headers=None, greeted=True, query="", **how):
        """A stream through lighttpd, its greeting already read unless greeted=False."""
        path = f"/topics/{topic}/events" + (f"?{query}" if query else "")
        stream = self.keep(web.HttpStream(self.port, path, headers, **how))
        assert stream.status == 200, stream.status
        if greeted:
            stream.greeting = stream.next_block()
            assert f"listening {topic}" in stream.greeting.comments, stream.greeting
        return stream

    def request(self, method, path, body=None, headers=None, **how):
        return web.request(self.port, method, path, body, headers, **how)

    def post(self, topic, body):
        return self.request("POST", f"/topics/{topic}/events", body)

    def publish(self, topic, data):
        """Answered with 200."""
        answer = self.post(topic, json.dumps({"data": data}))
        assert answer.status == 200, answer
        return answer

    def handler_by_hand(self, **how):
        return self.keep(wire.Handler(self.broker_socket, **how))

    def ask_status_socket(self, query=""):
        """(HTTP status, health document) from the broker itself."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.status_socket))
            connection.sendall(f"GET /healthz{query} HTTP/1.0\r\n\r\n".encode())
            text = b""
            while True:
                got = connection.recv(1 << 20)
                if not got:
                    break
                text += got
        head, _, body = text.partition(b"\r\n\r\n")
        if not head:
            raise ConnectionError("no answer")
        return int(head.split()[1]), json.loads(body)

    def health(self, query=""):
        return self.ask_status_socket(query)[1]

    def totals(self):
        return self.health("?limit=0")["totals"]

    def topic(self, name):
        """What health says about one topic; None if it does not know it."""
        found = [topic for topic in self.health()["topics"] if topic["topic"] == name]
        assert len(found) <= 1
        return found[0] if found else None

    def wait_totals(self, seconds=5, **wanted):
        """Until these totals are as wanted."""
        def is_so():
            totals = self.totals()
            return totals if all(totals[key] == value for key, value in wanted.items()) else None
        return wait_for(is_so, lambda: f"totals {wanted}: {self.totals()}", seconds)

    # --- ending ------------------------------------------------------------------------------

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}"
                         for path in sorted(self.directory.glob("*.log")))

    def close(self):
        """Stops what still runs, in order; returns what is to complain about."""
        for client in self._open:
            client.close()
        handlers = [one for one in self.programs if isinstance(one, Handler)]
        others = [one for one in self.programs if not isinstance(one, Handler)]
        for one in handlers:
            one.send_signal(signal.SIGTERM)
        complaints = [text for one in handlers + others[::-1] for text in one.end()]
        complaints += [f"{path.name} is left" for path in (self.broker_socket, self.status_socket)
                       if path.exists() and self._broker_should_have_cleared()]
        return complaints

    def _broker_should_have_cleared(self):
        """Not when the last one was killed."""
        return self.broker is not None and self.broker.process.returncode == 0

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def ending(deployment):
    """For fixtures: it is closed behind the block, its logs are shown, and what it has to complain
    about fails the test."""
    try:
        yield deployment
    finally:
        complaints = deployment.close()
        print(deployment.logs())  # pytest shows it when something failed
        deployment.remove()
    assert not complaints, complaints


def nobody():
    """(uid, gid) of a user who owns nothing, for tests that run as root."""
    return (65534, 65534) if os.geteuid() == 0 else None
