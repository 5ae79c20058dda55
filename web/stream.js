// A Server-Sent Events stream, read by fetch. An EventSource hands out only the types of events that
// it was asked for; this hands out all, with the server's comments. It comes back by itself as an
// EventSource does, from the last id, after the pause that the server asks for; and also after an
// answer that says "later" (429, 5xx), at which an EventSource gives up.

const RETRY_MS = 3000; // until the server says otherwise, within these limits
const RETRY_LEAST_MS = 100;
const RETRY_MOST_MS = 3_600_000;

export class EventStream {
  // on: { ask(), open(), comment(text), event({ type, data, id }), lost(), refused(text) }. None is
  // called after close(), nor after refused.
  constructor(url, on, lastId = "") {
    this.lastId = lastId;
    this.isOpen = true;
    this.retryMs = RETRY_MS;
    this.on = on;
    this.abort = new AbortController();
    this.run(url);
  }

  close() {
    this.isOpen = false;
    this.abort.abort();
    clearTimeout(this.timer);
  }

  async run(url) {
    while (this.isOpen) {
      this.on.ask();
      try {
        await this.read(url);
      } catch (error) {
        // The connection is gone; or the stream was closed here.
      }
      if (!this.isOpen) {
        return;
      }
      this.on.lost();
      await new Promise((resolve) => { this.timer = setTimeout(resolve, this.retryMs); });
    }
  }

  async read(url) {
    const headers = { Accept: "text/event-stream" };
    if (this.lastId !== "") {
      headers["Last-Event-ID"] = this.lastId;
    }
    const response = await fetch(url, { headers, cache: "no-store", signal: this.abort.signal });
    if (response.status === 429 || response.status >= 500) {
      await response.body?.cancel();
      return;
    }
    if (response.status !== 200 || !isEventStream(response)) {
      const text = (await response.text()).trim();
      if (this.isOpen) {
        this.close();
        this.on.refused(`${response.status} ${text}`);
      }
      return;
    }
    this.on.open();
    await this.readBody(response.body);
  }

  async readBody(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const lines = new Lines();
    let block = { type: "", data: [] };
    for (let got = await reader.read(); !got.done && this.isOpen; got = await reader.read()) {
      for (const line of lines.take(got.value)) {
        if (line === "") {
          this.dispatch(block);
          block = { type: "", data: [] };
        } else {
          this.takeField(block, line);
        }
        if (!this.isOpen) {
          return;
        }
      }
    }
  }

  takeField(block, line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "") {
      this.on.comment(value);
    } else if (name === "data") {
      block.data.push(value);
    } else if (name === "event") {
      block.type = value;
    } else if (name === "id" && !value.includes("\0")) {
      block.id = value;
    } else if (name === "retry" && /^\d+$/.test(value)) {
      this.retryMs = Math.min(Math.max(Number(value), RETRY_LEAST_MS), RETRY_MOST_MS);
    }
  }

  dispatch(block) {
    this.lastId = block.id ?? this.lastId;
    if (block.data.length > 0) {
      const type = block.type === "" ? "message" : block.type;
      this.on.event({ type, data: block.data.join("\n"), id: this.lastId });
    }
  }
}

function isEventStream(response) {
  return (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
}

// Pieces of text to lines, which end with LF, CR or CRLF. Each piece is searched once, however long
// its line is.
class Lines {
  constructor() {
    this.pieces = []; // of the line that has not ended
    this.endedWithCr = false;
  }

  take(text) {
    if (text === "") {
      return [];
    }
    const rest = this.endedWithCr && text[0] === "\n" ? text.slice(1) : text;
    this.endedWithCr = text.endsWith("\r");
    const lines = rest.split(/\r\n|\n|\r/);
    this.pieces.push(lines[0]);
    if (lines.length === 1) {
      return [];
    }
    lines[0] = this.pieces.join("");
    this.pieces = [lines.pop()];
    return lines;
  }
}
