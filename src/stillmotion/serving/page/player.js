// A video that stands at a moment, with the moments found in it on a bar below.
const get = (id) => document.getElementById(id);
const video = get("video"), bar = get("bar"), cursor = get("cursor"), trouble = get("trouble");
let current = null;

export const seconds = (value) => {
  const tenths = Math.round(value * 10), whole = Math.floor(tenths / 10);
  const part = tenths % 10 ? `.${tenths % 10}` : "";
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}${part}`;
};
export const span = (moment) => `${seconds(moment.start)} to ${seconds(moment.end)}`;
export const playing = () => current;

export function open(moment, others, { play }) {
  const isNew = current?.video !== moment.video || video.error;
  current = moment;
  get("player").hidden = false;
  get("playing").textContent = `${moment.video_id}, ${span(moment)}`;
  get("said").textContent = moment.captions.slice(0, 4).join(" · ");
  trouble.hidden = true;
  mark(others);
  if (isNew) {
    video.src = moment.video;
    video.load();
  }
  stand(play);
}

export function close() {
  current = null;
  video.pause();
  video.removeAttribute("src");
  video.load();
  get("player").hidden = true;
}

export function stand(play) {
  const seek = () => {
    video.currentTime = current.start;
    if (play) video.play().catch(() => {});
  };
  if (video.readyState >= 1) seek();
  else video.addEventListener("loadedmetadata", () => current && seek(), { once: true });
}

function mark(others) {
  const length = current.duration || current.end;
  bar.replaceChildren(cursor);
  for (const other of others) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = other === current ? "chosen" : "";
    button.style.left = `${(100 * other.start) / length}%`;
    button.style.width = `${(100 * (other.end - other.start)) / length}%`;
    button.title = span(other);
    button.setAttribute("aria-label", `Play ${span(other)}`);
    button.addEventListener("click", () => bar.dispatchEvent(new CustomEvent("chosen", { detail: other })));
    bar.append(button);
  }
}

video.addEventListener("timeupdate", () => {
  if (!current) return;
  cursor.style.left = `${(100 * video.currentTime) / (current.duration || video.duration || 1)}%`;
  // The end of the moment is where it stops, once: played on, it plays on.
  if (!video.paused && video.currentTime >= current.end && video.currentTime < current.end + 0.4) video.pause();
});
video.addEventListener("error", () => {
  if (!current) return;
  trouble.textContent = "This browser can't play the file. ";
  const link = document.createElement("a");
  link.href = current.video;
  link.textContent = "Open it with another program.";
  link.download = current.video_id.split("/").pop();
  trouble.append(link);
  trouble.hidden = false;
});
