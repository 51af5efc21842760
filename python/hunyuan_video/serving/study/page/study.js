"use strict";
const QUESTIONS = [
  ["text", "Which follows the text better?"],
  ["motion", "Whose motion is better?"],
  ["visual", "Which looks better?"],
  ["overall", "Which is better overall?"],
];
const ANSWERS = ["left", "same", "right"];
const KEYS = { ArrowLeft: "left", ArrowDown: "same", ArrowRight: "right" };
const KEPT = "vote"; // an answer that has not been stored yet outlives a closed tab
const APART = 0.05; // seconds
const form = document.getElementById("questions");
const videos = ["left", "right"].map((side) => document.getElementById(side));
let task = null, begun = 0, now = 0, sending = false;

const note = (text) => { document.getElementById("note").textContent = text; };
const chosen = (name) => form.elements[name] && form.elements[name].value;

function build() {
  for (const [name, text] of QUESTIONS) {
    const field = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = text;
    field.append(legend);
    for (const answer of ANSWERS) {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name, value: answer });
      input.addEventListener("change", () => { now = QUESTIONS.findIndex((q) => q[0] === name) + 1; mark(); });
      label.append(input, " " + answer);
      field.append(label);
    }
    form.append(field);
  }
  const button = document.createElement("button");
  button.textContent = "Send";
  form.append(button);
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
}

function mark() {
  form.querySelectorAll("fieldset").forEach((field, i) => field.classList.toggle("now", i === now));
  form.querySelector("button").disabled = sending || QUESTIONS.some(([name]) => !chosen(name));
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(content.error || "the server cannot answer"), { status: answer.status });
  return content;
}

async function next() {
  task = await ask("/api/task");
  document.getElementById("count").textContent = `${task.done} of ${task.total} done`;
  if (!task.task) {
    document.getElementById("prompt").textContent = "That was all. Thank you!";
    for (const part of [document.getElementById("pair"), form]) part.hidden = true;
    document.getElementById("pair").style.display = "none";
    return;
  }
  document.getElementById("prompt").textContent = task.prompt;
  form.reset();
  now = 0;
  videos[0].src = "/clips/" + task.left;
  videos[1].src = "/clips/" + task.right;
  await Promise.all(videos.map((video) => new Promise((done) => { video.oncanplay = done; video.onerror = done; })));
  videos.forEach((video) => { video.muted = true; video.currentTime = 0; video.play().catch(() => {}); });
  begun = performance.now();
  mark();
}

async function send() {
  if (sending || !task || QUESTIONS.some(([name]) => !chosen(name))) return;
  const vote = { task: task.task, seconds: (performance.now() - begun) / 1000 };
  for (const [name] of QUESTIONS) vote[name] = chosen(name);
  localStorage.setItem(KEPT, JSON.stringify(vote));
  await deliver();
}

async function deliver() {
  const vote = localStorage.getItem(KEPT);
  sending = true;
  mark();
  try {
    if (vote) {
      await ask("/api/votes", { method: "POST", headers: { "content-type": "application/json" }, body: vote });
      localStorage.removeItem(KEPT);
    }
    sending = false;
    note("");
    await next();
  } catch (error) {
    sending = false;
    if (error.status && error.status < 500) {
      localStorage.removeItem(KEPT);
      note(error.message);
      if (error.status === 409 || error.status === 404) await next().catch((wrong) => note(wrong.message));
    } else {
      sending = true;
      note("Not stored yet; trying again. You may close the page: the answer is kept here.");
      setTimeout(deliver, 2000);
    }
    mark();
  }
}

document.addEventListener("keydown", (event) => {
  if (!task || !task.task || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in KEYS && now < QUESTIONS.length) {
    form.querySelector(`input[name=${QUESTIONS[now][0]}][value=${KEYS[event.key]}]`).checked = true;
    now += 1;
  } else if (event.key === "Backspace") {
    now = Math.max(now - 1, 0);
  } else if (event.key === "Enter") {
    send();
  } else {
    return;
  }
  event.preventDefault();
  mark();
});

setInterval(() => {
  const [a, b] = videos;
  if (a.duration && Math.abs(a.duration - b.duration) < APART && Math.abs(a.currentTime - b.currentTime) > APART) {
    const gap = Math.abs(a.currentTime - b.currentTime);
    if (Math.min(gap, a.duration - gap) > APART) b.currentTime = a.currentTime;
  }
}, 250);

build();
deliver();
