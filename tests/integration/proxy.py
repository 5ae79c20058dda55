"""A TCP proxy between our programs and Postgres: the network, which can be cut, fall silent, and
come back. A link is one connection through it; each can be treated on its own.

Everything that touches a socket runs in the proxy's own thread; the methods wait until it is done.
It holds no more than one piece of 64 KiB: what a held link sends stays in the kernel, and is passed
on when the link goes on, as by a network that loses packets and sends them again."""

import contextlib
import queue
import selectors
import socket
import struct
import threading

from waiting import wait_for

PIECE_BYTES = 65536
SAID_BYTES = 65536
SECONDS = 5  # for a write, and for the thread to do what it is told
CLOSE_WAIT = 8  # a state of TCP
READY, NOTIFICATION, BACKEND = b"Z", b"A", b"K"  # messages of Postgres
HEAD = struct.Struct(">cI")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class Link:
    def __init__(self, program, server):
        self.ends = {program: server, server: program}
        self.program = program
        self.said = b""  # by the program, its first SAID_BYTES
        self.is_open = True
        self.silent = ()  # the ends whose words do not pass: none, the program's, or both
        self.held = None  # what Postgres said from its READY on; None: its words pass unread
        self.is_pooled = False
        self.server_path = ""
        self.part = b""  # of a message of Postgres, not yet whole

    def _messages(self, piece):
        """(kind, message) of what is whole; the rest is kept."""
        self.part += piece
        while len(self.part) >= HEAD.size:
            kind, length = HEAD.unpack_from(self.part)
            if len(self.part) < 1 + length:
                return
            message, self.part = self.part[:1 + length], self.part[1 + length:]
            yield kind, message

    def sift(self, piece):
        """What may pass of the messages of Postgres: all up to the first READY, and then only its
        notifications, which it may send before that, too."""
        passing = b""
        for kind, message in self._messages(piece):
            if kind == READY or (self.held and kind != NOTIFICATION):
                self.held += message
            else:
                passing += message
        return passing

    def pool(self, piece):
        """What a pooler passes on of these words of Postgres."""
        passing = b""
        for kind, message in self._messages(piece):
            if kind == BACKEND:
                message = message[:HEAD.size] + bytes(4) + message[HEAD.size + 4:]
            passing += message if kind != NOTIFICATION else b""
        return passing

    @property
    def is_left(self):
        """Has the program closed its end? On a held link that is known to the kernel alone."""
        if not self.is_open:
            return True
        return self.program.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT


class Proxy:
    def __init__(self, server_path):
        """server_path: the Unix socket of Postgres."""
        self.links = []  # in the order in which they came, closed ones too
        self._server_path = str(server_path)
        self._holds_new = False
        self._holds_ready_of = None
        self._pools = False
        self._is_running = True
        self._selector = selectors.DefaultSelector()
        self._tasks = queue.Queue()
        self._waker, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._do_tasks)
        self._listener = None
        self.port = 0
        self._listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def url(self, database, user="postgres"):
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user}"

    # --- for tests -----------------------------------------------------------------------------

    def find(self, *words):
        """The link whose program has said all of these and is still there, when there is one."""
        def found():
            return [link for link in self.links
                    if not link.is_left and all(word in link.said for word in words)]
        links = wait_for(found, f"somebody says {words}")
        assert len(links) == 1, [link.said for link in links]
        return links[0]

    def hold(self, *links):
        """Half-open: these links stay and nothing passes. Without links all that are open, and all
        that come."""
        self._do(lambda: self._hold(links))

    def hold_words(self, link):
        """What the program says does not pass; it still hears."""
        self._do(lambda: self._silence(link, (link.program,)))

    def hold_answers(self, link):
        """Postgres is told everything; what it says does not pass."""
        self._do(lambda: self._silence(link, (link.ends[link.program],)))

    def hold_new(self):
        """Links that come are accepted, and nothing passes."""
        self._do(lambda: self._set_holds_new(True))

    def hold_ready(self, words):
        """Whoever says these from now on hears what comes of it, and notifications, but not that
        Postgres is ready again, nor what it says later."""
        self._do(lambda: self._set_holds_ready_of(words))

    def wait_ready_held(self):
        """The link on which Postgres has done what it was told."""
        def held():
            return [link for link in self.links if link.is_open and link.held]
        return wait_for(held, "Postgres is ready")[0]

    def say_ready(self):
        """Everybody hears it, and all that was held behind it."""
        self._do(self._say_ready)

    def say(self, link, words):
        """To Postgres, as if the program had said it."""
        self._do(lambda: link.ends[link.program].sendall(words))

    def cut(self, *links, reset=True):
        """Both ends of these, or of all links, are closed: by RST, or by FIN."""
        self._do(lambda: [self._close(link, reset) for link in links or list(self.links)])

    def lead_to(self, server_path):
        """Another server has the address: links that come go there, the others stay."""
        self._do(lambda: setattr(self, "_server_path", str(server_path)))

    def pool_transactions(self):
        """As a pooler of transactions: links that come are told of a backend that is not theirs, and
        no notification passes."""
        self._do(lambda: setattr(self, "_pools", True))

    def refuse(self):
        """Nobody listens any more; the links that are open stay."""
        self._do(self._refuse)

    def resume(self, leaving=()):
        """All links pass, but for these; new ones are accepted and pass."""
        self._do(lambda: self._resume(leaving))

    def close(self):
        self._do(self._stop)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    # --- in the thread -------------------------------------------------------------------------

    def _do(self, task):
        done = queue.Queue()
        self._tasks.put((task, done))
        self._waker.send(b"!")
        fault = done.get(timeout=SECONDS)
        if fault:
            raise fault

    def _do_tasks(self):
        self._woken.recv(1)
        task, done = self._tasks.get()
        fault = None
        try:
            task()
        except Exception as exception:  # pylint: disable=broad-except
            fault = exception  # it belongs to the test, not to the thread
        done.put(fault)

    def _run(self):
        while self._is_running:
            for key, _ in self._selector.select():
                # What was handled before in this round may have closed it.
                if self._is_running and key.fileobj.fileno() >= 0:
                    key.data()

    def _listen(self):
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _refuse(self):
        if self._listener:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self):
        program, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        for end in (program, server):
            end.settimeout(SECONDS)
        link = Link(program, server)
        link.is_pooled = self._pools
        link.server_path = self._server_path
        self.links.append(link)
        try:
            server.connect(self._server_path)
        except OSError:
            self._close(link, reset=False)
            return
        self._silence(link, tuple(link.ends) if self._holds_new else ())

    def _silence(self, link, silent):
        link.silent = silent
        self._unwatch(link)
        for end in link.ends:
            if end not in silent:
                self._selector.register(end, selectors.EVENT_READ,
                                        lambda end=end: self._pass_on(link, end))

    def _unwatch(self, link):
        for end in link.ends:
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)

    def _pass_on(self, link, end):
        if end in link.silent or not link.is_open:
            return  # since this round began
        try:
            piece = end.recv(PIECE_BYTES)
            words = piece
            if end is link.program and self._holds_ready_of and self._holds_ready_of in piece:
                link.held = b""
            elif end is not link.program and link.held is not None:
                words = link.sift(piece)
            elif end is not link.program and link.is_pooled:
                words = link.pool(piece)
            if words:
                link.ends[end].sendall(words)
        except OSError:
            piece = b""
        if not piece:
            self._close(link, reset=False)
        elif end is link.program:
            link.said = (link.said + piece)[:SAID_BYTES]

    def _close(self, link, reset):
        if not link.is_open:
            return
        link.is_open = False
        self._unwatch(link)
        for end in link.ends:
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()

    def _set_holds_new(self, holds):
        self._holds_new = holds

    def _set_holds_ready_of(self, words):
        self._holds_ready_of = words

    def _say_ready(self):
        self._holds_ready_of = None
        for link in self.links:
            if link.is_open and link.held is not None:
                link.program.sendall(link.held + link.part)
                link.held, link.part = None, b""

    def _hold(self, links):
        if not links:
            self._holds_new = True
        for link in links or self.links:
            if link.is_open:
                self._silence(link, tuple(link.ends))

    def _resume(self, leaving):
        self._holds_new = False
        if not self._listener:
            self._listen()
        for link in self.links:
            if link.is_open and link not in leaving:
                self._silence(link, ())

    def _stop(self):
        self._is_running = False
        self._refuse()
        for link in self.links:
            self._close(link, reset=False)
        self._selector.close()
        self._woken.close()
