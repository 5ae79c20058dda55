"""SIGHUP: the broker reads its configuration again, and listens to other channels without missing a
notification on those that stay."""

import signal
import threading
import time

import pytest

from waiting import wait_for


class Conf:
    """The broker's file."""

    def __init__(self, world):
        self.world = world
        self.path = world.path("pgsse.conf")

    def write(self, text):
        """At once: a file that is half written is a configuration, too."""
        new = self.world.path("pgsse.conf.new")
        new.write_text(text + "\n")
        new.rename(self.path)
        return self

    def reload(self, text=None, wait=True):
        """Until it has switched, if there is something to switch."""
        before = self.world.broker.log().count("other channels:")
        if text is not None:
            self.write(text)
        self.world.broker.send_signal(signal.SIGHUP)
        if wait:
            wait_for(lambda: self.world.broker.log().count("other channels:") > before,
                     lambda: self.world.broker.log())


@pytest.fixture(name="world")
def fixture_world(deploy, database):
    world = deploy(database.url, keep_alive="200ms", canary_interval="1s")
    world.database = database
    world.conf = Conf(world)
    return world


def start(world, text=""):
    world.conf.write(text)
    world.settings["config"] = str(world.conf.path)
    world.start()
    world.publish("ready", 0)  # so all have read the file
    return world


def poll_event(world, topic, channel, seconds=5):
    """Notifies on the channel until an event comes on the topic."""
    stream = world.stream(topic)
    stop = threading.Event()

    def send():
        while not stop.is_set():
            world.database.execute(f"SELECT pg_notify('{channel}', 'x')")
            time.sleep(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return stream.next_event().data
    finally:
        stop.set()
        sender.join()
        stream.close()


def test_channels_are_added_and_removed(world):
    start(world)
    world.conf.reload("channels = orders")
    assert poll_event(world, "orders", "orders") == "x"
    world.conf.reload("channels = stock -> orders")
    assert poll_event(world, "orders", "stock") == "x"
    stream = world.stream("orders")
    world.database.execute("NOTIFY orders, 'no'")
    world.database.publish("orders", "last")
    assert stream.next_event().data == '"last"'


def test_no_gap_and_nothing_twice(world):
    """While channels come and go as fast as they can, every event of the others comes once, in order, and
    no stream gets a refresh; nor does one that comes back across the switches."""
    start(world, "channels = stays")
    live = world.stream("alpha")
    raw = world.stream("stays")
    first = None
    total = 1000
    failures = []

    def publish():
        try:
            for number in range(total):
                world.database.publish("alpha", number)
                world.database.execute(f"SELECT pg_notify('stays', '{number}')")
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    publisher = threading.Thread(target=publish)
    publisher.start()
    number = 0
    while publisher.is_alive():
        extra = ", ".join(f"c{number}_{i} -> x" for i in range(number % 7))
        world.conf.reload("channels = stays" + (f", {extra}" if extra else ""), wait=False)
        number += 1
        time.sleep(0.02)
    publisher.join()
    assert not failures
    got = []
    for _ in range(total):
        event = live.next_event()
        assert event.event == "message", event
        first = first or event.id
        got.append(int(event.data))
    assert got == list(range(total))
    wait_for(lambda: world.topic("stays")["published"] == total, lambda: world.health())
    assert [int(raw.next_event().data) for _ in range(total)] == list(range(total))
    assert world.broker.log().count("other channels:") > 3
    assert "is deaf" not in world.broker.log() and world.totals()["reconnects"] == 0
    assert world.totals()["bad_notifications"] == 0
    back = world.stream("alpha", {"Last-Event-ID": first})
    events = [back.next_event() for _ in range(total - 1)]
    assert [event.data for event in events] == [str(n) for n in range(1, total)]


def test_a_position_of_before_is_good_on_another_broker(world, deploy, database):
    """Markers of the new set count from the switch, on each machine from its own."""
    start(world, "channels = a")
    other = deploy(database.url, keep_alive="200ms", canary_interval="1s", channels="a, b").start()
    world.conf.reload("channels = a, b")
    wait_for(lambda: world.request("HEAD", "/topics/alpha/events").status == 200, "it has a position")
    stream = world.stream("alpha")
    database.publish("alpha", 0)
    first = stream.next_event()
    for number in (1, 2):
        database.publish("alpha", number)
        database.execute(f"NOTIFY b, '{number}'")
    assert [stream.next_event().data for _ in range(2)] == ["1", "2"]
    back = other.stream("alpha", {"Last-Event-ID": first.id})
    event = back.next_event()
    assert event.event != "refresh", event
    assert [event.data, back.next_event().data] == ["1", "2"]


def test_the_last_of_two_wins(world):
    start(world, "channels = one")
    world.conf.reload("channels = one -> wrong", wait=False)
    world.conf.reload("channels = one -> right")
    assert poll_event(world, "right", "one") == "x"
    stream = world.stream("wrong")
    world.database.execute("NOTIFY one, 'no'")
    world.database.publish("wrong", "last")
    assert stream.next_event().data == '"last"'


def test_there_and_back_again(world):
    """Two SIGHUPs at once, the second undoes the first: markers go on."""
    start(world, "channels = one")
    for _ in range(20):
        world.conf.reload("channels = two", wait=False)
        world.conf.reload("channels = one", wait=False)
    assert poll_event(world, "one", "one") == "x"
    position = world.request("HEAD", "/topics/alpha/events")
    assert position.status == 200
    assert world.totals()["reconnects"] == 0


@pytest.mark.parametrize("text, words", [
    ("channels = a, a", "'a'"), ("channels = pgsse_marker", "pgsse's own"), ("nonsense", "'=' is missing"),
    ("no_such_key = 1", "no_such_key"), ("keep_alive = soon", "keep_alive"),
    ("channels = b\nchannels = c", "already in line"),
])
def test_a_bad_file_changes_nothing(world, text, words):
    start(world, "channels = one")
    world.conf.reload(text, wait=False)
    log = wait_for(lambda: "cannot be used" in world.broker.log() and world.broker.log(), "it is logged")
    assert words in log and "error" in log
    assert poll_event(world, "one", "one") == "x"
    world.conf.path.unlink()
    world.conf.reload(wait=False)
    wait_for(lambda: world.broker.log().count("cannot be used") == 2, "it is logged")
    assert poll_event(world, "one", "one") == "x"


def test_what_needs_a_restart_is_named(world):
    start(world)
    world.conf.reload("ring_capacity = 7\nqueue_warn = 0.9\nlog_level = debug\nchannels = one\n"
                      "keep_alive = 3s\nlisten_database_url = postgresql://u:secret@localhost/x")
    log = wait_for(lambda: "needs a restart" in world.broker.log() and world.broker.log(), "it is logged")
    line, = [line for line in log.splitlines() if "needs a restart" in line]
    names = line.rpartition(": ")[2].split(", ")
    assert set(names) == {"ring_capacity", "queue_warn", "listen_database_url"}
    assert "secret" not in world.broker.log()
    assert poll_event(world, "one", "one") == "x"


def test_while_postgres_is_away(deploy, fragile_cluster, fragile_database):
    world = deploy(fragile_database.url, keep_alive="200ms", canary_interval="1s")
    world.database = fragile_database
    world.conf = Conf(world)
    start(world)
    fragile_cluster.stop()
    wait_for(lambda: not world.totals()["listen_connected"], "it has noticed")
    world.conf.reload("channels = one")
    world.conf.reload("channels = two -> one")
    fragile_cluster.start()
    wait_for(lambda: world.totals()["listen_connected"], "it is back", 15)
    world.wait_ready()
    assert poll_event(world, "one", "two") == "x"


def test_handlers_go_on(world):
    start(world)
    stream = world.stream("alpha")
    for handler in (world.streams[0], world.publisher):
        handler.send_signal(signal.SIGHUP)
        wait_for(lambda handler=handler: "SIGHUP" in handler.log(), "it is logged")
    world.publish("alpha", 1)
    assert stream.next_event().data == "1"
