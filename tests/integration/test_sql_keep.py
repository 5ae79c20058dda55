"""What the schema keeps, for how long, and how it is read: history, prune, subscriptions, views."""

import contextlib
import json

import pytest

from cluster import Listener
from schema import column, fixture_durable, publish, refusal, value

__all__ = ["fixture_durable"]


def kept(database, topic=None):
    return column(database, "SELECT id FROM pgsse.events WHERE topic = coalesce(%s, topic)"
                            " ORDER BY id", (topic,))


def floors(database):
    return dict(database.execute("SELECT topic, id FROM pgsse.floors"))


def prune(database, arguments):
    return value(database, f"SELECT pgsse.prune({arguments})")


def make_older(database, interval):
    """As if everything that prunes have done had happened so much earlier."""
    database.execute("UPDATE pgsse.seen SET at = at - %s::interval", (interval,))


# ---- history -------------------------------------------------------------------------------------

def test_history(durable):
    alpha = publish(durable, "alpha", 3)
    publish(durable, "beta", 1)
    alpha += publish(durable, "alpha", 2)
    read = "SELECT id FROM pgsse.history('alpha', %s, %s)"
    assert column(durable, read, (0, 50)) == alpha
    assert column(durable, read, (0, 2)) == alpha[:2]
    assert column(durable, read, (alpha[1], 2)) == alpha[2:4]
    assert column(durable, read, (alpha[-1], 2)) == []
    assert column(durable, "SELECT id FROM pgsse.history('alpha')") == alpha
    assert column(durable, "SELECT id FROM pgsse.history('Alpha')") == []
    assert durable.execute("SELECT topic, type, data::text FROM pgsse.history('beta')") == [
        ("beta", "message", "1")]


def test_pages_of_a_history(durable):
    ids = publish(durable, "alpha", 1200)
    assert len(column(durable, "SELECT id FROM pgsse.history('alpha')")) == 50
    pages, after = [], 0
    while page := column(durable, "SELECT id FROM pgsse.history('alpha', %s, 100000)", (after,)):
        pages.append(page)
        after = page[-1]
    assert [len(page) for page in pages] == [500, 500, 200]
    assert sum(pages, []) == ids


def test_histories_that_cannot_be(durable):
    for call in ("''", "NULL", "E'a\\n'", "'a', -1", "'a', NULL", "'a', 0, 0", "'a', 0, -1",
                 "'a', 0, NULL"):
        assert refusal(durable, f"SELECT * FROM pgsse.history({call})")[0] == "22023", call


def test_reading_uses_the_indexes(durable):
    durable.execute("SELECT count(pgsse.publish('alpha', '1')) FROM generate_series(1, 3000);"
                    " ANALYZE pgsse.events")
    for sql, index in (("WHERE id > 2900 ORDER BY id LIMIT 1000", "events_pkey"),
                       ("WHERE topic = 'alpha' AND id > 2900 ORDER BY id LIMIT 50", "events_")):
        plan = "\n".join(column(durable, f"EXPLAIN SELECT * FROM pgsse.events {sql}"))
        assert index in plan and "Sort" not in plan and "Seq Scan" not in plan, plan


# ---- prune ---------------------------------------------------------------------------------------

def test_by_count(durable):
    alpha, beta = publish(durable, "alpha", 5), publish(durable, "beta", 2)
    assert prune(durable, "keep => 3") == 2
    assert kept(durable, "alpha") == alpha[2:] and kept(durable, "beta") == beta
    assert floors(durable) == {"alpha": alpha[1]}
    assert prune(durable, "keep => 3") == 0
    assert prune(durable, "keep => 0") == 5
    assert kept(durable) == [] and floors(durable) == {"alpha": alpha[-1], "beta": beta[-1]}
    assert value(durable, "SELECT pgsse.head()") == beta[-1], "though the table is empty"
    assert publish(durable, "alpha", 1) == [beta[-1] + 1]


def test_age_counts_from_when_a_prune_first_saw_it(durable):
    """Not from created_at: a transaction may have committed long after it published."""
    first = publish(durable, "alpha", 2)
    assert prune(durable, "'1 hour'") == 0, "however old it says it is"
    make_older(durable, "2 hours")
    second = publish(durable, "alpha", 2)
    assert prune(durable, "'3 hours'") == 0
    assert prune(durable, "'1 hour'") == 2
    assert kept(durable) == second and floors(durable) == {"alpha": first[-1]}
    make_older(durable, "30 minutes")
    third = publish(durable, "beta", 1)
    assert prune(durable, "'1 hour'") == 0
    make_older(durable, "31 minutes")
    assert prune(durable, "'1 hour'") == 2, "those of the second, seen an hour ago"
    assert kept(durable) == third
    assert prune(durable, "'0 s'") == 1, "all that is there now"
    assert value(durable, "SELECT count(*) FROM pgsse.seen") == 0


def test_what_commits_late_is_young(durable):
    with contextlib.closing(durable.connect()) as slow, slow.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pgsse.publish('alpha', '1')")
        assert prune(durable, "'0 s'") == 0
        cursor.execute("COMMIT")
    make_older(durable, "1 day")
    assert prune(durable, "'1 hour'") == 0
    make_older(durable, "1 day")
    assert prune(durable, "'1 hour'") == 1


def test_either_limit(durable):
    alpha = publish(durable, "alpha", 4)
    prune(durable, "'1 hour'")
    make_older(durable, "2 hours")
    alpha += publish(durable, "alpha", 4)
    assert prune(durable, "'1 hour', 3") == 5
    assert kept(durable) == alpha[5:]


def test_in_batches(durable):
    ids = sorted(publish(durable, "alpha", 10) + publish(durable, "beta", 10))
    removed = []
    while count := prune(durable, "keep => 2, most => 7"):
        removed.append(count)
        gone = [number for number in ids if number not in kept(durable)]
        assert max(floors(durable).values()) == max(gone)
    assert removed == [7, 7, 2]
    assert kept(durable) == ids[8:10] + ids[18:]
    assert floors(durable) == {"alpha": ids[7], "beta": ids[17]}


def test_prunes_that_cannot_be(durable):
    publish(durable, "alpha", 1)
    for call in ("", "NULL, NULL", "'-1 s'", "keep => -1", "keep => 0, most => 0"):
        assert refusal(durable, f"SELECT pgsse.prune({call})")[0] == "22023", call
    assert len(kept(durable)) == 1


def test_a_rolled_back_prune(durable):
    ids = publish(durable, "alpha", 3)
    with contextlib.closing(durable.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pgsse.prune(keep => 0); ROLLBACK")
    assert kept(durable) == ids and floors(durable) == {}
    assert refusal(durable, "DELETE FROM pgsse.events")[0] == "42501", "the guard is up again"


# ---- subscriptions -------------------------------------------------------------------------------

def test_subscriptions(durable):
    def call(name, *arguments):
        return value(durable, f"SELECT pgsse.{name}(%s, %s)", arguments)
    assert call("subscribe", "7", "beta") is True
    assert call("subscribe", "7", "beta") is False
    assert call("subscribe", "7", "Alpha") and call("subscribe", "7", "\u00e4")
    assert call("subscribe", "'; DROP TABLE pgsse.subscriptions; --", "alpha")
    assert column(durable, "SELECT pgsse.subscriptions('7')") == ["Alpha", "beta", "\u00e4"]
    assert call("unsubscribe", "7", "beta") is True
    assert call("unsubscribe", "7", "beta") is False
    assert column(durable, "SELECT pgsse.subscriptions('7')") == ["Alpha", "\u00e4"]
    assert column(durable, "SELECT pgsse.subscriptions('8')") == []


@pytest.mark.parametrize("user, channel", [("", "a"), (None, "a"), ("u", ""), ("u", None),
                                           ("u" * 256, "a"), ("u", "a\nb"), ("u\x7f", "a")])
def test_subscriptions_that_cannot_be(durable, user, channel):
    for name in ("subscribe", "unsubscribe"):
        assert refusal(durable, f"SELECT pgsse.{name}(%s, %s)", (user, channel))[0] == "22023"


def subscribed_of(database, pairs):
    """Which of them are subscriptions, by their places in the list."""
    users, channels = map(list, zip(*pairs))
    return column(database, "SELECT pgsse.subscribed(%s::integer[], %s::text[], %s::text[])",
                  (list(range(len(pairs))), users, channels))


def test_which_pairs_are_subscriptions(subscribed):
    assert subscribed_of(subscribed, [
        ("ann", "alpha"), ("ann", "gamma"), ("eve", "alpha"), (ODD_USER, "beta"), ("alpha", "ann"),
        ("bob", "beta"), ("ann", "alpha"), ("Ann", "alpha"), ("ann", "ALPHA"), ("", ""),
        (None, "alpha"), ("ann", None), ("ann", "alpha "), ("ann' OR '1'='1", "alpha"),
        ("ann", "alpha'; DROP TABLE pgsse.subscriptions; --"), ("{ann}", "%"),
        ("bob", "alpha")]) == [0, 3, 5, 6, 16], "each time it is asked for, in order"
    subscribed.execute("SELECT pgsse.unsubscribe('ann', 'alpha')")
    assert subscribed_of(subscribed, [("ann", "alpha"), ("ann", "beta")]) == [1]


def test_numbers_of_pairs_are_the_askers(subscribed):
    assert column(subscribed, "SELECT pgsse.subscribed(ARRAY[7, 2147483647, -3, 7, 5],"
                              " array_fill('ann'::text, ARRAY[5]),"
                              " '{alpha,beta,alpha,beta,gamma}')") == [-3, 7, 7, 2147483647]


@pytest.mark.parametrize("arguments", ["'{}', '{}', '{}'", "NULL, NULL, NULL", "'{1}', '{}', '{}'",
                                       "'{1}', '{ann}', '{}'", "'{1}', '{ann}', NULL",
                                       "'{1}', '{NULL}', '{NULL}'"])
def test_no_pairs_at_all(subscribed, arguments):
    assert column(subscribed, f"SELECT pgsse.subscribed({arguments})") == []


def test_many_pairs(durable):
    durable.execute("INSERT INTO pgsse.subscriptions SELECT 'u' || n, 'c' || n"
                    " FROM generate_series(1, 20000) AS n")
    pairs = [(f"u{number}", f"c{number + number % 2}") for number in range(1, 8193)]
    assert subscribed_of(durable, pairs) == list(range(1, 8192, 2))


def rechecks(database, *statements):
    """The users whose streams are to be looked at after that."""
    listener = Listener(database, ["pgsse_hint"])
    for statement in statements:
        database.execute(statement)
    database.execute("NOTIFY pgsse_hint, 'end'")
    heard = listener.heard(1)
    while heard[-1][1] != "end":
        heard = listener.heard(len(heard) + 1)
    listener.close()
    return sorted(json.loads(payload)["recheck"] for _, payload in heard[:-1])


ODD_USER = "a\"b\\c'; DROP TABLE pgsse.events; -- \u00e4"


@pytest.fixture(name="subscribed")
def fixture_subscribed(durable):
    for user in ("ann", "bob", ODD_USER):
        durable.execute("SELECT pgsse.subscribe(%s, c) FROM unnest(ARRAY['alpha', 'beta']) c",
                        (user,))
    return durable


def test_who_unsubscribes_is_told_of(subscribed):
    assert rechecks(subscribed, "SELECT pgsse.unsubscribe('ann', 'alpha')") == ["ann"]
    assert rechecks(subscribed, "SELECT pgsse.unsubscribe('ann', 'alpha')") == [], "there was none"
    assert rechecks(subscribed, "SELECT pgsse.subscribe('ann', 'alpha')",
                    "SELECT pgsse.subscribe('ann', 'alpha')") == []
    assert rechecks(subscribed, "BEGIN; SELECT pgsse.unsubscribe('ann', 'alpha'); ROLLBACK") == []


def test_who_is_deleted_is_told_of(subscribed):
    """Whoever may write the table needs no function for it."""
    assert rechecks(subscribed, "DELETE FROM pgsse.subscriptions WHERE user_id <> 'bob'") == sorted(
        ["ann", ODD_USER]), "once each"
    assert rechecks(subscribed, "DELETE FROM pgsse.subscriptions WHERE user_id = 'ann'") == []
    assert rechecks(subscribed, "UPDATE pgsse.subscriptions SET user_id = 'eve'") == ["bob"]
    assert rechecks(subscribed, "UPDATE pgsse.subscriptions SET channel = 'x'"
                                " WHERE channel = 'beta'") == ["eve"]


def test_everybody_is_told_of(subscribed):
    assert rechecks(subscribed, "TRUNCATE pgsse.subscriptions") == [""]
    some = "INSERT INTO pgsse.subscriptions SELECT n::text, 'c' FROM generate_series(1, {}) n"
    subscribed.execute(some.format(1000))
    assert len(rechecks(subscribed, "DELETE FROM pgsse.subscriptions")) == 1000
    subscribed.execute(some.format(1001))
    assert rechecks(subscribed, "DELETE FROM pgsse.subscriptions") == [""]
    subscribed.execute("ALTER TABLE pgsse.subscriptions DROP CONSTRAINT subscriptions_pkey;"
                       "INSERT INTO pgsse.subscriptions VALUES (repeat('x', 8000), 'c')")
    assert rechecks(subscribed, "DELETE FROM pgsse.subscriptions") == [""], "it can be deleted"


# ---- views ---------------------------------------------------------------------------------------

def test_views(durable):
    assert durable.execute("SELECT version, head, events, first_id, last_id, last_at,"
                           " subscriptions, removed_up_to, publishers_waiting"
                           " FROM pgsse.status") == [
                               (4, 1, 0, None, None, None, 0, None, 0)]
    publish(durable, "alpha", 120)
    publish(durable, "beta", 1)
    prune(durable, "keep => 110")
    assert durable.execute("SELECT topic, events, first_id, last_id, bytes, removed_up_to"
                           " FROM pgsse.topics") == [
                               ("alpha", 110, 12, 121, 241, 11), ("beta", 1, 122, 122, 1, None)]
    recent = durable.execute("SELECT id, topic, type, bytes, data FROM pgsse.recent")
    assert len(recent) == 100 and recent[0] == (122, "beta", "message", 1, "1")
    assert durable.execute("SELECT head, events, first_id, last_id, removed_up_to, last_at IS NULL,"
                           " bytes_on_disk > 0 FROM pgsse.status") == [
                               (122, 111, 12, 122, 11, False, True)]
    prune(durable, "keep => 0")
    assert durable.execute("SELECT topic, events, removed_up_to FROM pgsse.topics") == [
        ("alpha", 0, 121), ("beta", 0, 122)]
