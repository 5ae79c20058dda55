"""The log is bounded, and says so: who comes from before what it has dropped gets a refresh, then what
is kept."""

import pytest

import program
from publisher import Publisher
from source import Source
from waiting import wait_for

GAP = {"reason": "gap", "dropped": None, "topics": ["alpha"]}
BIG = "x" * 7000


@pytest.fixture
def keeping(deploy, database):
    """keeping(**settings): a deployment, and its position before any event, in .start_position."""
    def start(**settings):
        deployment = deploy(database.url, **settings)
        deployment.start_broker()
        deployment.start_stream()
        deployment.wait_served()
        deployment.start_position = Source(deployment).greeted().cut().position
        return deployment
    return start


def publish_numbers(deployment, database, first, last, topic="alpha", rest=""):
    before = deployment.totals()["published"]
    database.execute("SELECT pg_notify('topic_broadcast_' || n %% 8, json_build_object('topic',"
                     " %s, 'data', n || %s)::text) FROM generate_series(%s, %s) n",
                     (topic, rest, first, last))
    deployment.wait_totals(published=before + last - first + 1)


def numbers(source):
    return ["gap" if block.event == "refresh" else int(block.json().rstrip("x"))
            for block in source.events]


def positions(deployment, database, count, topic="alpha", rest=""):
    """The places of so many events that have just been published, and the start before them."""
    live = Source(deployment, topic).greeted()
    publish_numbers(deployment, database, 1, count, topic, rest)
    live.read_to(f"{count}{rest}").cut()
    return [live.greeting.id] + [block.id for block in live.events]


# --- so many events of one topic --------------------------------------------------------------------

def test_a_place_before_the_ring_gets_a_refresh_and_what_is_kept(keeping, database):
    """Of 12 events 8 to 12 are kept; who has 7 misses nothing."""
    deployment = keeping(ring_capacity="5")
    places = positions(deployment, database, 12)
    for have, place in enumerate(places):
        source = Source(deployment, position=place).greeted()
        wanted = (["gap"] if have < 7 else []) + list(range(max(have + 1, 8), 13))
        if wanted:
            source.read_to("12")
        assert numbers(source) == wanted, have
        if have < 7:
            assert source.events[0].json() == GAP


def test_after_that_refresh_it_is_live(keeping, database):
    deployment = keeping(ring_capacity="5")
    publish_numbers(deployment, database, 1, 12)
    source = Source(deployment, position=deployment.start_position).greeted()
    source.read_to("12")
    publish_numbers(deployment, database, 13, 14)
    assert numbers(source.read_to("14")) == ["gap", *range(8, 15)]


def test_zero_says_when_something_was_dropped(keeping, database):
    deployment = keeping(ring_capacity="5")
    publish_numbers(deployment, database, 1, 5)
    assert numbers(Source(deployment, position="0").read_to("5")) == [1, 2, 3, 4, 5]
    publish_numbers(deployment, database, 6, 6)
    assert numbers(Source(deployment, position="0").read_to("6")) == ["gap", 2, 3, 4, 5, 6]


def test_the_ring_of_one_topic_is_not_that_of_another(keeping, database):
    deployment = keeping(ring_capacity="5")
    publish_numbers(deployment, database, 1, 3)
    publish_numbers(deployment, database, 1, 1000, "flood")
    source = Source(deployment, position=deployment.start_position).read_to("3")
    assert numbers(source) == [1, 2, 3]


# --- so many bytes -------------------------------------------------------------------------------------

def test_history_bytes_are_of_all_topics(keeping, database):
    """Some 30 of 7 KB; a quiet topic's old event is the first to leave."""
    deployment = keeping(history_bytes="220KiB")
    publish_numbers(deployment, database, 1, 1)
    publish_numbers(deployment, database, 1, 10, "flood", BIG)
    source = Source(deployment, position=deployment.start_position).read_to("1")
    assert numbers(source) == [1]
    publish_numbers(deployment, database, 11, 50, "flood", BIG)
    source = Source(deployment, position=deployment.start_position).greeted()
    assert source.next_event().json() == GAP
    publish_numbers(deployment, database, 2, 2)
    assert numbers(source.read_to("2")) == ["gap", 2]
    flood = Source(deployment, "flood", deployment.start_position).read_to(f"50{BIG}")
    kept = numbers(flood)[1:]
    assert numbers(flood)[0] == "gap" and kept == list(range(kept[0], 51)) and 25 < len(kept) < 32


def test_each_place_around_the_floor(keeping, database):
    deployment = keeping(history_bytes="100KiB")
    places = positions(deployment, database, 30, rest=BIG)
    kept = numbers(Source(deployment, position=places[0]).read_to(f"30{BIG}"))
    assert kept[0] == "gap" and 8 < len(kept) < 16
    first = kept[1]
    for have in range(first - 3, 30):
        source = Source(deployment, position=places[have]).read_to(f"30{BIG}").cut()
        wanted = list(range(max(have + 1, first), 31))
        assert numbers(source) == (["gap"] if have < first - 1 else []) + wanted, have


def test_nothing_is_kept_and_that_is_said(keeping, database):
    deployment = keeping(history_bytes="0")
    places = positions(deployment, database, 2)
    source = Source(deployment, position=places[1]).greeted()
    assert source.next_event().json() == GAP
    publish_numbers(deployment, database, 3, 3)
    assert numbers(source.read_to("3")) == ["gap", 3]
    source = Source(deployment, position=source.position).greeted()
    publish_numbers(deployment, database, 4, 4)
    assert numbers(source.read_to("4")) == [4]


def test_the_memory_of_the_broker_is_bounded(keeping, database):
    deployment = keeping(history_bytes="4MiB", ring_capacity="1000000")
    publish_numbers(deployment, database, 1, 1000, rest=BIG)
    before = deployment.broker.memory_kib()
    publish_numbers(deployment, database, 1, 3000, rest=BIG)
    if not program.is_sanitized():
        assert deployment.broker.memory_kib() - before < 3000


# --- dropped in the middle of a replay ------------------------------------------------------------------

def test_eviction_overtakes_a_slow_replay(keeping, database):
    """A refresh stands where the gap is; everything else is there, in order."""
    deployment = keeping(history_bytes="2MiB", ring_capacity="100000")
    publish_numbers(deployment, database, 1, 200, rest=BIG)
    source = Source(deployment, position=deployment.start_position).greeted()
    source.next_event()  # its credit and its socket are full, and it reads no more
    publish_numbers(deployment, database, 201, 600, rest=BIG)
    source.read_to(f"600{BIG}")
    got = numbers(source)
    gap = got.index("gap")
    assert got[:gap] == list(range(1, gap + 1)) and 10 < gap < 200
    assert got[gap + 1:] == list(range(got[gap + 1], 601)) and 200 < len(got[gap + 1:]) < 400
    assert source.events[gap].json() == GAP
    assert source.events[gap].id == source.events[gap - 1].id  # where the stream goes on


def test_eviction_of_others_does_not_touch_a_replay(keeping, database):
    deployment = keeping(history_bytes="64MiB", ring_capacity="300")
    publish_numbers(deployment, database, 1, 200, rest=BIG)
    source = Source(deployment, position=deployment.start_position).greeted()
    source.next_event()
    publish_numbers(deployment, database, 1, 1000, "flood", BIG)
    source.read_to(f"200{BIG}")
    assert numbers(source) == list(range(1, 201))


def test_slow_replays_under_a_flood_lose_nothing_silently(keeping, database):
    """Whatever is dropped where: every missing event stands behind a refresh."""
    deployment = keeping(history_bytes="1MiB", ring_capacity="100000")
    publish_numbers(deployment, database, 1, 100, rest=BIG)
    sources = [Source(deployment, position=deployment.start_position) for _ in range(5)]
    for turn in range(1, 9):
        for who, source in enumerate(sources):
            for _ in range(who * 5):
                source.next_event()
        publish_numbers(deployment, database, turn * 100 + 1, turn * 100 + 100, rest=BIG)
    for source in sources:
        got = numbers(source.read_to(f"900{BIG}"))
        expected = 1
        for at, number in enumerate(got):
            if number != "gap":
                assert number == expected or at > 0 and got[at - 1] == "gap" and number > expected
                expected = number + 1
        assert got[-1] == 900


def test_a_topic_without_subscriber_leaves_nothing_when_its_events_have_left(keeping, database):
    deployment = keeping(ring_capacity="10", history_bytes="64KiB")
    with Publisher(database, "alpha") as publisher:
        wait_for(lambda: publisher.count > 20, "some")
    assert {topic["topic"] for topic in deployment.health()["topics"]} == {"alpha"}
    database.execute("SELECT pg_notify('topic_broadcast_0', json_build_object('topic', 't' || n,"
                     " 'data', n)::text) FROM generate_series(1, 2000) n")
    deployment.wait_totals(published=publisher.count + 2000)
    names = [topic["topic"] for topic in deployment.health()["topics"]]
    assert "alpha" not in names and 50 < len(names) < 600
    assert names == [f"t{number}" for number in range(2000, 2000 - len(names), -1)]
