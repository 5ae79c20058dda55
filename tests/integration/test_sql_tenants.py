"""Tenants: the same name in two of them is not the same topic, and not the same user."""

import contextlib
import json

import pytest

from cluster import Listener
from schema import column, fixture_durable, refusal, value
from test_notify import SHARDS

__all__ = ["fixture_durable"]

TENANTS = ["", "acme", "Acme", "a.b-c_9", "A" * 64]
BAD = ["a" * 65, "a b", "a\n", "\n", "\u00e9", "*", "a*", "a/b", "user:1", "a'; --", None]


def publish_in_all(database, topic="alpha"):
    """One event in each tenant, with the tenant as its data: {tenant: id}."""
    return {tenant: value(database, "SELECT pgsse.publish(%s, to_json(%s::text), tenant => %s)",
                          (topic, tenant, tenant)) for tenant in TENANTS}


# ---- events --------------------------------------------------------------------------------------

def test_histories_never_meet(durable):
    ids = publish_in_all(durable)
    for tenant, number in ids.items():
        assert durable.execute("SELECT id, tenant, data #>> '{}' FROM pgsse.history('alpha',"
                               " tenant => %s)", (tenant,)) == [(number, tenant, tenant)]
    assert column(durable, "SELECT id FROM pgsse.history('alpha')") == [ids[""]]
    assert column(durable, "SELECT id FROM pgsse.history('alpha', 0, 50, 'ACME')") == []


def test_pages_never_meet(durable):
    ids = publish_in_all(durable)
    page = "SELECT id, tenant FROM pgsse.page(0, NULL, %s, tenants => %s)"
    for tenant, number in ids.items():
        for topic in ("alpha", "alph*", "*"):
            assert durable.execute(page, ([topic], [tenant])) == [(number, tenant)]
    assert durable.execute(page, (["alpha", "al*"], ["acme", "Acme"])) == [
        (ids["acme"], "acme"), (ids["Acme"], "Acme")]
    assert durable.execute(page, (["alpha"], None)) == [(ids[""], "")]
    assert durable.execute(page, (["*"], None)) == [(ids[""], "")]
    assert durable.execute(page, (["alpha", "beta"], ["beta", "acme"])) == [], "pair by pair"
    assert durable.execute(page, (["alpha", "*", None], [None, None, "acme"])) == []
    assert [row[1] for row in durable.execute(page, (None, None))] == TENANTS, "all topics"


@pytest.mark.parametrize("arguments", [
    "NULL, tenants => '{t}'", "'{a}', tenants => '{}'", "'{a}', tenants => '{t,t}'",
    "'{}', tenants => '{t}'", "NULL, tenants => '{}'"])
def test_pages_whose_tenants_are_not_those_of_topics(durable, arguments):
    assert refusal(durable, f"SELECT * FROM pgsse.page(0, NULL, {arguments})") == (
        "22023", "pgsse: the arrays must have the same length")


def test_old_calls(durable):
    """Without a tenant, by position and by name."""
    durable.execute("""
        SELECT pgsse.publish('a', '1'), pgsse.publish('a', '1'::json, 'e', 'i', 1, 'c', true),
            pgsse.publish('a', '1'::jsonb, event => 'e'), pgsse.subscribe('ann', 'a'),
            pgsse.notify('a', '1', 'e', 'i', 1, 'c', true), pgsse.notify('a', '1'::jsonb);
        SELECT pgsse.publish_many('[{"topic":"a","data":1}]');
        SELECT pgsse.publish_many(ARRAY['a'], ARRAY['1'::json], '{e}', '{i}', '{1}', '{c}', '{t}')""")
    assert value(durable, "SELECT count(*) FROM pgsse.history('a', 0, 50)") == 5
    assert value(durable, "SELECT count(*) FROM pgsse.page(0, NULL, '{a}', 10, 1000)") == 5
    assert column(durable, "SELECT pgsse.subscribed('{7}', '{ann}', '{a}')") == [7]
    assert column(durable, "SELECT DISTINCT tenant FROM pgsse.events") == [""]


def test_many(durable):
    events = [{"topic": "a", "data": n, "tenant": tenant} for n, tenant in enumerate(TENANTS)]
    events += [{"topic": "a", "data": 5, "tenant": None}, {"topic": "a", "data": 6}]
    durable.execute("SELECT pgsse.publish_many(%s)", (json.dumps(events),))
    durable.execute("SELECT pgsse.publish_many('{a,a}', '{1,2}'::json[], tenants => '{x,\"\"}')")
    assert column(durable, "SELECT tenant FROM pgsse.events ORDER BY id") == [
        *TENANTS, "", "", "x", ""]


@pytest.mark.parametrize("tenant", BAD, ids=range(len(BAD)))
def test_tenants_that_cannot_be(durable, tenant):
    for call in ("publish('a', '1', tenant => %s)", "notify('a', '1', tenant => %s)",
                 "notify('*', '1', tenant => %s)", "history('a', tenant => %s)",
                 "publish_many('{a}', '{1}'::json[], tenants => ARRAY[%s])",
                 "subscribe('ann', 'a', %s)", "unsubscribe('ann', 'a', %s)"):
        code, said = refusal(durable, f"SELECT pgsse.{call}", (tenant,))
        assert code == "22023" and "tenant must be 1 to 64 of [A-Za-z0-9_.-], or empty" in said
    assert column(durable, "SELECT pgsse.subscriptions('ann', %s)", (tenant,)) == []
    assert durable.execute("SELECT * FROM pgsse.page(0, NULL, '{*}', tenants => ARRAY[%s])",
                           (tenant,)) == []


def test_notifications_say_whose_they_are(durable):
    listener = Listener(durable, SHARDS)
    for tenant in TENANTS:
        durable.execute("SELECT pgsse.notify('alpha', '1', tenant => %s)", (tenant,))
    heard = listener.heard(len(TENANTS))
    listener.close()
    assert {channel for channel, _ in heard} == {value(durable, "SELECT pgsse.channel('alpha')")}
    events = [json.loads(payload) for _, payload in heard]
    assert [event.get("tenant", "") for event in events] == TENANTS
    assert "tenant" not in events[0], "as before there were tenants"


def test_a_large_notification_stays_with_its_tenant(durable):
    durable.execute("SELECT pgsse.notify('alpha', to_json(repeat('x', 9000)), tenant => 'acme')")
    assert durable.execute("SELECT topic, tenant FROM pgsse.events") == [("alpha", "acme")]


def test_a_broadcast(durable):
    """The one topic that ends in *, and only of ephemeral events."""
    listener = Listener(durable, SHARDS)
    with contextlib.closing(durable.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pgsse.notify('*', '1', 'tick', tenant => 'acme')")
        assert connection.notices == [], "it needs no path"
    event = json.loads(listener.heard(1)[0][1])
    listener.close()
    assert (event["topic"], event["event"], event["tenant"]) == ("*", "tick", "acme")
    large = "SELECT pgsse.notify('*', to_json(repeat('x', 9000)))"
    code, said = refusal(durable, large)
    assert code == "22023" and "a broadcast must fit into a notification" in said
    for topic in ("a*", "**", "orders.*"):
        assert refusal(durable, "SELECT pgsse.notify(%s, '1')", (topic,))[0] == "22023"


# ---- prune ---------------------------------------------------------------------------------------

def test_prune_counts_by_tenant(durable):
    ids = {tenant: [] for tenant in TENANTS}
    for _ in range(4):
        for tenant, number in publish_in_all(durable).items():
            ids[tenant].append(number)
    publish_in_all(durable, "beta")
    assert value(durable, "SELECT pgsse.prune(keep => 3)") == len(TENANTS)
    assert dict(durable.execute("SELECT tenant, id FROM pgsse.floors WHERE topic = 'alpha'")) == {
        tenant: numbers[0] for tenant, numbers in ids.items()}
    for tenant, numbers in ids.items():
        assert column(durable, "SELECT id FROM pgsse.history('alpha', tenant => %s)",
                      (tenant,)) == numbers[1:]
        assert durable.execute("SELECT id, topic, tenant FROM pgsse.page(0, NULL, '{alpha}',"
                               " tenants => ARRAY[%s]) WHERE is_floor", (tenant,)) == [
                                   (numbers[0], "alpha", tenant)]
    assert len(durable.execute("SELECT * FROM pgsse.page(0) WHERE is_floor")) == len(TENANTS)
    assert value(durable, "SELECT pgsse.prune(keep => 3)") == 0
    assert value(durable, "SELECT pgsse.prune(keep => 0)") == 4 * len(TENANTS)


# ---- subscriptions -------------------------------------------------------------------------------

@pytest.fixture(name="subscribed")
def fixture_subscribed(durable):
    for tenant in TENANTS:
        durable.execute("SELECT pgsse.subscribe('ann', 'alpha', %s),"
                        " pgsse.subscribe('ann', %s || 'own', %s)", (tenant, tenant, tenant))
    return durable


def test_subscriptions_never_meet(subscribed):
    for tenant in TENANTS:
        expected = sorted(["alpha", f"{tenant}own"], key=str.encode)
        assert column(subscribed, "SELECT pgsse.subscriptions('ann', %s)", (tenant,)) == expected
    assert column(subscribed, "SELECT pgsse.subscriptions('ann')") == ["alpha", "own"]
    assert value(subscribed, "SELECT pgsse.unsubscribe('ann', 'alpha', 'acme')") is True
    assert value(subscribed, "SELECT pgsse.unsubscribe('ann', 'alpha', 'acme')") is False
    assert column(subscribed, "SELECT pgsse.subscribed('{1,2,3,4}', '{ann,ann,ann,ann}',"
                              " '{alpha,alpha,alpha,own}', '{\"\",acme,Acme,Acme}')") == [1, 3]
    assert column(subscribed, "SELECT pgsse.subscribed('{1,2}', '{ann,ann}', '{own,Acmeown}',"
                              " NULL)") == [1]
    assert column(subscribed, "SELECT pgsse.subscribed('{1}', '{ann}', '{own}', '{NULL}')") == []


def rechecks(database, statement):
    listener = Listener(database, ["pgsse_hint"])
    database.execute(statement)
    database.execute("NOTIFY pgsse_hint, 'end'")
    heard = listener.heard(1)
    while heard[-1][1] != "end":
        heard = listener.heard(len(heard) + 1)
    listener.close()
    return sorted(payload for _, payload in heard[:-1])


def test_whose_rights_have_shrunk(subscribed):
    assert rechecks(subscribed, "SELECT pgsse.unsubscribe('ann', 'alpha')") == ['{"recheck":"ann"}']
    assert rechecks(subscribed, "SELECT pgsse.unsubscribe('ann', 'alpha', 'acme')") == [
        '{"recheck":"ann","tenant":"acme"}']
    assert rechecks(subscribed, "UPDATE pgsse.subscriptions SET tenant = 'b' WHERE tenant = 'Acme'"
                    ) == ['{"recheck":"ann","tenant":"Acme"}']
    assert len(rechecks(subscribed, "DELETE FROM pgsse.subscriptions")) == len(TENANTS)
    subscribed.execute("INSERT INTO pgsse.subscriptions (user_id, channel, tenant)"
                       " VALUES ('ann', 'a', repeat('\"', 4000))")
    assert rechecks(subscribed, "DELETE FROM pgsse.subscriptions") == ['{"recheck":""}']


def test_no_subscription_to_a_pattern(durable):
    for channel in ("*", "a*", "orders.*"):
        code, said = refusal(durable, "SELECT pgsse.subscribe('ann', %s)", (channel,))
        assert code == "22023" and "channel must not end in *" in said
        durable.execute("INSERT INTO pgsse.subscriptions VALUES ('ann', %s)", (channel,))
        assert value(durable, "SELECT pgsse.unsubscribe('ann', %s)", (channel,)) is True


# ---- views ---------------------------------------------------------------------------------------

def test_views(durable):
    ids = publish_in_all(durable)
    durable.execute("SELECT pgsse.prune(keep => 0)")
    ids = {tenant: (number, publish_in_all(durable)[tenant]) for tenant, number in ids.items()}
    rows = durable.execute("SELECT tenant, topic, events, removed_up_to FROM pgsse.topics")
    assert rows == [(tenant, "alpha", 5, ids[tenant][0])
                    for tenant in sorted(TENANTS, key=str.encode)]
    assert column(durable, "SELECT tenant FROM pgsse.recent LIMIT 5") == TENANTS[::-1]


# ---- rows of any table ---------------------------------------------------------------------------

def rows_of(database):
    return [(tenant, data["operation"], data["old"], data["new"]) for tenant, data in
            database.execute("SELECT tenant, data FROM pgsse.events ORDER BY id")]


@pytest.mark.parametrize("arguments", ["'rows', 'tenant=owner', 'a'", "'rows', 'a', 'tenant=owner'"])
def test_rows_of_tenants(durable, arguments):
    durable.execute(f"""
        CREATE TABLE t (owner text, a integer); CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE
            ON t FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row({arguments});
        INSERT INTO t VALUES ('acme', 1), ('', 2); UPDATE t SET a = a + 10; DELETE FROM t""")
    one, two, ten, twelve = {"a": 1}, {"a": 2}, {"a": 11}, {"a": 12}
    assert rows_of(durable) == [
        ("acme", "INSERT", None, one), ("", "INSERT", None, two),
        ("acme", "UPDATE", one, ten), ("", "UPDATE", two, twelve),
        ("acme", "DELETE", ten, None), ("", "DELETE", twelve, None)]


def test_a_row_that_moves_to_another_tenant(durable):
    """Neither sees what the row is in the other."""
    durable.execute("""
        CREATE TABLE t ("o'wn =" varchar, a integer); CREATE TRIGGER tell AFTER UPDATE ON t
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'tenant=o''wn =');
        INSERT INTO t VALUES ('acme', 1); UPDATE t SET "o'wn =" = 'other', a = 2""")
    assert rows_of(durable) == [("acme", "UPDATE", {"o'wn =": "acme", "a": 1}, None),
                                ("other", "UPDATE", None, {"o'wn =": "other", "a": 2})]


@pytest.mark.parametrize("kind, tenant", [("uuid", "6f1c7b1e-2f0e-4c06-9d0c-0d6f5f5f5f5f"),
                                          ("integer", "42"), ("name", "acme"), ("citext", "a")])
def test_types_of_a_tenants_column(durable, kind, tenant):
    if kind == "citext":
        durable.execute("CREATE DOMAIN citext AS text")
    durable.execute(f"""
        CREATE TABLE t (owner {kind}); CREATE TRIGGER tell AFTER INSERT ON t
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'tenant=owner');
        INSERT INTO t VALUES ('{tenant}')""")
    assert column(durable, "SELECT tenant FROM pgsse.events") == [tenant]


def test_rows_without_a_tenant(durable):
    durable.execute("""
        CREATE TABLE t (owner text); CREATE TRIGGER tell AFTER INSERT ON t
            FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('rows', 'tenant=owner');
        CREATE TRIGGER tell_all AFTER TRUNCATE ON t
            EXECUTE FUNCTION pgsse.publish_row('rows', 'tenant=owner')""")
    for owner in BAD:
        assert refusal(durable, "INSERT INTO t VALUES (%s)", (owner,))[0] == "22023"
    code, said = refusal(durable, "TRUNCATE t")
    assert code == "22023" and "no row to take the tenant from" in said
    durable.execute("ALTER TABLE t RENAME owner TO other")
    code, said = refusal(durable, "INSERT INTO t VALUES ('acme')")
    assert code == "42703" and "the trigger tell on public.t chooses a column that is not" in said
    assert column(durable, "SELECT id FROM pgsse.events") == []
