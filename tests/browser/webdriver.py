"""Chromium, driven: WebDriver over plain HTTP, as chromedriver speaks it."""

import json
import re
import urllib.error
import urllib.request

import program
from clients import CHROMIUM, Group
from waiting import wait_for

SECONDS = 20
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Page:
    """One window of so many CSS pixels."""

    def __init__(self, width, height=900):
        self.group = Group("chromedriver")
        try:
            self._start(width, height)
        except BaseException:
            self.group.close()
            raise

    def _start(self, width, height):
        self.group.start([program.tool("chromedriver"), "--port=0"])
        self._base = f"http://127.0.0.1:{self._port()}"
        options = {"binary": program.tool("chromium"),
                   "args": [*CHROMIUM, f"--user-data-dir={self.group.directory}/profile"],
                   "mobileEmulation": {"deviceMetrics": {"width": width, "height": height,
                                                         "pixelRatio": 1, "touch": False}}}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{session['sessionId']}"

    def _port(self):
        found = wait_for(lambda: re.search(r"successfully on port (\d+)", self.group.log()),
                         self.group.log, SECONDS)
        return int(found[1])

    def _ask(self, method, path, body=None):
        request = urllib.request.Request(self._base + path, method=method,
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with NO_PROXY.open(request, timeout=SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from None

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What the body of a function returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def fill(self, selector, text):
        self.run("document.querySelector(arguments[0]).value = arguments[1]", selector, text)

    def click(self, selector):
        """As a visitor does: what covers the button gets the click, and that fails."""
        element, = self._ask("POST", "/element", {"using": "css selector", "value": selector}).values()
        self._ask("POST", f"/element/{element}/click", {})

    def wait_text(self, selector, words, seconds=SECONDS):
        """Until it contains these."""
        wait_for(lambda: words in self.text(selector),
                 lambda: f"{words!r} in {selector}: {self.text(selector)!r}", seconds)

    def close(self):
        try:
            self._ask("DELETE", "")
        finally:
            self.group.close()
