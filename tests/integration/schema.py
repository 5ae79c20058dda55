"""The schema of sql/, as tests install it and look at its refusals."""

import contextlib
import pathlib
import subprocess

import psycopg2
import pytest

SQL = pathlib.Path(__file__).resolve().parents[2] / "sql"


def run_script(database, name="pgsse.sql", user=None):
    """As a user would: psql -f. Returns (exit status, what it said)."""
    url = f"{database.url} user={user}" if user else database.url
    done = subprocess.run(["psql", "-Xq", "-d", url, "-f", SQL / name], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def install(database):
    assert run_script(database) == (0, "")


def uninstall(database):
    assert run_script(database, "uninstall.sql") == (0, "")


@contextlib.contextmanager
def installed(database):
    """Leaves the database as empty as it was, also after a test that failed in a transaction."""
    install(database)
    try:
        yield database
    finally:
        database.close()
        database.execute("DROP SCHEMA IF EXISTS pgsse CASCADE; DROP SCHEMA public CASCADE;"
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
