"""The schema of sql/, as tests install it and look at its refusals."""

import contextlib
import pathlib
import re
import subprocess

import psycopg2
import pytest

SQL = pathlib.Path(__file__).resolve().parents[2] / "sql"


def _psql(database, user, **how):
    """(exit status, what it said)"""
    url = f"{database.url} user={user}" if user else database.url
    done = subprocess.run(["psql", "-Xq", "-d", url, "-f", how.pop("file")], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **how)
    return done.returncode, done.stdout


def run_script(database, name="pgsse.sql", user=None):
    """As a user would: psql -f. Returns (exit status, what it said)."""
    return _psql(database, user, file=SQL / name, stdin=subprocess.DEVNULL)


def old_script(version):
    """The text of the newest pgsse.sql of that version, from the repository's history; None where there
    is no history."""
    def git(*words):
        return subprocess.run(["git", "-C", SQL, *words], capture_output=True, text=True,
                              check=False).stdout
    for commit in git("log", "--format=%H", "--", "pgsse.sql").split():
        script = git("show", f"{commit}:./pgsse.sql")
        if re.search(rf"pgsse\.version\(\)[^;]*'SELECT {version}'", script):
            return script
    return None


def install(database, first_id=2):
    """Where there was none, its ids begin there, so that tests can name them. None: where they do. In
    one transaction: a broker that looks meanwhile would go on from the ids that are taken away. The
    database is not given to another test, unless `installed` has emptied it."""
    database.is_plain = False
    is_new = value(database, "SELECT to_regclass('pgsse.events')") is None
    if not is_new or not first_id:
        assert run_script(database) == (0, "")
        return
    script, after = (SQL / "pgsse.sql").read_text(encoding="utf-8").rsplit("\nCOMMIT;", 1)
    script += (f"\nDELETE FROM pgsse.leaps;\nDO 'BEGIN PERFORM setval(''pgsse.event_id'', {first_id},"
               f" false); END';\nCOMMIT;{after}")
    assert _psql(database, None, file="-", input=script) == (0, "")


def uninstall(database):
    assert run_script(database, "uninstall.sql") == (0, "")


def drop_schema(database, sql="DROP SCHEMA IF EXISTS pgsse CASCADE"):
    """A broker that still runs reads the schema while it goes: one of the two gives way then. A
    transaction that a failed test has left open would be waited for for ever."""
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                     " datname = current_database() AND state LIKE 'idle in transaction%'")
    for _ in range(20):
        with contextlib.suppress(psycopg2.errors.DeadlockDetected):
            database.execute(sql)
            return
    raise AssertionError("the schema cannot be dropped: one deadlock after the other")


@contextlib.contextmanager
def installed(database):
    """Leaves the database as empty as it was, also after a test that failed in a transaction."""
    was_plain = database.is_plain
    install(database)
    try:
        yield database
    finally:
        database.close()
        database.is_plain = was_plain
        drop_schema(database, "DROP SCHEMA IF EXISTS pgsse CASCADE; DROP SCHEMA public CASCADE;"
                              " CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC")


@pytest.fixture(name="durable")
def fixture_durable(database):
    """A database with the schema in it."""
    with installed(database):
        yield database


def refusal(database, sql, arguments=None):
    """(SQLSTATE, message) of a statement that has to fail."""
    with pytest.raises(psycopg2.Error) as caught:
        database.execute(sql, arguments)
    return caught.value.pgcode, caught.value.diag.message_primary


def value(database, sql, arguments=None):
    """The one value that a statement answers with."""
    (row,), = database.execute(sql, arguments)
    return row


def column(database, sql, arguments=None):
    return [row for row, in database.execute(sql, arguments)]


def publish(database, topic, count):
    """The ids of so many events."""
    return column(database, "SELECT pgsse.publish(%s, to_json(n)) FROM generate_series(1, %s) n",
                  (topic, count))
