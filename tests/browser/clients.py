"""Clients that open streams and report what they are handed: browsers, npm libraries, curl, requests.

Each is a process group of its own that ends with the test, or threads of this process."""

import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

import program

HERE = pathlib.Path(__file__).resolve().parent
PAGES = HERE / "pages"
STOP_SECONDS = 3

CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-breakpad", "--disable-dev-shm-usage"]

# Nothing of Firefox's own goes out: no updates, no telemetry, no remote settings, no probes.
FIREFOX = {"app.update.enabled": False, "app.normandy.enabled": False,
           "app.shield.optoutstudies.enabled": False, "browser.aboutwelcome.enabled": False,
           "browser.safebrowsing.malware.enabled": False, "browser.safebrowsing.phishing.enabled": False,
           "browser.region.network.url": "", "browser.search.update": False,
           "browser.shell.checkDefaultBrowser": False, "browser.topsites.contile.enabled": False,
           "datareporting.healthreport.uploadEnabled": False,
           "datareporting.policy.dataSubmissionEnabled": False, "dom.push.connection.enabled": False,
           "extensions.getAddons.cache.enabled": False, "extensions.systemAddon.update.enabled": False,
           "extensions.update.enabled": False, "geo.enabled": False,
           "media.gmp-manager.updateEnabled": False, "network.captive-portal-service.enabled": False,
           "network.connectivity-service.enabled": False, "network.dns.disablePrefetch": True,
           "network.prefetch-next": False, "network.trr.mode": 5,
           "services.settings.server": "data:,#", "toolkit.telemetry.enabled": False,
           "toolkit.telemetry.server": "", "toolkit.telemetry.unified": False}


class Group:
    """A process and its children, in a directory of their own, which is their home."""

    def __init__(self, name):
        self.name = name
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"pgsse-{name}-", dir="/tmp"))
        self._processes = []

    def start(self, argv, pass_fds=(), **env):
        """setpriv: it ends with this process, too, if that is killed."""
        home = str(self.directory)
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": home, "XDG_RUNTIME_DIR": home,
               "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "XDG_DATA_HOME": home, **env}
        with open(self.directory / "log", "ab") as log:
            self._processes.append(subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, argv)], env=env, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=pass_fds))

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def close(self):
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


# --- browsers: they are started with the address of the page ----------------------------------------

def start_chromium(group, url):
    group.start([program.tool("chromium"), *CHROMIUM, f"--user-data-dir={group.directory}/profile", url])


def start_firefox(group, url):
    profile = group.directory / "profile"
    profile.mkdir()
    (profile / "user.js").write_text("".join(
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in FIREFOX.items()))
    group.start([program.tool("firefox-esr"), "--headless", "--no-remote", "--profile", profile, url],
                MOZ_HEADLESS="1", MOZ_CRASHREPORTER_DISABLE="1")


def start_webkit(group, url):
    browsers = glob.glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
    assert browsers, "webkit2gtk's MiniBrowser is not installed"
    group.start([browsers[0], url], DISPLAY=start_display(group), GDK_BACKEND="x11",
                LIBGL_ALWAYS_SOFTWARE="1", NO_AT_BRIDGE="1")


def start_display(group):
    """The X server picks a free number and says it."""
    reading, writing = os.pipe()
    group.start([program.tool("Xvfb"), "-displayfd", writing, "-screen", "0", "1280x1024x24",
                 "-nolisten", "tcp"], pass_fds=(writing,))
    os.close(writing)
    with open(reading, encoding="ascii") as answer:
        number = answer.readline().strip()
    assert number, group.log()
    return f":{number}"


BROWSERS = {"chromium": start_chromium, "firefox": start_firefox, "webkit": start_webkit}


class Browser:
    def __init__(self, name):
        self.name = name
        self.group = Group(name)

    def start(self, base, streams, reports):
        query = urllib.parse.urlencode({"client": self.name, "report": reports.address,
                                        "streams": json.dumps(streams)})
        BROWSERS[self.name](self.group, f"{base}/pages/streams.html?{query}")

    def log(self):
        return self.group.log()

    def close(self):
        self.group.close()


# --- npm libraries ----------------------------------------------------------------------------------

class Library:
    def __init__(self, name, modules):
        """modules: the directory whose node_modules has it."""
        self.name = name
        self.modules = modules
        self.group = Group("node")

    def start(self, base, streams, reports):
        self.group.start([program.tool("node"), self.modules / "libraries.mjs", self.name, base,
                          json.dumps(streams), reports.address])

    def log(self):
        return self.group.log()

    def close(self):
        self.group.close()


# --- readers in this process ------------------------------------------------------------------------

class Decoder:
    """Lines to events, by one of the two rules with which libraries differ from the standard."""

    def __init__(self, is_eager):
        """is_eager: a blank line makes an event if any field was set. Otherwise only if there was
        data, and without data the id is forgotten."""
        self.is_eager = is_eager
        self.last_id = ""
        self.retry_seconds = 1
        self._fields = {}

    def take(self, line):
        """The event that ends with this line; None if none does."""
        if line:
            self._take_field(*line.partition(":")[::2])
            return None
        fields, self._fields = self._fields, {}
        if not fields or not (self.is_eager or "data" in fields):
            return None
        self.last_id = fields.get("id", self.last_id)
        return fields.get("event", "message"), fields.get("data", ""), self.last_id

    def _take_field(self, name, value):
        value = value.removeprefix(" ")
        if name == "retry":
            self.retry_seconds = int(value) / 1000
        if name == "data" and "data" in self._fields:
            value = self._fields["data"] + "\n" + value
        if name in ("data", "event", "id", "retry"):
            self._fields[name] = value

    def end(self):
        """The stream ended: half a block is thrown away."""
        self._fields = {}


class Reader:
    """A thread for each stream, which comes back with the last id."""

    def __init__(self, name, is_eager):
        self.name = name
        self.is_eager = is_eager
        self.faults = []
        self._is_open = True
        self._threads = []

    def start(self, base, streams, reports):
        for stream, path in streams.items():
            thread = threading.Thread(target=self._run, args=(base + path, stream, reports), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, url, stream, reports):
        decoder = Decoder(self.is_eager)
        try:
            while self._is_open:
                headers = {"Last-Event-ID": decoder.last_id} if decoder.last_id else {}
                for line in self.read_lines(url, headers, lambda: reports.add(self.name, stream, "open")):
                    event = decoder.take(line)
                    if not self._is_open:
                        return
                    if event:
                        reports.add(self.name, stream, *event)
                decoder.end()
                self._pause(decoder.retry_seconds)
        except Exception as fault:  # pylint: disable=broad-except
            self.faults.append(repr(fault))  # it belongs to the test that looks at this client

    def _pause(self, seconds):
        deadline = time.monotonic() + seconds
        while self._is_open and time.monotonic() < deadline:
            time.sleep(0.02)

    def log(self):
        return "\n".join(self.faults)

    def stop(self):
        self._is_open = False

    def close(self):
        self.stop()
        for thread in self._threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self._threads), f"{self.name} still reads"


class Requests(Reader):
    """Python's requests: it takes the character set from the header."""

    def __init__(self):
        super().__init__("requests", is_eager=True)

    def read_lines(self, url, headers, on_open):
        import requests  # pylint: disable=import-outside-toplevel # missing, it fails this client alone
        with contextlib.suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            with requests.get(url, headers=headers, stream=True, timeout=20) as response:
                if response.status_code == 200:
                    on_open()
                    yield from response.iter_lines(decode_unicode=True)


class Curl(Reader):
    def __init__(self):
        super().__init__("curl", is_eager=False)
        self._processes = []

    def read_lines(self, url, headers, on_open):
        command = [program.tool("curl"), "-sN", "--fail", "--max-time", "60", url]
        command += [f"-H{name}: {value}" for name, value in headers.items()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
            self._processes.append(process)
            for number, line in enumerate(process.stdout):
                if number == 0:
                    on_open()
                yield line.rstrip("\n")

    def stop(self):
        super().stop()
        for process in self._processes:
            process.kill()
