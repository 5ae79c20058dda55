"""Somebody who publishes all the while: numbers from 1 on, and between them what is for nobody."""

import threading


class Publisher:
    """.count is how many have been committed; the last is known when the with block has ended."""

    def __init__(self, database, topic="alpha", pause=0.0005):
        self._connection = database.connect()
        self._topic = topic
        self._pause = pause
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def _run(self):
        with self._connection.cursor() as cursor:
            while not self._is_over.wait(self._pause):
                number = self.count + 1
                cursor.execute(
                    "SELECT pg_notify('topic_broadcast_' || %s %% 8, json_build_object('topic', %s,"
                    " 'data', %s)::text), pg_notify('topic_broadcast_0', 'noise' || %s)",
                    (number, self._topic, number, number))
                self.count = number

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._connection.close()
