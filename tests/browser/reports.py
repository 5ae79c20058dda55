"""What clients say that they were handed. Browsers and Node tell it over HTTP."""

import collections
import http.server
import json
import threading

Record = collections.namedtuple("Record", "type data id")


class Reports:
    def __init__(self):
        self._records = collections.defaultdict(list)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _handler(self):
        reports = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # one connection for all of a client's reports

            def do_POST(self):
                report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reports.add(**report)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler

    @property
    def address(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def add(self, client, stream, type, data="", id=""):
        self._records[client, stream].append(Record(type, data, id))

    def of(self, client, stream):
        return list(self._records[client, stream])

    def count(self, client, stream, type):
        return sum(record.type == type for record in self.of(client, stream))

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
