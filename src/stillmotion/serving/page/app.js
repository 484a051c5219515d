// The page: what is asked for stands in the address, what is found in the list.
import * as player from "/static/player.js";

const get = (id) => document.getElementById(id);
const box = get("q"), dataset = get("dataset"), split = get("split"), hits = get("hits"), status = get("status");
const WAIT_MS = 180, TOP = 24;
let state = {}, image = null, known = null, moments = [], latest = 0, running = null, timer = 0;

const fromAddress = () => Object.fromEntries(new URLSearchParams(location.search));
const asked = () => Boolean(state.q?.trim() || state.like || image);

function remember(push) {
  const kept = Object.entries(state).filter(([name, value]) => value && (name !== "dataset" || value !== known.default));
  const words = new URLSearchParams(kept).toString();
  history[push ? "pushState" : "replaceState"](null, "", words ? `?${words}` : location.pathname);
  document.title = state.q ? `${state.q} · Stillmotion` : "Stillmotion";
}

function change(changes, { push = true, wait = 0 } = {}) {
  state = { ...state, at: "", t: "", ...changes };
  remember(push);
  show();
  clearTimeout(timer);
  timer = setTimeout(search, wait);
}

// What stands around the results, from the state.
function show() {
  if (document.activeElement !== box || box.value.trim() !== (state.q ?? "").trim()) box.value = state.q ?? "";
  dataset.value = state.dataset || known.default;
  const chosen = known.datasets.find((each) => each.name === dataset.value) ?? known.datasets[0];
  const total = Object.values(chosen.splits).reduce((sum, count) => sum + count, 0);
  fill(split, [["", `all (${total})`], ...Object.entries(chosen.splits).map(([name, num]) => [name, `${name} (${num})`])]);
  split.value = state.split ?? "";
  const words = [];
  if (image) words.push(`Like the image ${image.name || "that was pasted"}`);
  if (state.like) words.push(`Like ${state.like}${state.end ? `, ${player.span(times())}` : ""}`);
  if (state.video) words.push(`Only in ${state.video}`);
  get("asked-text").textContent = words.join(" · ");
  get("asked").hidden = !words.length;
  get("sent").hidden = !image;
  get("start").hidden = asked() || !chosen.examples.length;
  get("examples").replaceChildren(...chosen.examples.map((text) => {
    const button = element("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => change({ q: text }));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

const times = () => ({ start: Number(state.start || 0), end: Number(state.end) });

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function element(tag, kind, text = "") {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}

async function search() {
  const number = ++latest;
  running?.abort();
  if (!asked()) {
    say("");
    list([]);
    return;
  }
  running = new AbortController();
  hits.classList.add("stale");
  const words = new URLSearchParams({ top: TOP });
  for (const name of ["dataset", "split", "video", ...(image ? [] : ["q", "like", "start", "end"])]) {
    if (state[name]) words.set(name, state[name]);
  }
  if (state.like) words.delete("q");
  const started = performance.now();
  try {
    const sent = image ? { method: "POST", body: image, headers: { "Content-Type": image.type } } : {};
    const path = image ? "/api/search/image" : "/api/search";
    const response = await fetch(`${path}?${words}`, { ...sent, signal: running.signal });
    const told = await response.json();
    if (number !== latest) return; // something newer has been asked
    if (!response.ok) {
      const detail = typeof told.detail === "string" ? told.detail : told.detail?.[0]?.msg;
      throw new Error(detail || `The server answers ${response.status}.`);
    }
    list(told.moments);
    const counted = (num, word) => `${num} ${word}${num === 1 ? "" : "s"}`;
    const found = `${counted(told.moments.length, "moment")} in ${counted(told.num_videos, "video")}, ${Math.round(performance.now() - started)} ms`;
    say(found, false, told.notes);
    restorePlayer();
  } catch (error) {
    if (error.name === "AbortError" || number !== latest) return;
    list([]);
    say(error instanceof TypeError ? "The server does not answer: is stillmotion serve still running?" : error.message, true);
  }
}

function say(text, warn = false, notes = []) {
  status.textContent = text;
  status.classList.toggle("warn", warn);
  const about = element("summary", "", notes.some((note) => note.startsWith("nothing may fit")) ? "Nothing may fit" : "Note");
  get("notes").replaceChildren(about, ...notes.map((note) => element("p", "", note)));
  get("notes").hidden = !notes.length;
}

function list(found) {
  moments = found;
  hits.classList.remove("stale");
  hits.replaceChildren(...found.map((moment) => {
    const button = element("button", "hit"), frame = element("span", "frame"), about = element("span", "about");
    const where = element("span", "where");
    button.type = "button";
    if (moment.picture) {
      const picture = document.createElement("img");
      picture.alt = "";
      picture.loading = "lazy";
      picture.src = moment.picture;
      frame.append(picture);
    }
    frame.append(element("span", "times", player.span(moment)));
    const score = element("span", "score", moment.score.toFixed(2));
    score.title = "score: a cosine, or the mean of two";
    where.append(element("span", "id", moment.video_id), score);
    about.append(where, element("span", "said", moment.captions.slice(0, 2).join(" · ")));
    button.append(frame, about);
    button.addEventListener("click", () => play(moment, true));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  const open = player.playing();
  if (open && !found.some((each) => each.video === open.video && each.start === open.start)) player.close();
}

function play(moment, start) {
  if (start) {
    state = { ...state, at: moment.video_id, t: `${moment.start},${moment.end}` };
    remember(false);
  }
  player.open(moment, moments.filter((each) => each.video === moment.video), { play: start });
  if (start && matchMedia("(max-width: 59.99rem)").matches) get("player").scrollIntoView();
  [...hits.querySelectorAll(".hit")].forEach((hit, row) => hit.setAttribute("aria-current", moments[row] === moment));
}

function restorePlayer() {
  const moment = state.at && moments.find((each) => each.video_id === state.at && `${each.start},${each.end}` === state.t);
  if (moment) play(moment, false);
}

function closePlayer() {
  const row = moments.indexOf(player.playing());
  player.close();
  state = { ...state, at: "", t: "" };
  remember(false);
  hits.querySelectorAll("[aria-current]").forEach((hit) => hit.removeAttribute("aria-current"));
  hits.querySelectorAll(".hit")[row]?.focus();
}

function take(file) {
  if (!file?.type.startsWith("image/")) return say("Drop an image: a PNG, JPEG, WebP or GIF.", true);
  image = file;
  URL.revokeObjectURL(get("sent").src);
  get("sent").src = URL.createObjectURL(file);
  return change({ q: "", like: "", start: "", end: "" });
}

function move(key) {
  const buttons = [...hits.querySelectorAll(".hit")], row = buttons.indexOf(document.activeElement);
  if (!buttons.length) return false;
  const columns = getComputedStyle(hits).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  if (row < 0) buttons[0].focus();
  else if (row + step < 0) box.focus();
  else buttons[Math.min(row + step, buttons.length - 1)].focus();
  return true;
}

try {
  known = await (await fetch("/api/datasets")).json();
  fill(dataset, known.datasets.map((each) => [each.name, each.name]));
} catch (error) {
  say("The server does not answer: is stillmotion serve still running?", true);
  throw error;
}

document.addEventListener("keydown", (event) => {
  const within = event.target, isText = within === box;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !isText && within.tagName !== "SELECT") {
    box.focus();
    box.select();
  } else if (event.key === "Escape") {
    if (player.playing()) closePlayer();
    else if (asked()) get("clear").click();
  } else if (event.key.startsWith("Arrow")) {
    const chooses = within.classList?.contains("hit") || within === document.body || (isText && event.key === "ArrowDown");
    if (!chooses || !move(event.key)) return;
  } else return;
  event.preventDefault();
});

box.addEventListener("input", () => {
  image = null;
  change({ q: box.value, like: "", start: "", end: "" }, { push: false, wait: WAIT_MS });
});
get("form").addEventListener("submit", (event) => {
  event.preventDefault();
  change({ q: box.value });
});
dataset.addEventListener("change", () => change({ dataset: dataset.value, split: "", video: "", like: "", start: "", end: "" }));
split.addEventListener("change", () => change({ split: split.value }));
get("clear").addEventListener("click", () => {
  image = null;
  change({ q: "", like: "", start: "", end: "", video: "" });
  box.focus();
});
get("close").addEventListener("click", closePlayer);
get("again").addEventListener("click", () => player.stand(true));
get("bar").addEventListener("chosen", (event) => play(event.detail, true));
get("like-moment").addEventListener("click", () => like(player.playing(), true));
get("like-video").addEventListener("click", () => like(player.playing(), false));
get("within").addEventListener("click", () => change({ video: player.playing().video_id }));
function like(moment, span) {
  image = null;
  const part = span ? { start: String(moment.start), end: String(moment.end) } : { start: "", end: "" };
  change({ q: "", like: moment.video_id, video: "", ...part });
  player.close();
  scrollTo(0, 0);
}
get("pick").addEventListener("click", () => get("file").click());
get("file").addEventListener("change", () => take(get("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) take(file);
});
addEventListener("popstate", () => {
  state = fromAddress();
  image = null;
  show();
  search();
});

state = fromAddress();
if (!state.q && box.value.trim()) state.q = box.value; // typed while the page was loading
show();
if (!state.at) box.focus();
const [early] = get("file").files; // chosen while the page was loading
if (early && !asked()) take(early);
else search();
