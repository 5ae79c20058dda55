// The demo page: one EventSource, one form that publishes, a table of what arrived.
// Everything from outside is set as textContent, never as HTML.

"use strict";

const ROWS_MOST = 500;
const DATA_MOST = 2000; // characters shown of one event
const ANSWER_MOST = 400;
const PATIENCE_MS = 5000;

// The browser itself says nothing when it queues a request for want of a connection.
const CROWDED = "No answer for 5 s. Is this page open in many tabs? Over HTTP/1.1 a browser has six"
  + " connections to a server, and each open stream takes one: close a tab.";

const $ = (id) => document.getElementById(id);
const subscribeForm = $("subscribe");
const publishForm = $("publish");

let source = null;
let heard = new Set(); // the types that source listens for
let count = 0;

const shorten = (text, most) =>
  text.length <= most ? text : `${text.slice(0, most)} … (${text.length} characters)`;

const eventsPath = (topic) => `/topics/${encodeURIComponent(topic.toLowerCase())}/events`;

// --- subscribing ------------------------------------------------------------------------------

function showState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("stop").disabled = source === null;
}

function closeStream(state, text) {
  if (source !== null) {
    source.close();
    source = null;
  }
  showState(state, text);
}

// EventSource hands out only the types that it was asked for: message, what the server itself says,
// the one that the visitor named, and those that are published from this page.
function listenFor(type) {
  if (source !== null && type !== "" && !heard.has(type)) {
    heard.add(type);
    source.addEventListener(type, (event) => addRow(event, type === "refresh"));
  }
}

function openStream(topic, type) {
  closeStream("closed", "");
  const stream = new EventSource(eventsPath(topic));
  source = stream;
  showState("connecting", `connecting to ${topic} …`);
  const patience = setTimeout(() => stream === source && showState("connecting", CROWDED), PATIENCE_MS);
  stream.onopen = () => {
    clearTimeout(patience);
    showState("open", `subscribed to ${topic}`);
  };
  stream.onerror = () => {
    clearTimeout(patience);
    onError(stream, topic);
  };
  heard = new Set(["close"]);
  ["message", "refresh", type, publishForm.elements.type.value].forEach(listenFor);
  stream.addEventListener("close", (event) => {
    addRow(event, true);
    showState("leaving", "the server ended this stream on purpose; the browser will come back");
  });
}

// A browser comes back by itself unless the answer was anything but an event stream. What the server
// has said about the end of the stream stays until then.
function onError(stream, topic) {
  if (stream !== source) {
    return;
  }
  if (stream.readyState === EventSource.CLOSED) {
    closeStream("failed", `the server refused the stream of ${topic}`);
  } else if ($("state").dataset.state !== "leaving") {
    showState("connecting", `connection to ${topic} lost, trying again …`);
  }
}

// --- what arrived -------------------------------------------------------------------------------

function addRow(event, isNotice) {
  const row = document.createElement("tr");
  const time = new Date().toLocaleTimeString([], { hour12: false });
  for (const text of [time, event.type, shorten(event.data, DATA_MOST), event.lastEventId]) {
    row.appendChild(document.createElement("td")).textContent = text;
  }
  row.classList.toggle("notice", isNotice);
  const rows = $("events");
  rows.prepend(row);
  while (rows.childElementCount > ROWS_MOST) {
    rows.lastElementChild.remove();
  }
  count += 1;
  showCount();
}

function showCount() {
  $("count").textContent = String(count);
  $("empty").hidden = count > 0;
}

// --- publishing ---------------------------------------------------------------------------------

function showAnswer(kind, text) {
  const line = document.createElement("span");
  line.className = kind;
  line.textContent = shorten(text, ANSWER_MOST);
  $("answer").replaceChildren(line);
}

// The data goes into the body as it was typed: JSON.parse and back would change long numbers.
async function publish() {
  const topic = publishForm.elements.topic.value;
  const type = publishForm.elements.type.value;
  const data = publishForm.elements.data.value;
  try {
    JSON.parse(data);
  } catch (error) {
    showAnswer("bad", `The data is not JSON: ${error.message}`);
    return;
  }
  listenFor(type);
  const event = type === "" ? "" : `,"event":${JSON.stringify(type)}`;
  const patience = setTimeout(() => showAnswer("wait", CROWDED), PATIENCE_MS);
  try {
    const response = await fetch(eventsPath(topic), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: `{"data":${data}${event}}`,
    });
    const text = (await response.text()).trim();
    showAnswer(response.ok ? "good" : "bad", `${response.status} ${text}`);
  } catch (error) {
    showAnswer("bad", `The server could not be reached: ${error.message}`);
  } finally {
    clearTimeout(patience);
  }
}

// --- the page -----------------------------------------------------------------------------------

function showCommands(topic) {
  const url = location.origin + eventsPath(topic);
  const payload = JSON.stringify({ topic: topic.toLowerCase(), data: { n: 1 } });
  $("curl-subscribe").textContent = `curl -N ${url}`;
  $("curl-publish").textContent = `curl ${url} -d '{"data":{"n":1}}'`;
  $("psql-publish").textContent =
    `psql "$DATABASE_URL" -c 'NOTIFY topic_broadcast_0, $$${payload}$$'`;
}

function onSubscribe() {
  const topic = subscribeForm.elements.topic.value;
  const address = new URL(location.href);
  address.searchParams.set("topic", topic);
  history.replaceState(null, "", address);
  publishForm.elements.topic.value = topic;
  showCommands(topic);
  openStream(topic, subscribeForm.elements.type.value);
}

subscribeForm.addEventListener("submit", (event) => {
  event.preventDefault();
  onSubscribe();
});
publishForm.addEventListener("submit", (event) => {
  event.preventDefault();
  publish();
});
publishForm.elements.data.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    publishForm.requestSubmit();
  }
});
$("stop").addEventListener("click", () => closeStream("closed", "not subscribed"));
$("clear").addEventListener("click", () => {
  $("events").replaceChildren();
  count = 0;
  showCount();
});

// /?topic=alpha subscribes at once; &type=order listens for that type too.
const wanted = new URLSearchParams(location.search);
if (wanted.has("topic")) {
  subscribeForm.elements.topic.value = wanted.get("topic");
  subscribeForm.elements.type.value = wanted.get("type") ?? "";
  if (subscribeForm.reportValidity()) {
    onSubscribe();
  }
} else {
  showCommands(subscribeForm.elements.topic.value);
}
