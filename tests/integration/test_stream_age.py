"""max_stream_age: a stream is ended on purpose before a web server would kill it, and resumed."""

import re
import time

import pytest

GOODBYE = re.compile(rb"retry: (\d+)\n: max_stream_age reached\nevent: close\ndata: \{\}\n\n")
AGE = 1.0


@pytest.fixture
def aging(deploy, database):
    deployment = deploy(database.url, max_stream_age=f"{AGE:.0f}s").start()
    deployment.database = database
    return deployment


def test_an_old_stream_is_ended_in_order(aging):
    started = time.monotonic()
    stream = aging.stream()
    aging.publish("alpha", 1)
    blocks = stream.read_to_end()
    lasted = time.monotonic() - started
    goodbye = GOODBYE.fullmatch(blocks[-1].raw)
    assert goodbye, blocks
    assert 400 <= int(goodbye[1]) <= 600  # a tenth of retry, jittered by a fifth
    assert [block.data for block in blocks if block.event == "message"] == ["1"]
    assert stream.ended_in_order
    assert AGE * 0.9 <= lasted < AGE + 0.3


def test_the_request_is_ended_in_order(aging):
    """As the web server sees it."""
    connection = aging.keep(aging.streams[0].connect())
    connection.ask("GET", "/topics/alpha/events").read_headers()
    assert connection.read_to_end()[-1].event == "close"
    connection.wait_closed()
    assert connection.end_status == (0, 0)


def test_streams_that_were_opened_together_do_not_end_together(aging):
    started = time.monotonic()
    streams = [aging.keep(aging.streams[0].connect()) for _ in range(30)]
    for stream in streams:
        stream.ask("GET", "/topics/alpha/events").read_headers()
    opened = time.monotonic() - started
    waiting = dict.fromkeys(streams)
    while any(end is None for end in waiting.values()):
        for stream in [one for one, end in waiting.items() if end is None]:
            stream._fill(time.monotonic() + 0.001)
            if stream.is_ended:
                waiting[stream] = time.monotonic() - started
    assert min(waiting.values()) >= AGE * 0.9
    assert max(waiting.values()) < AGE + opened + 0.2
    assert max(waiting.values()) - min(waiting.values()) > AGE * 0.04
    assert all(GOODBYE.fullmatch(one.read_to_end()[-1].raw) for one in streams)


def test_its_client_resumes_and_misses_nothing(aging):
    """Events before, between and after, each once and in order, and no refresh."""
    last = None
    got = []
    for round_ in range(3):
        headers = {"Last-Event-ID": last} if last else {}
        stream = aging.stream(headers=headers)
        if stream.greeting.data is not None:
            got.append(stream.greeting.data)  # a refresh in the first block
        aging.database.publish("alpha", f"during {round_}")
        for block in stream.read_to_end():
            if block.event == "message":
                got.append(block.json())
            elif block.data is not None and block.event != "close":
                got.append(block.raw)
            last = block.id or last
        last = last or stream.greeting.id
        aging.database.publish("alpha", f"after {round_}")
    wanted = [text for round_ in range(3) for text in (f"during {round_}", f"after {round_}")][:-1]
    assert got == wanted


def test_a_waiting_stream_becomes_old_as_well(deploy):
    """No broker: nothing was sent but ": waiting"."""
    deployment = deploy(None, max_stream_age="1s", keep_alive="300ms")
    handler = deployment.start_stream()
    started = time.monotonic()
    connection = deployment.keep(handler.connect())
    connection.ask("GET", "/topics/alpha/events", HTTP_LAST_EVENT_ID="0.abcdefghijklm.3")
    connection.read_headers()
    blocks = connection.read_to_end()
    assert blocks[0].comments == ["waiting"]
    assert blocks[-1].event == "close" and blocks[-1].id is None
    assert AGE * 0.9 <= time.monotonic() - started < AGE + 0.2


def test_a_stream_whose_broker_went_away_becomes_old_as_well(aging):
    stream = aging.stream()
    aging.broker.stop()
    blocks = stream.read_to_end()
    assert GOODBYE.fullmatch(blocks[-1].raw), blocks


def test_a_client_that_does_not_read_is_ended_too(aging):
    """The goodbye waits behind the record begun; what had not begun is dropped, to be resumed."""
    connection = aging.keep(aging.streams[0].connect())
    connection.ask("GET", "/topics/alpha/events").read_headers()
    for number in range(120):
        aging.database.publish("alpha", [number, "x" * 7000])
    time.sleep(AGE + 0.2)  # nothing to wait for: only that its age passes while it does not read
    blocks = connection.read_to_end()
    assert GOODBYE.fullmatch(blocks[-1].raw), blocks[-1]
    numbers = [block.json()[0] for block in blocks if block.event == "message"]
    assert numbers == list(range(len(numbers))) and 0 < len(numbers) < 120
    connection.wait_closed()
    assert connection.end_status == (0, 0)


def test_by_default_no_stream_is_too_old(running):
    stream = running.stream()
    stream.silence(0.5)


def test_other_requests_have_no_age(deploy, database):
    """Shorter than anything takes: HEAD and health are answered, a stream is greeted and ended."""
    deployment = deploy(database.url, max_stream_age="1ms").start()
    for _ in range(5):
        assert deployment.request("HEAD", "/topics/alpha/events").status == 200
        assert deployment.request("GET", "/healthz").status == 200
    stream = deployment.keep(deployment.streams[0].connect()).ask("GET", "/topics/alpha/events")
    blocks = stream.read_headers().read_to_end()
    assert blocks[0].comments == ["listening alpha"] and GOODBYE.fullmatch(blocks[-1].raw)
