"""The page of web/, in Chromium: wide, and as narrow as a telephone."""

import json
import shutil

import pytest

import program
from deployment import Deployment
from schema import installed
from waiting import wait_for
from webdriver import Page

BUTTON_IS_FREE = """
const button = document.querySelector(arguments[0]);
button.scrollIntoView({ block: "center" });
const { left, right, top, bottom } = button.getBoundingClientRect();
return [[left, top], [right, top], [left, bottom], [right, bottom]].every(([x, y]) => {
  const inside = [x + (x === left ? 8 : -8), y + (y === top ? 3 : -3)];
  return document.elementFromPoint(...inside) === button;
});"""
CELLS_ARE_WHOLE = """
const limit = document.querySelector(".events").getBoundingClientRect().right;
return [...document.querySelectorAll("#events td")].every((cell) =>
  cell.scrollWidth <= cell.clientWidth && cell.getBoundingClientRect().right <= limit);"""
KEEP_STATES = """
window.states = [];
const state = document.querySelector("#state");
new MutationObserver(() => states.push(state.textContent)).observe(state, { childList: true });"""
ROWS = """
return [...document.querySelectorAll("#events tr")].map((row) =>
  [...row.cells].slice(1, 4).map((cell) => cell.textContent));"""
NOTICES = """
return [...document.querySelectorAll("#events tr.notice")].map((row) => row.cells[2].textContent);"""
A_LONG_ANSWER = """
const real = window.fetch;
window.fetch = (url, options) => options.method !== "POST" ? real(url, options)
  : Promise.resolve(new Response("x".repeat(100000), { status: 502 }));"""


@pytest.fixture(scope="module")
def serving(cluster):
    database = cluster.create_database()
    with installed(database):
        deployment = Deployment(database.url, retry="1500")
        deployment.start()
        shutil.copytree(program.ROOT / "web", deployment.path("pages"))
        yield deployment
        complaints = deployment.close()
        print(deployment.logs())
        deployment.remove()
        assert not complaints, complaints
    cluster.give_back(database)


def page_of(serving, width):
    page = Page(width)
    page.address = f"http://127.0.0.1:{serving.port}/pages/?topics="
    return page


@pytest.fixture(scope="module")
def wide(serving):
    page = page_of(serving, 1280)
    yield page
    page.close()


@pytest.fixture(scope="module")
def narrow(serving):
    page = page_of(serving, 390)
    yield page
    page.close()


def subscribed(page, topics="alpha", described=None):
    page.open(page.address + topics)
    page.wait_text("#state", f"subscribed to {described or topics}")
    return page


def publish(page, data, type="", topic="alpha", kind="json"):
    """Data that is no string is sent as JSON."""
    page.fill("#publish [name=topic]", topic)
    page.fill("#publish [name=type]", type)
    page.fill("#publish [name=kind]", kind)
    page.fill("#publish [name=data]", data if isinstance(data, str) else json.dumps(data))
    page.click("#publish button")


def test_what_arrives_is_shown_and_positions_are_not(wide):
    subscribed(wide)
    publish(wide, {"n": 1})
    wide.wait_text("#answer", "201 ")
    wide.wait_text("#count", "1")
    assert wide.run(ROWS) == [["alpha", "message", '{"n":1}']]


def test_events_of_any_type_are_shown(wide, serving):
    subscribed(wide)
    for number, type in enumerate(("stranger", "größe", "message")):
        answer = serving.post("alpha", json.dumps({"data": number, "event": type}))
        assert answer.status == 200
    publish(wide, '"here"', "published")
    wide.wait_text("#count", "4")
    assert wide.run(ROWS) == [["alpha", "published", '"here"'], ["alpha", "message", "2"],
                              ["alpha", "größe", "1"], ["alpha", "stranger", "0"]]


def test_several_names_and_patterns(wide):
    """With spaces about them; an event that two of them match is shown once."""
    subscribed(wide, " Alpha , orders.*,*s.7", "Alpha, orders.*, *s.7")
    for topic in ("orders", "orders.7", 'orders."<b>', "alpha", "Alpha"):
        publish(wide, topic, topic=topic, kind="text")
        wide.wait_text("#answer", "201 ")
        wide.run("document.querySelector('#answer').replaceChildren()")
    wide.wait_text("#count", "3")
    assert wide.run(ROWS) == [["Alpha", "message", '"Alpha"'],
                              ['orders."<b>', "message", '"orders.\\"<b>"'],
                              ["orders.7", "message", '"orders.7"']]


def test_no_name_is_everything(wide):
    subscribed(wide, "", "everything")
    publish(wide, "12345678901234567890.10", topic="any thing")
    wide.wait_text("#count", "1")
    assert wide.run(ROWS) == [["any thing", "message", "12345678901234567890.10"]]


def test_text_is_sent_as_its_text(wide, serving):
    subscribed(wide)
    plain = serving.stream()
    publish(wide, '{"two":\nlines', kind="text")
    wide.wait_text("#count", "1")
    assert plain.next_event().data == '{"two":\nlines'
    plain.close()
    assert wide.run(ROWS) == [["alpha", "message", '"{\\"two\\":\\u000alines"']]
    publish(wide, '{"two":\nlines')
    wide.wait_text("#answer", "not JSON")


def test_a_broadcast(wide):
    subscribed(wide, "other")
    wide.click("#publish [name=broadcast]")
    publish(wide, "1")
    wide.wait_text("#count", "1")
    assert wide.run(ROWS) == [["*", "message", "1"]]


def test_a_page_that_was_left_has_no_stream(wide, serving):
    """Or each one that the browser keeps for its "back" takes one of six connections. Such a page
    goes on where it was."""
    subscribed(wide)
    wide.open(wide.address.replace("/?topics=", "/style.css"))
    serving.wait_totals(subscribers=0)
    assert serving.post("alpha", '{"data":1}').status == 200
    wide.run("history.back()")
    wide.wait_text("#state", "subscribed to alpha")
    was_kept = wide.run("return performance.getEntriesByType('navigation')[0].type") == "navigate"
    wide.wait_text("#count", "2" if was_kept else "0")
    assert wide.run(NOTICES) == ["reconnected"] * was_kept


def test_a_stream_that_is_refused_says_why(wide):
    wide.open(wide.address + "user:anna")
    wide.wait_text("#state", "403 ")
    assert wide.run("return document.querySelector('#stop').disabled")


def test_reconnects_and_what_the_server_says_have_rows(wide, serving):
    """What was published meanwhile comes after the row of the reconnect."""
    subscribed(wide)
    publish(wide, "1")
    wide.wait_text("#count", "1")
    serving.streams[0].stop()
    assert serving.post("alpha", '{"data":2}').status == 200
    serving.restart_stream(0)
    wide.wait_text("#count", "4")
    assert [row[1] for row in wide.run(ROWS)] == ["message", "reconnected", "close", "message"]
    assert wide.run(NOTICES) == ["reconnected", "close"]
    wide.run("document.querySelector('#clear').click()")
    subscribed(wide, "alpha&last=1", "alpha")
    serving.streams[0].kill()
    serving.broker.stop()
    serving.start_broker()
    serving.restart_stream(0)
    wide.wait_text("#count", "2")
    assert wide.run(NOTICES) == ["refresh", "reconnected"]


def test_what_the_server_says_at_the_end_stays(wide, serving):
    """Until the browser has come back."""
    subscribed(wide)
    wide.run(KEEP_STATES)
    serving.streams[0].stop()
    serving.restart_stream(0)
    wide.wait_text("#state", "subscribed to alpha")
    purpose, back = wide.run("return states")
    assert "on purpose" in purpose and back == "subscribed to alpha"


def test_long_data_is_cut(wide):
    subscribed(wide)
    publish(wide, json.dumps("x" * 100_000))
    wide.wait_text("#count", "1")
    (_, _, data), = wide.run(ROWS)
    assert data.endswith("(100002 characters)") and len(data) < 2100


def test_a_long_answer_is_cut(wide):
    """As a server in between may give."""
    subscribed(wide)
    wide.run(A_LONG_ANSWER)
    publish(wide, "1")
    wide.wait_text("#answer", "(100004 characters)")
    assert len(wide.text("#answer")) < 500


def test_a_wide_window_is_filled(wide):
    subscribed(wide)
    publish(wide, '"row"')
    wide.wait_text("#count", "1")
    ends = wide.run("return ['#publish', 'main'].map((name) => document.querySelector(name)"
                    ".closest('section, main').getBoundingClientRect().right)")
    assert ends[0] == ends[1]
    assert wide.run(BUTTON_IS_FREE, "#clear")
    wide.click("#clear")
    assert wide.run(ROWS) == []


def test_a_narrow_window_shows_all_of_a_row(narrow):
    subscribed(narrow)
    publish(narrow, {"text": "word " * 20, "long": "x" * 200})
    narrow.wait_text("#count", "1")
    assert narrow.run(CELLS_ARE_WHOLE)
    assert narrow.run(BUTTON_IS_FREE, "#clear")
    assert narrow.run("return document.documentElement.scrollWidth") <= 390
    sizes = narrow.run("return [...document.querySelectorAll('input, textarea')]"
                       ".map((field) => parseFloat(getComputedStyle(field).fontSize))")
    assert min(sizes) >= 16  # or a telephone zooms in


def open_others(page, count):
    """Streams of other tabs, as far as the browser's connections go."""
    page.run("window.others = Array.from({ length: arguments[0] }, () =>"
             " new EventSource('/topics/other/events'))", count)
    wait_for(lambda: page.run("return others.every((other) => other.readyState === 1)"), "all are open")


def test_publishing_in_the_seventh_tab_says_what_it_waits_for(wide):
    subscribed(wide)
    open_others(wide, 5)
    publish(wide, "1")
    wide.wait_text("#answer", "six connections")
    wide.run("others[0].close()")
    wide.wait_text("#answer", "201 ")


def test_subscribing_in_the_seventh_tab_says_what_it_waits_for(narrow):
    subscribed(narrow)
    narrow.click("#stop")
    open_others(narrow, 6)
    narrow.click("#subscribe button")
    narrow.wait_text("#state", "six connections")
    narrow.run("others[0].close()")
    narrow.wait_text("#state", "subscribed to alpha")
