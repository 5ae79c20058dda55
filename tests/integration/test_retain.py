"""retain_age and retain_count: the broker prunes."""

import pytest

from schema import fixture_durable, value  # noqa: F401
from waiting import wait_for


def fill(database, topic, count):
    database.execute("SELECT count(*) FROM (SELECT pgsse.publish(%s, '1'::json)"
                     " FROM generate_series(1, %s)) s", (topic, count))


def counts(database):
    return dict(database.execute("SELECT topic, count(*) FROM pgsse.events GROUP BY 1"))


def test_count(deploy, durable):
    fill(durable, "many", 25_000)  # more than one pruning removes
    fill(durable, "few", 3)
    deploy(durable.url, retain_count="100").start_broker()
    wait_for(lambda: counts(durable) == {"many": 100, "few": 3}, lambda: counts(durable))


def test_age(deploy, durable):
    fill(durable, "old", 10)
    value(durable, "SELECT pgsse.prune(age => '1 hour')")  # sees them
    durable.execute("UPDATE pgsse.seen SET at = at - interval '2 hours'")
    fill(durable, "young", 10)
    deploy(durable.url, retain_age="1h").start_broker()
    wait_for(lambda: counts(durable) == {"young": 10}, lambda: counts(durable))


@pytest.mark.parametrize("settings", [{}, {"retain_age": "1d", "retain_count": "50"}])
def test_nothing_beyond_it(deploy, durable, settings):
    fill(durable, "kept", 50)
    deployment = deploy(durable.url, **settings)
    deployment.start_broker()
    if settings:
        wait_for(lambda: value(durable, "SELECT count(*) FROM pgsse.seen") > 0, "it has pruned")
    assert counts(durable) == {"kept": 50}


def test_without_the_right(deploy, durable):
    """It says so, and goes on delivering."""
    user = durable.execute("SELECT current_user")[0][0]
    durable.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN;"
                    " GRANT SELECT ON pgsse.events, pgsse.floors, pgsse.subscriptions TO reader")
    try:
        deployment = deploy(f"{durable.url} user=reader".replace(f"user={user} ", ""),
                            retain_count="1")
        deployment.start(publisher=False)
        stream = deployment.stream("on")
        wait_for(lambda: "cannot be pruned: permission denied" in deployment.broker.log(),
                 "it says why")
        fill(durable, "on", 1)
        assert stream.next_block().data == "1"
        assert deployment.health()["status"] == "ok"
    finally:
        durable.execute("DROP OWNED BY reader; DROP ROLE reader")
