// What every client written in JavaScript does: it opens the streams and reports all that it is
// handed, in order.

const TYPES = ["tick", "refresh", "close", "position"];

export function makeReport(address, client) {
  let sent = Promise.resolve();
  return (stream, type, data = "", id = "") => {
    const body = JSON.stringify({ client, stream, type, data, id });
    sent = sent.then(() => fetch(address, { method: "POST", mode: "no-cors", body }));
  };
}

export function openAll(EventSource, base, streams, report) {
  for (const [name, path] of Object.entries(streams)) {
    const source = new EventSource(base + path);
    source.onopen = () => report(name, "open");
    source.onmessage = (event) => report(name, "message", event.data, event.lastEventId);
    for (const type of TYPES) {
      source.addEventListener(type, (event) => report(name, type, event.data, event.lastEventId));
    }
  }
}
