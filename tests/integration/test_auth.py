"""The rules that the shipped configurations offer for a topic: with real lighttpd and real Apache, no
spelling of a path comes past them, nor does another API."""

import base64
import contextlib
import hashlib
import re
import socket

import pytest

import apache
import program
import web
from deployment import Deployment, ending
from program import Program
from waiting import wait_for

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"anna:password").decode()}
READ = ["/topics/secret/events", "/api/events/stream?userId=1&channels=secret",
        "/api/events/history?channel=secret", "/healthz"]
SPELLINGS = ["/topics/SECRET/events", "/topics/Secret/events", "/topics/%73ecret/events",
             "/topics/%53ECRET/events", "/topics/secret/%65vents", "/%74opics/secret/events",
             "//topics/secret/events", "/topics//secret/events", "/topics/./SECRET/events",
             "/topics/x/../secret/events", "/topics/x/%2e%2e/SECRET/events", "/TOPICS/secret/events",
             "/topics/SECRET/events?x=/topics/open/events", "/API/events/history?channel=secret",
             "/api//events/history?channel=secret", "/x/../api/events/history?channel=secret"]
MOUNTED = ["/topics/topics/secret/events", "/metrics/topics/secret/events", "/topics/healthz",
           "/topics/api/events/history?channel=secret", "/topics/api/events/publish",
           "/topics/events", "/topics/events/publish", "/health/events/publish",
           "/topics/api/sse/publish", "/%74opics/api/events/publish"]


def with_rule(text, **replaced):
    """The file with its rule in force."""
    assert text.count("#rule# ") > 2
    text = text.replace("#rule# ", "")
    for old, new in replaced.values():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def start_lighttpd(deployment):
    users = deployment.path("users")
    users.write_text("anna:password\n")
    conf = deployment.path("sample.conf")
    conf.write_text(with_rule((program.ROOT / "lighttpd.conf").read_text(), modules=(
        'server.modules       = ("mod_setenv", "mod_fastcgi")',
        'server.modules = ("mod_auth", "mod_authn_file", "mod_setenv", "mod_fastcgi")\n'
        f'auth.backend = "plain"\nauth.backend.plain.userfile = "{users}"')))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        deployment.port = probe.getsockname()[1]
    env = {**deployment.environment(True), "PGSSE_BIND_PORT": str(deployment.port),
           "PGSSE_WEB_DIR": str(program.ROOT / "web"), "PGSSE_BIN_DIR": str(program.BUILD),
           "PGSSE_ERROR_LOG": str(deployment.path("errors.log")), "PGSSE_MAX_FDS": "1024",
           "PGSSE_HANDLER_LOG": str(deployment.path("handlers.log")), "PGSSE_MAX_CLIENTS": "400",
           "PGSSE_MAX_CONNECTIONS": "100"}
    server = Program("lighttpd", [program.tool("lighttpd"), "-D", "-f", conf],
                     deployment.path("lighttpd.log"), env=env)
    server.expected = {0, 1}
    deployment.programs.append(server)

    def answers():
        assert server.is_running(), server.log()
        with contextlib.suppress(OSError):
            return web.request(deployment.port, "GET", "/topics").status == 404
    wait_for(answers, "lighttpd answers")


def start_apache(deployment):
    users = deployment.path("users")
    users.write_text("anna:{SHA}" + base64.b64encode(
        hashlib.sha1(b"password").digest()).decode() + "\n")
    conf = deployment.path("sample.conf")
    conf.write_text(with_rule(apache.CONF.read_text(), users=("/etc/pgsse/users", str(users))))
    for path in (users, conf):
        path.chmod(0o644)
    deployment.apache = apache.Apache(
        deployment, conf=conf, more_modules=["authn_core", "authn_file", "auth_basic", "authz_user"])


@pytest.fixture(scope="module", params=[start_lighttpd, start_apache], ids=["lighttpd", "apache"])
def guarded(request, cluster):
    database = cluster.create_database()
    with ending(Deployment(database.url, **apache.settings())) as deployment:
        deployment.start_broker()
        request.param(deployment)
        yield deployment
    cluster.give_back(database)


def status_of(deployment, method, path, headers=None):
    """A stream does not end: only its status is looked at."""
    stream = deployment.keep(RawRequest(deployment.port, method, path, headers or {}))
    status = stream.status
    stream.close()
    return status


class RawRequest:
    """The path is sent as it is written."""

    def __init__(self, port, method, path, headers):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Length: 0"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join(lines + ["", ""]).encode())
        head = b""
        while b"\r\n" not in head:
            got = self.socket.recv(4096)
            assert got, head
            head += got
        self.status = int(re.match(rb"HTTP/1.1 (\d+)", head).group(1))

    def close(self):
        self.socket.close()


@pytest.mark.parametrize("path", READ)
def test_the_rule_is_for_every_api(guarded, path):
    assert status_of(guarded, "GET", path) == 401
    assert status_of(guarded, "GET", path, LOGIN) not in (401, 404)
    assert status_of(guarded, "GET", path, {"Authorization": "Basic bm86bm8="}) == 401


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_spelling_comes_past_it(guarded, method, path):
    """Refused by the rule, or no path at all."""
    assert status_of(guarded, method, path) in (301, 400, 401, 403, 404, 405)


@pytest.mark.parametrize("path", MOUNTED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_first_part_of_a_path_is_not_where_handlers_are_mounted(guarded, method, path):
    """The handlers would take it off, and answer what the rule has not looked at."""
    assert status_of(guarded, method, path) == 404


def test_without_case_is_what_matters(guarded):
    """The handlers take these for the topic: only the rule stands before it."""
    for path in SPELLINGS[:4]:
        assert status_of(guarded, "GET", path) == 401
        assert status_of(guarded, "GET", path, LOGIN) == 200


def test_other_topics_are_open(guarded):
    assert status_of(guarded, "GET", "/topics/open/events") == 200
    assert status_of(guarded, "GET", "/topics/secrets/events") == 200
