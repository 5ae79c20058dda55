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
  [...row.cells].slice(1, 3).map((cell) => cell.textContent));"""


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
    page.address = f"http://127.0.0.1:{serving.port}/pages/?topic=alpha"
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


def subscribed(page, query=""):
    page.open(page.address + query)
    page.wait_text("#state", "subscribed to alpha")
    return page


def publish(page, data, type=""):
    page.fill("#publish [name=type]", type)
    page.fill("#publish [name=data]", json.dumps(data))
    page.click("#publish button")


def test_what_arrives_is_shown_and_positions_are_not(wide):
    subscribed(wide)
    publish(wide, {"n": 1})
    wide.wait_text("#answer", "200 ")
    wide.wait_text("#count", "1")
    assert wide.run(ROWS) == [["message", '{"n":1}']]


def test_types_that_the_page_listens_for(wide, serving):
    """One that is named beside the topic, one that is published here; of others it says why not."""
    subscribed(wide, "&type=named")
    assert "only the types" in wide.text("#subscribe-title ~ .hint")
    for type in ("stranger", "named"):
        answer = serving.post("alpha", json.dumps({"data": type, "event": type}))
        assert answer.status == 200
    publish(wide, "here", "published")
    wide.wait_text("#count", "2")
    assert wide.run(ROWS) == [["published", '"here"'], ["named", '"named"']]
    wide.click("#subscribe button")  # a new stream listens for it, too
    wide.wait_text("#state", "subscribed")
    publish(wide, "again", "published")
    wide.wait_text("#count", "3")


def test_what_the_server_says_at_the_end_stays(wide, serving):
    """Until the browser has come back."""
    subscribed(wide)
    wide.run(KEEP_STATES)
    serving.streams[0].stop()
    serving.restart_stream(0)
    wide.wait_text("#state", "subscribed to alpha")
    purpose, back = wide.run("return states")
    assert "on purpose" in purpose and back == "subscribed to alpha"


def test_a_long_answer_is_cut(wide):
    subscribed(wide)
    publish(wide, "x" * 100_000)
    wide.wait_text("#answer", "characters)")
    wide.wait_text("#count", "1")
    assert len(wide.text("#answer")) < 500
    (_, data), = wide.run(ROWS)
    assert data.endswith("(100002 characters)") and len(data) < 2100


def test_a_wide_window_is_filled(wide):
    subscribed(wide)
    publish(wide, "row")
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
    publish(wide, 1)
    wide.wait_text("#answer", "six connections")
    wide.run("others[0].close()")
    wide.wait_text("#answer", "200 ")


def test_subscribing_in_the_seventh_tab_says_what_it_waits_for(narrow):
    subscribed(narrow)
    narrow.click("#stop")
    open_others(narrow, 6)
    narrow.click("#subscribe button")
    narrow.wait_text("#state", "six connections")
    narrow.run("others[0].close()")
    narrow.wait_text("#state", "subscribed to alpha")
