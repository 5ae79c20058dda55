// node libraries.mjs LIBRARY BASE STREAMS REPORT: the streams, read with one library.

import { makeReport, openAll } from "./pages/streams.js";

const [library, base, streamsText, address] = process.argv.slice(2);
const streams = JSON.parse(streamsText);
const report = makeReport(address, library);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// eventsource 5 does not keep the process alive while it waits to come back.
async function readEventSource() {
  setInterval(() => {}, 60_000);
  const { EventSource } = await import(library);
  openAll(EventSource, base, streams, report);
}

// The parser alone: the application connects, and remembers what it is told.
async function readParser() {
  const { createParser } = await import("eventsource-parser");
  for (const [name, path] of Object.entries(streams)) {
    readWithParser(createParser, name, base + path);
  }
}

async function readWithParser(createParser, name, url) {
  let lastId = "";
  let retryMs = 1000;
  const onEvent = (event) => {
    lastId = event.id ?? lastId;
    report(name, event.event ?? "message", event.data, lastId);
  };
  for (;;) {
    const parser = createParser({ onEvent, onRetry: (ms) => { retryMs = ms; } });
    await readOnce(url, lastId, parser, () => report(name, "open")).catch(() => {});
    await sleep(retryMs);
  }
}

async function readOnce(url, lastId, parser, onOpen) {
  const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
  const response = await fetch(url, { headers });
  if (response.status !== 200) {
    return;
  }
  onOpen();
  const decoder = new TextDecoder();
  for await (const piece of response.body) {
    parser.feed(decoder.decode(piece, { stream: true }));
  }
}

// It is written for browsers: a window and a document that is always visible are all it asks for.
async function readFetchEventSource() {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = await import("@microsoft/fetch-event-source");
  for (const [name, path] of Object.entries(streams)) {
    fetchEventSource(base + path, {
      onopen: async (response) => {
        if (response.status === 200) {
          report(name, "open");
        }
      },
      onmessage: (event) => report(name, event.event || "message", event.data, event.id),
      onclose: () => { throw new Error("come back"); },
    });
  }
}

const readers = {
  "eventsource-parser": readParser,
  "@microsoft/fetch-event-source": readFetchEventSource,
};
await (readers[library] ?? readEventSource)();
