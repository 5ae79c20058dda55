"""Where settings come from, what is said about wrong ones, and what is never printed."""

import pathlib
import re
import subprocess

import pytest

from program import BROKER, PUBLISH, STREAM, Program, environment, run

PROGRAMS = [BROKER, STREAM, PUBLISH]
ALL = pytest.mark.parametrize("binary", PROGRAMS, ids=lambda path: path.name)
CONFIG_ERROR = 78  # EX_CONFIG: no restart can help


def print_config(binary, *arguments, **env):
    status, out, err = run([binary, "--print-config", *arguments], environment(**env))
    assert status == 0, err
    return dict(re.fullmatch(r"(\w+) =(?: (.*))?", line).groups() for line in out.splitlines())


def assert_refused(binary, *arguments, says, **env):
    """One line on standard error, status 78."""
    status, out, err = run([binary, *arguments], environment(**env))
    assert status == CONFIG_ERROR, (status, err)
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    for word in says:
        assert word in lines[0], err
    return lines[0]


@ALL
def test_version(binary):
    status, out, err = run([binary, "--version"])
    assert status == 0 and err == ""
    assert re.fullmatch(r"pgsse-\w+ \d+\.\d+\.\d+\S*\n", out)


@ALL
def test_help_names_the_keys_it_uses(binary):
    status, out, err = run([binary, "--help"])
    assert status == 0 and err == ""
    keys = set(re.findall(r"^  ([a-z_]+) ", out, re.MULTILINE))
    common = {"log_level", "socket_dir"} if binary != PUBLISH else {"log_level", "publish_timeout"}
    assert common <= keys
    assert ("database_url" in keys) == (binary != STREAM)
    assert keys <= set(print_config(binary))


@pytest.mark.parametrize("key, values", [
    ("socket_mode", {"0660"}), ("base_path", {"/topics"}), ("healthz_path", {"/healthz"}),
    ("client_queue_bytes", {"1MiB"}), ("handler_queue_bytes", {"16MiB"}),
    ("stall_timeout", {"60s", "1m", "1min"}), ("keep_alive", {"15s"}), ("retry", {"5s", "5000ms"}),
    ("max_stream_age", {"0", "0s", "0ms"}),
    ("topic_idle", {"10m", "10min"}), ("graceful_drain", {"10s"}), ("max_body", {"256KiB"}),
    ("max_notify_bytes", {"7900"}), ("publish_timeout", {"3s"}), ("canary_interval", {"10s"}),
    ("canary_timeout", {"5s"}), ("marker_memory", {"1d", "24h"}), ("reconnect_min", {"1s"}),
    ("reconnect_max", {"30s"}), ("reconnect_attempts", {"0"}), ("queue_poll", {"30s"}),
    ("queue_warn", {"0.5"}), ("hook", {None}), ("hook_timeout", {"30s"}),
    ("reconnect_rate", {"500"}), ("log_level", {"info"}),
    ("handler_users", {None}), ("database_url", {None})])
def test_the_defaults(key, values):
    assert print_config(BROKER)[key] in values


def test_later_sources_win(tmp_path):
    file = tmp_path / "pgsse.conf"
    file.write_text("# a comment\n\n  keep_alive = 7s \nretry=1s\nlog_level = warning\n")
    config = print_config(STREAM, "--config", str(file))
    assert (config["keep_alive"], config["retry"], config["log_level"]) == ("7s", "1s", "warning")
    config = print_config(STREAM, "--config", str(file), PGSSE_KEEP_ALIVE="8s", PGSSE_RETRY="2000")
    assert (config["keep_alive"], config["retry"]) == ("8s", "2s")
    config = print_config(STREAM, "--config", str(file), "--keep-alive", "9s",
                          PGSSE_KEEP_ALIVE="8s")
    assert config["keep_alive"] == "9s"


def test_the_file_can_be_named_by_the_environment(tmp_path):
    file = tmp_path / "some.conf"
    file.write_text("keep_alive = 3s\n")
    assert print_config(STREAM, PGSSE_CONFIG=file)["keep_alive"] == "3s"
    other = tmp_path / "other.conf"
    other.write_text("keep_alive = 4s\n")
    assert print_config(STREAM, "--config", str(other), PGSSE_CONFIG=file)["keep_alive"] == "4s"


@ALL
def test_a_file_that_is_not_there(binary, tmp_path):
    assert_refused(binary, "--config", str(tmp_path / "none.conf"), says=["none.conf"])


@ALL
@pytest.mark.parametrize("text, line, word", [
    ("# one\n\nkeep_alive = 1s\nno_such_key = 1\n", 4, "no_such_key"),
    ("keep_alive\n", 1, "="),
    ("\nkeep_alive = soon\n", 2, "keep_alive"),
    ("keep_alive = 0\n", 1, "keep_alive"),
    ("keep_alive = -1s\n", 1, "keep_alive"),
    ("keep_alive = 999d\n", 1, "keep_alive"),
    ("keep_alive =\n", 1, "keep_alive"),
    ("client_queue_bytes = 1 TB\n", 1, "client_queue_bytes"),
    ("max_notify_bytes = 1.5\n", 1, "max_notify_bytes"),
    ("socket_mode = 0999\n", 1, "socket_mode"),
    ("base_path = topics\n", 1, "base_path"),
    ("log_level = loud\n", 1, "log_level"),
    ("queue_warn = 1.5\n", 1, "queue_warn"),
    ("queue_warn = 50%\n", 1, "queue_warn"),
    ("retry = 99999999999999999999\n", 1, "retry"),
    ("\ufeffretry = 1s\n", 1, "byte order mark"),
    ("retry = 1s\n\nkeep_alive = 1s\nretry = 1s\n", 4, "line 1"),
], ids=lambda value: str(value).strip()[:30])
def test_a_bad_line_is_named(binary, tmp_path, text, line, word):
    file = tmp_path / "pgsse.conf"
    file.write_text(text)
    message = assert_refused(binary, "--config", str(file), says=[f"pgsse.conf:{line}:", word])
    assert str(file) in message


@ALL
def test_a_bad_value_in_the_environment(binary):
    assert_refused(binary, says=["keep_alive", "soon"], PGSSE_KEEP_ALIVE="soon")


@ALL
@pytest.mark.parametrize("arguments, word", [
    (["--no-such-flag", "1"], "no-such-flag"), (["--keep-alive", "soon"], "keep_alive"),
    (["--keep-alive"], "keep-alive"), (["stray"], "stray")])
def test_bad_arguments(binary, arguments, word):
    assert_refused(binary, *arguments, says=[word])


@pytest.mark.parametrize("url", [
    "nonsense=1 password=hidden", "hidden", "hidden=1", "password='hidden", "postgresql://u:hidden/x@h/d",
    "postgresql://u:p@hidden@h/d", "postgresql://h/d?hidden=1", "postgresql://u:%zzhidden@h/d"])
@pytest.mark.parametrize("binary", [BROKER, PUBLISH], ids=lambda path: path.name)
def test_a_database_url_that_is_none(binary, url, tmp_path):
    """From wherever it comes, it is not shown: somewhere in it is a password."""
    file = tmp_path / "url"
    file.write_text(url + "\n")
    for arguments, env in (([], {"DATABASE_URL": url}), (["--database-url", url], {}),
                           ([], {"PGSSE_DATABASE_URL_FILE": file})):
        line = assert_refused(binary, *arguments, says=["database_url"], **env)
        assert "hidden" not in line
    if binary == BROKER:
        line = assert_refused(binary, says=["listen_database_url"], PGSSE_LISTEN_DATABASE_URL=url)
        assert "hidden" not in line


@ALL
def test_keys_that_contradict_each_other(binary):
    assert_refused(binary, says=["reconnect_min = 1s", "reconnect_max = 500ms"],
                   PGSSE_RECONNECT_MAX="500ms")
    assert_refused(binary, says=["marker_memory = 1min", "canary_interval = 1h"],
                   PGSSE_MARKER_MEMORY="60s", PGSSE_CANARY_INTERVAL="1h")


def test_a_password_on_the_command_line_does_not_stay_there(deploy, database):
    """Every user of the machine can read it, with ps."""
    deployment = deploy(None)
    broker = Program("pgsse-broker", [BROKER, "--database-url", database.url + " password=hidden"],
                     deployment.path("broker.log"), env=deployment.environment(False))
    deployment.programs.append(broker)
    deployment.broker = broker
    deployment.wait_ready()
    command = pathlib.Path(f"/proc/{broker.pid}/cmdline").read_bytes()
    assert b"--database-url" in command and b"hidden" not in command


@ALL
def test_secrets_are_not_printed(binary, tmp_path):
    file = tmp_path / "pgsse.conf"
    file.write_text("listen_database_url = password=secret3\n")
    status, out, err = run([binary, "--print-config", "--config", str(file)],
                           environment(DATABASE_URL="postgresql://u:secret1@h/d"))
    assert status == 0
    assert "secret" not in out + err
    assert re.search(r"^database_url = \S", out, re.MULTILINE)  # but that there is one


def test_the_url_can_stand_in_a_file(deploy, database, tmp_path):
    """One that the stream handler's user need not be able to read."""
    file = tmp_path / "url"
    file.write_text(database.url + "\nsecond line\n")
    deployment = deploy(None, database_url_file=file)
    deployment.start()
    stream = deployment.stream()
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1
    status, _, err = run([STREAM, "--print-config"],
                         environment(PGSSE_DATABASE_URL_FILE="/nonexistent/url"))
    assert status == 0, err
    assert_refused(BROKER, says=["/nonexistent/url"],
                   PGSSE_DATABASE_URL_FILE="/nonexistent/url")


def test_the_database_can_be_tried(database, tmp_path):
    """For scripts, which would have to show psql's URL to everybody."""
    assert run([BROKER, "--check-database"], environment(DATABASE_URL=database.url)) == (0, "", "")
    nowhere = f"host={tmp_path} dbname=x user=x password=hidden"
    status, out, err = run([BROKER, "--check-database"], environment(DATABASE_URL=nowhere))
    assert (status, out) == (1, "") and len(err.splitlines()) == 1 and str(tmp_path) in err, err
    assert "hidden" not in err
    missing = f"host={database.cluster.directory} dbname=missing user=postgres password=hidden"
    status, out, err = run([BROKER, "--check-database"], environment(DATABASE_URL=missing))
    assert (status, out) == (1, "") and len(err.splitlines()) == 1 and '"missing"' in err, err
    assert "hidden" not in err
    assert_refused(BROKER, "--check-database", says=["database_url"], DATABASE_URL="hidden")
    assert_refused(PUBLISH, "--check-database", says=["--check-database"])


def test_libpq_settings_are_enough(deploy, database):
    """Without any URL: PGHOST and the like."""
    deployment = deploy(None)
    plain = deployment.environment
    deployment.environment = lambda with_database, **more: {
        **plain(with_database, **more), "PGHOST": str(database.cluster.directory),
        "PGDATABASE": database.name, "PGUSER": "postgres"}
    deployment.start()
    stream = deployment.stream()
    deployment.publish("alpha", 1)
    assert stream.next_data() == 1


def test_listening_and_publishing_on_urls_of_their_own(deploy, database, cluster):
    """listen_database_url is where LISTEN goes; the other one serves queries."""
    deployment = deploy(database.url + " application_name=queries",
                        listen_database_url=database.url + " application_name=listens")
    deployment.start(publisher=False)
    rows = dict(database.execute("SELECT application_name, query FROM pg_stat_activity"
                                 " WHERE datname = current_database() AND application_name <> ''"))
    assert set(rows) == {"queries", "listens"}


def test_the_stream_handler_has_no_libpq():
    libraries = subprocess.run(["ldd", STREAM], check=True, capture_output=True, text=True).stdout
    assert "libpq" not in libraries and "libfcgi" in libraries


def test_log_levels(deploy, database):
    deployment = deploy(database.url, log_level="error").start()
    deployment.stream().close()
    assert deployment.broker.log() == ""


def test_a_handler_that_no_web_server_started():
    for binary in (STREAM, PUBLISH):
        status, _, err = run([binary], environment(DATABASE_URL="dbname=x"))
        assert status != 0 and len(err.splitlines()) == 1, err
