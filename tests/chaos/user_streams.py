"""The judge's part for streams of the durable API: durable events of the channels that their user
has subscribed to, and a position that is an id. They are told of nothing ephemeral: no break, no
restart, no overflow is a reason for a `refresh`, only rows that were pruned unread.

A channel that was unsubscribed gets quiet at once: an event that was published later, and some
grace, is a "leak". From then on nothing of it has to come."""

from rows import Place
from limits import ALLOWANCE, CLOCK_SLACK, DURABLE_SLACK, GRACE, LATE, SLOW_SLACK
from published import COMMITTED


class ConnectionHearing:
    def __init__(self, judge, record, violation):
        """violation(kind, time, text, record, index)"""
        self.judge = judge
        self.record = record
        self.violation = violation
        self.at = 0
        self.machine = None
        self.opened = 0.0
        self.place = Place(judge.table, record.topics, self._complain)
        self.lost = {channel: judge.unsubscribed[record.user, channel] for channel in record.topics
                     if (record.user, channel) in judge.unsubscribed}
        self.place.excused = {channel: begun for channel, (begun, _) in self.lost.items()}

    def hear(self):
        for self.at, item in enumerate(self.record.items):
            getattr(self, "_on_" + item[0])(*item[1:])
        if self.record.items:
            self.place.on_last(self.record.items[-1][1])
        self.judge.coverage["durable, replayed from the table"] += self.place.replayed

    def _complain(self, kind, time, text):
        self.judge.violations.append(self.violation(kind, time, text, self.record, self.at))

    def _is_excused(self, time):
        slack = SLOW_SLACK if self.record.is_slow else CLOCK_SLACK
        return self.judge.any_overlapping(self.machine, min(self.opened, time - slack) - 1, time)

    # --- connections ------------------------------------------------------------------------------

    def _on_open(self, time, machine, last_id):
        self.machine = machine
        self.opened = time
        self.place.on_open(last_id)

    def _quiet_since(self, channel):
        """When the machine must have heard that the channel was unsubscribed; None: it was not."""
        if channel not in self.lost:
            return None
        _, done = self.lost[channel]
        quiet = done + GRACE
        for window in self.judge.windows:
            if self.machine in window.machines and window.effects and window.start <= quiet \
                    and window.end + ALLOWANCE >= done:
                quiet = max(quiet, window.end + ALLOWANCE + GRACE)
        return quiet

    def _on_status(self, time, status):
        if status == 403:
            if any(channel not in self.lost or time < self.lost[channel][0]
                   for channel in self.record.topics):
                self._complain("refused", time, "403, and it has subscribed to some")
        elif status == 200:
            quiet = [self._quiet_since(channel) for channel in self.record.topics]
            if all(since is not None and since < self.opened for since in quiet):
                self._complain("leak", time, "200, and it has subscribed to none of them any more")
        elif not self._is_excused(time):
            self._complain("refused", time, f"answered {status} without a fault")

    def _on_waiting(self, time):
        self._complain("waiting", time, "it has to be decided first what it may have")

    def _on_greeted(self, _time):
        pass

    def _on_close(self, time):
        if not self._is_excused(time):
            self._complain("cut", time, "`close` without a fault")

    def _on_end(self, time, how):
        if how not in ("left", "reset", "refused") and not self._is_excused(time) \
                and not self._may_be_too_slow(time):
            self._complain("cut", time, f"the stream ended ({how}) without a fault")

    def _may_be_too_slow(self, time):
        """It did not read, or its channels had more within seconds than may wait for it."""
        settings = self.judge.settings
        queued = sum(self.judge.table.bytes_since(topic, time - 5 - DURABLE_SLACK, time)
                     for topic in self.record.topics)
        return settings.slow_client == "disconnect" and (
            self.record.is_slow or queued >= settings.client_queue_bytes)

    def _on_pause(self, _time, _seconds):
        pass

    def _on_bad(self, time, text):
        self._complain("bad", time, text)

    # --- events -----------------------------------------------------------------------------------

    def _on_first(self, time, position):
        self.place.on_id(time, position)

    _on_id = _on_first

    def _on_durable(self, start, end, ids, _position):
        started = self.judge.started_before(self.machine, self.opened)
        for number in ids:
            self.place.on_event(end, number)
            row = self.judge.table.by_id.get(number)
            if row is None:
                continue
            begun = self.judge.table.begun(row)
            self.place.replayed += begun < started
            quiet = self._quiet_since(row.topic)
            if quiet is not None and begun > quiet:
                self._complain("leak", start, f"durable event {number} of {row.topic}, "
                               f"{begun - self.lost[row.topic][1]:.3f} s after it was unsubscribed")

    def _on_late_durable(self, time, number):
        note = self.judge.table.note_of(number)
        if note is None or note.outcome != COMMITTED or self.record.is_slow \
                or note.done < self.opened or time - note.done < LATE:
            return
        if not self.judge.any_overlapping(self.machine, note.begun, time):
            self._complain("late", time, f"durable event {number} took {time - note.done:.1f} s "
                           "without a fault")

    def _on_refresh(self, time, reason, _dropped, position, topics=None):
        self.judge.refreshes[f"{reason} of a connection"] += 1
        if reason == "gap" and self.place.is_pruned(time):
            self.judge.coverage["refreshes for what was pruned"] += 1
        else:
            self._complain("needless", time, f"{reason} on {self.machine}: nothing that it has not "
                           "read was pruned")
        self.place.on_refresh(time, reason, position, False, topics)
