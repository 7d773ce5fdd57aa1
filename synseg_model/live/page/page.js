// The page of `synseg live`: takes states and frames from the server, and sends what its user asks for.

import { LabelList } from "./labels.js";

const RECONNECT_AFTER = 1500; // ms

const get = (id) => document.getElementById(id);
const canvas = get("image");
const context = canvas.getContext("2d");
const box = get("labels");
const list = new LabelList(get("list"), get("entry"), send);
let socket;
let state; // the newest one of the session
let about; // what belongs to the next image
let typed = false; // the box holds what was not sent yet
const messages = { connection: "", refusal: "", troubles: "", answer: "" };

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/live`);
  socket.binaryType = "blob";
  socket.onopen = () => say("connection", "");
  socket.onmessage = async ({ data }) => {
    if (typeof data === "string") return read(JSON.parse(data));
    const belongs = about;
    try {
      draw(await createImageBitmap(data), belongs);
    } finally {
      if (socket.readyState === WebSocket.OPEN) socket.send("next"); // and only then comes the next image
    }
  };
  socket.onclose = () => {
    say("connection", "No connection to the server: it has ended, or too many pages are open. Trying again …");
    setTimeout(connect, RECONNECT_AFTER);
  };
}

function send(request) {
  if (socket.readyState !== WebSocket.OPEN) return;
  say("answer", "");
  socket.send(JSON.stringify(request));
}

function read(message) {
  if (message.type === "frame") about = message;
  else if (message.type === "state") showState(message);
  else if (message.type === "error") say("answer", message.text);
}

function showState(newest) {
  state = newest;
  get("source").textContent = `${state.source} · ${state.model}`;
  list.update(state.labels);
  get("list").setAttribute("aria-busy", state.busy);
  if (!typed && document.activeElement !== box) {
    box.value = state.labels.filter((each) => each.own).map((each) => each.label).join(", ");
  }
  if (!state.busy && !state.refusal) typed = false;
  box.setAttribute("aria-invalid", Boolean(state.refusal));
  get("pause").setAttribute("aria-pressed", state.paused);
  get("pause").textContent = state.paused ? "Go on" : "Pause";
  get("names").checked = state.names;
  say("refusal", state.refusal);
  say("troubles", state.troubles.join("\n"));
}

function draw(bitmap, belongs) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  get("waiting").hidden = true;
  const write = (id, value) => (get(id).value = value == null ? "–" : value.toFixed(id === "rate" ? 1 : 0));
  write("rate", state.paused ? null : belongs.rate);
  write("latency", belongs.latency_ms);
  write("engine", belongs.engine_ms);
  const present = list.show(belongs.found);
  canvas.setAttribute("aria-label", present.length ? `The camera shows ${present.join(", ")}` : "No label is found");
}

// Show a message of one kind, or remove it. Unchanged ones stay, so that screen readers do not repeat them.
function say(kind, text) {
  if (messages[kind] === text) return;
  messages[kind] = text;
  const paragraphs = Object.values(messages).flatMap((each) => (each ? each.split("\n") : []));
  get("messages").replaceChildren(
    ...paragraphs.map((each) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = each;
      return paragraph;
    }),
  );
}

async function snapshot() {
  try {
    const answer = await fetch("snapshot.png");
    if (!answer.ok) throw new Error(await answer.text());
    const named = /filename="(.+)"/.exec(answer.headers.get("Content-Disposition"));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = named ? named[1] : "synseg.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say("answer", "");
  } catch (error) {
    say("answer", `No snapshot: ${error.message}`);
  }
}

const pause = () => send({ do: "pause", on: !state?.paused });
const names = () => send({ do: "names", on: !state?.names });

get("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  typed = true;
  const labels = box.value.split(/[,;\n]/).filter((label) => label.trim());
  send({ do: "labels", labels });
});
box.addEventListener("input", () => (typed = true));
get("pause").addEventListener("click", pause);
get("snapshot").addEventListener("click", snapshot);
get("names").addEventListener("change", names);

const KEYS = { " ": pause, s: snapshot, n: names, "/": () => box.focus() };
document.addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, button, textarea, select, a"); // whose own keys these are
  const action = KEYS[event.key.toLowerCase()];
  const own = event.target.matches?.("input[type=checkbox], input[type=range], button");
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (busy && !(own && event.key !== " ")) return;
  event.preventDefault();
  action();
});

connect();
