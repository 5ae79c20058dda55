"""A handler made by hand: how the broker replays to one of its clients, and resumes a whole handler."""

import itertools
import struct

import pytest

import wire
from waiting import wait_for

BIG = "x" * 7000


@pytest.fixture
def broker(deploy, database):
    deployment = deploy(database.url, handler_queue_bytes="1MiB")
    deployment.start_broker()
    deployment.database = database
    return deployment


def publish(broker, count, topic="alpha", rest=""):
    before = broker.totals()["published"]
    for number in range(1, count + 1):
        broker.database.publish(topic, f"{number}{rest}")
    broker.wait_totals(published=before + count)


def place_in(body):
    """(marker, since) of the position that a body begins with."""
    _, marker, since = wire.Reader(body).position()
    return marker, since


def place_of_event(body):
    assert body[0] == 0  # it is not durable
    return place_in(body[1:])


def subscribed(hand, token=1, topic="alpha"):
    """A live client; its place."""
    hand.send(wire.subscribe(token, topic))
    return place_in(hand.next_of(wire.SUBSCRIBED)[8:])


def connected(broker, *frames):
    """A handler that says HELLO, and then that."""
    hand = broker.handler_by_hand(greet=False)
    hand.send(wire.hello() + b"".join(frames))
    hand.next_of(wire.WELCOME)
    return hand


UNASKED = (wire.ASK_REPORT, wire.POSITION)  # these may come at any time


def frames_to(hand, kind):
    """All frames up to one of that type, which is the last; but none that nobody asked for."""
    frames = []
    while not frames or frames[-1][0] != kind:
        frame = hand.next()
        assert frame is not None, f"closed, no frame of type {kind}"
        if frame[0] not in UNASKED or frame[0] == kind:
            frames.append(frame)
    return frames


# --- one client's replay ------------------------------------------------------------------------

QUESTIONS = itertools.count(1_000_000)


def replayed_until_now(hand):
    """Bytes of the REPLAYs that come before the answer to a question that is asked now."""
    frames = frames_before_answer(hand)
    assert {kind for kind, _ in frames} <= {wire.REPLAY, *UNASKED}
    return sum(len(body) for kind, body in frames if kind == wire.REPLAY)


def frames_before_answer(hand):
    token = next(QUESTIONS)
    hand.send(wire.ask_position(token))
    frames = []
    while True:
        kind, body = hand.next()
        if kind == wire.POSITION and wire.Reader(body).number("Q") == token:
            return frames
        frames.append((kind, body))


def test_a_replay_ends_where_its_credit_ends(broker):
    """While any is left one of any size may be sent, and the debt is carried."""
    hand = broker.handler_by_hand()
    start = subscribed(hand)
    hand.send(wire.unsubscribe(0, "alpha"))
    publish(broker, 40, rest=BIG)
    hand.send(wire.subscribe(2, "alpha", place=start))
    hand.next_of(wire.ACCEPTED)
    one = 7100
    sent = replayed_until_now(hand)
    assert wire.CREDIT_BYTES <= sent < wire.CREDIT_BYTES + one
    hand.send(wire.credit(2, sent - wire.CREDIT_BYTES))  # the debt, to the byte: nothing yet
    assert replayed_until_now(hand) == 0
    hand.send(wire.credit(2, 1))
    more = replayed_until_now(hand)
    assert 6900 < more < one
    hand.send(wire.credit(2, 1 << 20))
    rest = frames_to(hand, wire.SUBSCRIBED)
    assert {kind for kind, _ in rest} == {wire.REPLAY, wire.SUBSCRIBED}


def test_a_replaying_client_gets_live_events_only_when_it_is_subscribed(broker):
    hand = broker.handler_by_hand()
    start = subscribed(hand)
    hand.send(wire.unsubscribe(0, "alpha"))
    publish(broker, 20, rest=BIG)
    hand.send(wire.subscribe(2, "alpha", place=start))
    hand.next_of(wire.ACCEPTED)
    replayed_until_now(hand)
    publish(broker, 1)
    hand.send(wire.credit(2, 1 << 20))
    frames = frames_to(hand, wire.SUBSCRIBED)
    marker, last = [place_of_event(body[8:]) for kind, body in frames if kind == wire.REPLAY][-1]
    assert last == start[1] + 21
    publish(broker, 1)
    assert place_of_event(hand.next_of(wire.EVENT)) == (marker, last + 1)


def test_accepted_tells_the_topics_in_the_order_of_the_question(broker):
    hand = broker.handler_by_hand()
    names = [f"t{number * 37 % 64}" for number in range(64)]
    hand.send(wire.subscribe(1, *names) + wire.subscribe(2, "gamma"))
    for token, wanted in ((1, names), (2, ["gamma"])):
        body = wire.Reader(hand.next_of(wire.ACCEPTED))
        assert (body.number("Q"), body.number("B")) == (token, 0)
        body.position()
        assert body.topics() == wanted and body.body == b""


def test_an_unsubscribe_ends_a_replay(broker):
    hand = broker.handler_by_hand()
    start = subscribed(hand)
    publish(broker, 40, rest=BIG)
    hand.send(wire.subscribe(2, "alpha", place=start))
    hand.next_of(wire.REPLAY)
    hand.send(wire.unsubscribe(2, "alpha") + wire.credit(2, 1 << 20))
    broker.wait_totals(subscribers=1)
    assert wire.SUBSCRIBED not in {kind for kind, _ in frames_before_answer(hand)}


# --- a handler that resumes -----------------------------------------------------------------------

def live_frames(broker, count):
    """(the handler's first place, the EVENT bodies that it gets live)"""
    hand = broker.handler_by_hand()
    start = subscribed(hand)
    for number in range(1, count + 1):
        broker.database.publish("beta", number)
        broker.database.publish("alpha", number, id=f"own-{number}")
    frames = [hand.next_of(wire.EVENT) for _ in range(count)]
    hand.close()
    broker.wait_totals(handlers=0)
    return start, frames


def test_a_handler_resumes_from_each_place(broker):
    """The same frames as live, a POSITION, then its subscriptions."""
    start, frames = live_frames(broker, 5)
    marker = start[0]
    for since in range(start[1], start[1] + 11):
        hand = connected(broker, wire.resume((marker, since), alpha=3, gamma=1),
                         wire.subscribe(7, "alpha"))
        got = frames_to(hand, wire.POSITION)
        assert [body for _, body in got[:-1]] == \
            [body for body in frames if place_of_event(body)[1] > since]
        assert {kind for kind, _ in got[:-1]} <= {wire.EVENT}
        assert place_in(got[-1][1][8:]) == (marker, start[1] + 10)
        assert [kind for kind, _ in frames_to(hand, wire.SUBSCRIBED)] == \
            [wire.ACCEPTED, wire.SUBSCRIBED]
        hand.close()


def test_without_place_it_is_at_the_head(broker):
    _, frames = live_frames(broker, 2)
    hand = connected(broker, wire.resume(), wire.subscribe(7, "alpha"))
    (_, body), = frames_to(hand, wire.POSITION)
    assert place_in(body[8:]) == place_of_event(frames[-1])
    assert [kind for kind, _ in frames_to(hand, wire.ACCEPTED)] == [wire.ACCEPTED]


def test_a_resume_from_an_unknown_place_is_refused_once(broker):
    hand = connected(broker, wire.resume(("abcdefghijklm", 4), alpha=1, beta=2))
    kind, body = hand.next()
    refresh = wire.Reader(body)
    assert kind == wire.REFRESH
    assert (refresh.number("Q"), refresh.number("B"), refresh.text()) == (0, 0, b"")
    place = refresh.position()
    assert refresh.number("B") == 1 and refresh.number("Q") == 2 ** 64 - 1  # restart; who knows
    kind, body = hand.next()
    assert kind == wire.POSITION and place_in(body[8:]) == place[1:]
    broker.database.publish("alpha", 1)
    assert [kind for kind, _ in frames_to(hand, wire.EVENT)] == [wire.EVENT]
    broker.wait_totals(subscribers=3)


def test_a_resume_in_pieces(broker):
    """Several RESUMEs count as one: nothing is answered before the last."""
    start, frames = live_frames(broker, 2)
    hand = connected(broker, wire.resume(start, is_last=False, alpha=1))
    hand.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        hand.next()
    hand.socket.settimeout(5)
    hand.send(wire.resume(start, beta=1))
    got = frames_to(hand, wire.POSITION)
    assert [kind for kind, _ in got] == [wire.EVENT] * 4 + [wire.POSITION]
    assert [body for _, body in got[1:-1:2]] == frames


def test_a_handler_that_resumes_and_does_not_read_is_kept(broker):
    """Its queue is filled to a part only; the rest waits in the log, and its subscriptions wait for
    that."""
    hand = broker.handler_by_hand()
    start = subscribed(hand)
    hand.close()
    wait_for(lambda: broker.totals()["handlers"] == 0, "it is gone")
    publish(broker, 500, rest=BIG)
    hand = connected(broker, wire.resume(start, alpha=1), wire.subscribe(7, "alpha"))
    publish(broker, 100, rest=BIG)
    frames = frames_to(hand, wire.POSITION)
    assert {kind for kind, _ in frames[:-1]} == {wire.EVENT}
    assert [kind for kind, _ in frames_to(hand, wire.SUBSCRIBED)] == [wire.ACCEPTED, wire.SUBSCRIBED]
    places = [place_of_event(body)[1] for _, body in frames[:-1]]
    assert places == list(range(start[1] + 1, start[1] + 601))
