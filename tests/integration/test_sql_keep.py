"""What the schema keeps, for how long, and how it is read: history, prune, subscriptions, views."""

import contextlib
import threading

import pytest

from schema import column, fixture_durable, refusal, value

__all__ = ["fixture_durable"]


def publish(database, topic, count):
    return column(database, "SELECT pgsse.publish(%s, to_json(n)) FROM generate_series(1, %s) n",
                  (topic, count))


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


def page(database, after, rows):
    """What the broker reads in one statement: a page, and the floors above its start."""
    sql = ("SELECT (SELECT coalesce(json_agg(id ORDER BY id), '[]') FROM (SELECT id FROM"
           " pgsse.events WHERE id > %(after)s ORDER BY id LIMIT %(rows)s) AS p),"
           " (SELECT coalesce(json_object_agg(topic, id), '{}') FROM pgsse.floors"
           " WHERE id > %(after)s)")
    (answer,) = database.execute(sql, {"after": after, "rows": rows})
    return answer


def test_a_prune_between_two_pages(durable):
    """The second page says of which topics something is missing."""
    ids = publish(durable, "alpha", 6) + publish(durable, "beta", 2)
    first, missing = page(durable, 0, 3)
    assert first == ids[:3] and missing == {}
    prune(durable, "keep => 1")
    second, missing = page(durable, first[-1], 3)
    assert second == [ids[5], ids[7]] and missing == {"alpha": ids[4], "beta": ids[6]}
    assert page(durable, ids[6], 3) == ([ids[7]], {}), "nothing is missing behind the floor"


def test_while_others_publish_prune_and_read(durable):
    """Nobody fails; what a page leaves out lies at or below a floor that the same page tells."""
    is_over = threading.Event()
    failures, published, removed, pages = [], {"t1": [], "t2": []}, [], []

    def work(step, results):
        connection = durable.connect()
        try:
            with contextlib.closing(connection), connection.cursor() as cursor:
                while not is_over.is_set():
                    cursor.execute(step)
                    results += [row for row, in cursor.fetchall()]
        except Exception as failure:  # pylint: disable=broad-except
            failures.append(failure)

    steps = [(f"SELECT pgsse.publish_many(array_fill('{topic}'::text, ARRAY[5]),"
              " array_fill('1'::json, ARRAY[5]))", published[topic]) for topic in published]
    steps += [("SELECT pgsse.prune('1 ms', 40, 60)", removed)] * 2
    threads = [threading.Thread(target=work, args=step) for step in steps]
    for thread in threads:
        thread.start()
    after = 1
    while not failures and sum(map(len, published.values())) < 3000:
        # It lags, so that there is something for the prunes to remove before it.
        is_behind = value(durable, "SELECT pgsse.head()") > after + 300
        ids, missing = page(durable, after, 50) if is_behind else ([], {})
        if ids:
            pages.append((after, ids, missing))
            after = ids[-1]
    is_over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(removed) + len(kept(durable)) == sum(map(len, published.values()))
    unread = 0
    for start, ids, missing in pages:
        for topic, all_ids in published.items():
            gone = {n for n in all_ids if start < n <= ids[-1]}.difference(ids)
            assert all(number <= missing.get(topic, 0) for number in gone)
            unread += len(gone)
    assert unread > 0, "or nothing was tested"


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


# ---- views ---------------------------------------------------------------------------------------

def test_views(durable):
    assert durable.execute("SELECT version, head, events, first_id, last_id, last_at,"
                           " subscriptions, removed_up_to, publishers_waiting"
                           " FROM pgsse.status") == [
                               (1, 1, 0, None, None, None, 0, None, 0)]
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
