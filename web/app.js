// The page of make run: one stream of topics and patterns, one form that publishes, a table of what
// arrived. Everything from outside is set as textContent, never as HTML.

import { EventStream } from "./stream.js";

const ROWS_MOST = 500;
const DATA_MOST = 2000; // characters shown of one event
const ANSWER_MOST = 400;
const PATIENCE_MS = 5000;
const PUBLISH_PATH = "/api/sse/publish";

// The browser itself says nothing when it queues a request for want of a connection.
const CROWDED = "No answer for 5 s. Is this page open in many tabs? Over HTTP/1.1 a browser has six"
  + " connections to a server, and each open stream takes one: close a tab.";
const AWAY = "the broker or Postgres is away; the stream goes on when both are back";

const $ = (id) => document.getElementById(id);
const subscribeForm = $("subscribe");
const publishForm = $("publish");

let stream = null;
let count = 0;

const shorten = (text, most) =>
  text.length <= most ? text : `${text.slice(0, most)} … (${text.length} characters)`;

// --- names --------------------------------------------------------------------------------------

const namesOf = (text) => text.split(",").map((name) => name.trim()).filter((name) => name !== "");

const described = (names) => names.length === 0 ? "everything" : names.join(", ");

// A quote would end the argument of the command that shows this address.
const encoded = (name) => encodeURIComponent(name).replaceAll("'", "%27");

function streamPath(names) {
  const topics = names.length === 0 ? "" : `topics=${names.map(encoded).join(",")}&`;
  return `/events?${topics}with_topic=1`;
}

// --- subscribing --------------------------------------------------------------------------------

function showState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = shorten(text, ANSWER_MOST);
  $("stop").disabled = stream === null;
}

// One subscription, through all the connections that it takes.
class Subscription {
  constructor(names) {
    this.names = described(names);
    this.path = streamPath(names);
    this.lostAt = 0; // 0: not lost
    this.isGreeted = false; // on this connection
    showState("connecting", `connecting to ${this.names} …`);
    this.source = new EventStream(this.path, this);
  }

  pause() {
    this.close();
    this.lostAt = this.lostAt || Date.now();
  }

  resume() {
    this.source = new EventStream(this.path, this, this.source.lastId);
  }

  close() {
    clearTimeout(this.patience);
    this.source.close();
  }

  ask() {
    this.patience = setTimeout(() => showState("connecting", CROWDED), PATIENCE_MS);
  }

  open() {
    clearTimeout(this.patience);
    this.isGreeted = false;
  }

  comment(text) {
    if (this.isGreeted) {
      return; // a heartbeat, or a publisher's
    }
    if (text === "waiting") {
      showState("connecting", AWAY);
    } else if (text === "connected") {
      this.isGreeted = true;
      showState("open", `subscribed to ${this.names}`);
      this.tellReturn();
    }
  }

  tellReturn() {
    if (this.lostAt > 0) {
      const seconds = ((Date.now() - this.lostAt) / 1000).toFixed(1);
      const id = this.source.lastId;
      const data = id === "" ? `after ${seconds} s, without a position`
        : `after ${seconds} s; what was missed comes next`;
      addRow({ topic: "", type: "reconnected", data, id }, true);
    }
    this.lostAt = 0;
  }

  event({ type, data, id }) {
    if (type === "position") {
      return;
    }
    const isNotice = type === "refresh" || type === "close";
    const parts = isNotice ? { topic: "", data } : withoutTopic(data);
    addRow({ ...parts, type, id }, isNotice);
    if (type === "close") {
      showState("leaving", "the server ended this stream on purpose; the page will come back");
    }
  }

  // What the server has said about the end of the stream stays until the page is back.
  lost() {
    clearTimeout(this.patience);
    this.lostAt = this.lostAt || Date.now();
    if ($("state").dataset.state !== "leaving") {
      showState("connecting", `connection to ${this.names} lost, trying again …`);
    }
  }

  refused(text) {
    clearTimeout(this.patience);
    stream = null;
    showState("failed", `the server refused ${this.names}: ${text}`);
  }
}

// The data is cut out and not parsed: JSON.parse would change long numbers.
function withoutTopic(data) {
  const parts = /^\{"topic":("(?:[^"\\]|\\.)*"),"data":(.*)\}$/s.exec(data);
  return parts === null ? { topic: "", data } : { topic: JSON.parse(parts[1]), data: parts[2] };
}

function closeStream() {
  stream?.close();
  stream = null;
}

// --- what arrived -------------------------------------------------------------------------------

// Rows that wait for the next frame. A hidden page has none: so they are no more than are shown.
let waiting = [];

function addRow({ topic, type, data, id }, isNotice) {
  const time = new Date().toLocaleTimeString([], { hour12: false });
  if (waiting.push({ cells: [time, topic, type, shorten(data, DATA_MOST), id], isNotice }) === 1) {
    requestAnimationFrame(showRows);
  } else if (waiting.length > ROWS_MOST) {
    waiting.shift();
  }
  count += 1;
}

function showRows() {
  const added = waiting.map(rowOf).reverse();
  waiting = [];
  const rows = $("events");
  rows.prepend(...added);
  while (rows.childElementCount > ROWS_MOST) {
    rows.lastElementChild.remove();
  }
  showCount();
}

function rowOf({ cells, isNotice }) {
  const row = document.createElement("tr");
  for (const text of cells) {
    row.appendChild(document.createElement("td")).textContent = text;
  }
  row.classList.toggle("notice", isNotice);
  return row;
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

// JSON goes into the body as it was typed, for the same reason as above.
function bodyOf({ topic, type, kind, data, broadcast }) {
  const members = [`"text":${kind.value === "text"}`];
  if (!broadcast.checked) {
    members.push(`"topic":${JSON.stringify(topic.value)}`);
  }
  if (type.value !== "") {
    members.push(`"event":${JSON.stringify(type.value)}`);
  }
  members.push(`"data":${kind.value === "text" ? JSON.stringify(data.value) : data.value}`);
  return `{${members.join(",")}}`;
}

async function publish() {
  const fields = publishForm.elements;
  try {
    JSON.parse(fields.kind.value === "text" ? "0" : fields.data.value);
  } catch (error) {
    showAnswer("bad", `The data is not JSON: ${error.message}`);
    return;
  }
  const patience = setTimeout(() => showAnswer("wait", CROWDED), PATIENCE_MS);
  try {
    const response = await fetch(PUBLISH_PATH, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: bodyOf(fields),
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

// As JSON without the characters that mean something in the quotes of a shell or of Postgres.
const quotable = (value) => JSON.stringify(value)
  .replace(/['$]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`);

function showCommands(names) {
  const topic = publishForm.elements.topic.value;
  const payload = quotable({ topic, data: { n: 1 } });
  $("curl-subscribe").textContent = `curl -N '${location.origin}${streamPath(names)}'`;
  $("curl-publish").textContent = `curl ${location.origin}${PUBLISH_PATH} -d '${payload}'`;
  $("psql-publish").textContent =
    `psql "$DATABASE_URL" -c 'NOTIFY topic_broadcast_0, $$${payload}$$'`;
}

function subscribe() {
  const names = namesOf(subscribeForm.elements.topics.value);
  const address = new URL(location.href);
  address.search = "";
  address.searchParams.set("topics", names.join(","));
  history.replaceState(null, "", address);
  const topic = names.find((name) => !name.endsWith("*"));
  publishForm.elements.topic.value = topic ?? publishForm.elements.topic.value;
  showCommands(names);
  closeStream();
  stream = new Subscription(names);
  $("stop").disabled = false;
}

subscribeForm.addEventListener("submit", (event) => {
  event.preventDefault();
  subscribe();
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
publishForm.elements.broadcast.addEventListener("change", () => {
  publishForm.elements.topic.disabled = publishForm.elements.broadcast.checked;
});
publishForm.elements.topic.addEventListener("change", () =>
  showCommands(namesOf(subscribeForm.elements.topics.value)));
$("stop").addEventListener("click", () => {
  closeStream();
  showState("closed", "not subscribed");
});
$("clear").addEventListener("click", () => {
  waiting = [];
  $("events").replaceChildren();
  count = 0;
  showCount();
});

// A browser keeps a page that was left, for "back", and with it a stream that fetch reads.
window.addEventListener("pagehide", () => stream?.pause());
window.addEventListener("pageshow", (event) => event.persisted && stream?.resume());

// /?topics=alpha,orders.* subscribes at once, /?topics= to everything.
const wanted = new URLSearchParams(location.search);
if (wanted.has("topics") || wanted.has("topic")) {
  subscribeForm.elements.topics.value =
    [...wanted.getAll("topics"), ...wanted.getAll("topic")].join(",");
  subscribe();
} else {
  showCommands(namesOf(subscribeForm.elements.topics.value));
}
