"use strict";
// The page talks to the API of its own server. Texts of users become text nodes, never HTML.
const $ = (id) => document.getElementById(id);
const cards = new Map(); // id -> list item
let key = "";
let oldest = null;

function headers() {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error.message);
  return content;
}

function setting(name, schema, value) {
  const label = document.createElement("label");
  const input = document.createElement(schema.enum ? "select" : "input");
  label.htmlFor = input.id = `setting-${name}`;
  label.textContent = name.replaceAll("_", " ");
  label.title = schema.description || "";
  input.name = name;
  const shown = value === undefined || value === null ? "default" : String(value);
  if (schema.enum) {
    input.append(new Option(shown === "default" ? shown : `default (${shown})`, ""));
    for (const word of schema.enum) input.append(new Option(word));
  } else {
    const number = schema.type === "integer" || schema.type === "number";
    input.type = number ? "number" : "text";
    if (number) input.step = schema.type === "integer" ? 1 : "any";
    if (schema.minimum !== undefined) input.min = schema.minimum;
    if (schema.maximum !== undefined) input.max = schema.maximum;
    input.placeholder = shown;
  }
  const field = document.createElement("div");
  if (!schema.type || (schema.type === "string" && !schema.enum) || schema.type === "array") field.className = "wide";
  field.append(label, input);
  return field;
}

async function prepare() {
  const [models, description] = await Promise.all([call("v1/models"), call("openapi.json")]);
  const model = models.data[0];
  $("model").textContent = model.id;
  $("picture-field").hidden = !model.input_reference;
  $("picture").required = model.input_reference;
  const body = description.paths["/v1/videos"].post.requestBody.content["application/json"].schema.properties;
  const fields = [];
  for (const [name, schema] of Object.entries(body)) {
    if (["prompt", "model", "seconds", "size", "sigmas"].includes(name)) continue;
    if (name === "loras" && !model.loras.length) continue;
    fields.push(setting(name, schema, name === "loras" ? model.loras.join(", ") : model.defaults[name]));
  }
  $("settings").replaceChildren(...fields);
}

function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", () => action().catch(complain));
  return made;
}

function complain(error) {
  $("problem").textContent = error.message;
}

function state(video) {
  if (video.status === "queued") return `waits, number ${video.queue_position ?? "?"} in the queue`;
  if (video.status === "in_progress") {
    const left = video.eta_seconds === null ? "" : `, ${Math.ceil(video.eta_seconds)} s left`;
    return video.step === video.total_steps ? "decoding" : `step ${video.step} of ${video.total_steps}${left}`;
  }
  if (video.status === "completed") return `${video.size}, ${video.seconds} s, seed ${video.seed}`;
  return video.error.message;
}

async function media(id, variant) {
  const answer = await fetch(`v1/videos/${id}/content?variant=${variant}`, { headers: headers() });
  return URL.createObjectURL(await answer.blob());
}

async function play(card, id) {
  const [image, video] = [card.querySelector("img"), card.querySelector("video")];
  image.src = await media(id, "thumbnail");
  image.hidden = false;
  const start = async () => {
    if (!video.src) video.src = await media(id, "video");
    image.hidden = true;
    video.hidden = false;
    await video.play().catch(() => {});
  };
  const screen = card.querySelector(".screen");
  screen.addEventListener("pointerenter", start);
  screen.addEventListener("pointerleave", () => video.pause());
  return start;
}

function useSettings(video) {
  $("prompt").value = video.prompt;
  const given = { ...video.settings, seed: video.seed, negative_prompt: video.negative_prompt };
  for (const input of $("settings").querySelectorAll("input, select")) {
    const value = given[input.name];
    input.value = value === undefined || value === null ? "" : value;
  }
  document.querySelector("details").open = true;
  $("prompt").focus();
}

function show(video, preview, end) {
  let card = cards.get(video.id);
  if (!card) {
    card = $("card").content.firstElementChild.cloneNode(true);
    card.querySelector(".prompt").textContent = video.prompt;
    card.querySelector("img").alt = `Preview: ${video.prompt}`;
    card.querySelector("video").setAttribute("aria-label", video.prompt);
    cards.set(video.id, card);
    if (end) $("videos").append(card); else $("videos").prepend(card);
    $("empty").hidden = true;
  }
  const image = card.querySelector("img");
  if (preview) { image.src = preview; image.hidden = false; }
  card.querySelector(".state").textContent = state(video);
  const bar = card.querySelector("progress");
  bar.value = video.progress;
  const running = video.status === "queued" || video.status === "in_progress";
  bar.hidden = !running;
  if (card.dataset.status === video.status) return;
  card.dataset.status = video.status;
  card.className = video.status;
  finish(card, video, running).catch(complain);
}

async function finish(card, video, running) {
  const path = `v1/videos/${video.id}`;
  const actions = [];
  if (running) actions.push(button("Cancel", () => call(`${path}/cancel`, { method: "POST" })));
  if (video.status === "cancelled" || video.status === "failed") {
    actions.push(button("Continue", () => call(`${path}/continue`, { method: "POST" })));
  }
  if (video.status === "completed") {
    const start = await play(card, video.id);
    actions.push(button("Play", start));
    actions.push(button("Save", async () => {
      const link = document.createElement("a");
      link.href = await media(video.id, "video");
      link.download = `${video.id}.mp4`;
      link.click();
    }));
  }
  actions.push(button("Use these settings", async () => useSettings(video)));
  if (!running) actions.push(button("Delete", () => call(path, { method: "DELETE" })));
  card.querySelector(".actions").replaceChildren(...actions);
}

// Videos of which an event came while a list was on its way: the event is the newer news.
const newer = new Set();

async function page() {
  newer.clear();
  const list = await call(`v1/videos?limit=24${oldest ? `&after=${oldest}` : ""}`);
  for (const video of list.data) if (!newer.has(video.id)) show(video, null, true);
  oldest = list.last_id ?? oldest;
  $("more").hidden = !list.has_more;
}

async function listen() {
  for (;;) {
    try {
      const answer = await fetch("v1/events?previews=true", { headers: headers() });
      $("connection").textContent = "connected";
      oldest = null;
      page().catch(() => {}); // what happened between the first list and this connection
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const events = (text + part.value).split("\n\n");
        text = events.pop();
        events.forEach(heard);
      }
    } catch { /* the server is gone; it may come back */ }
    $("connection").textContent = "the server does not answer; trying again";
    await new Promise((wait) => setTimeout(wait, 1000));
    oldest = null;
    await page().catch(() => {});
  }
}

function heard(event) {
  const line = event.split("\n").find((text) => text.startsWith("data: "));
  const content = line ? JSON.parse(line.slice(6)) : {};
  if (content.video) {
    newer.add(content.video.id);
    show(content.video, content.preview, false);
  }
  if (content.type === "video.deleted" && cards.has(content.id)) {
    cards.get(content.id).remove();
    cards.delete(content.id);
    $("empty").hidden = cards.size > 0;
  }
}

async function make(event) {
  event.preventDefault();
  $("problem").textContent = "";
  const form = new FormData($("make"));
  for (const [name, value] of [...form]) if (value === "" || value.size === 0) form.delete(name);
  try {
    show(await call("v1/videos", { method: "POST", body: form }), null, false);
  } catch (error) {
    complain(error);
  }
}

async function begin() {
  try {
    await prepare();
    await page();
  } catch (error) {
    $("key-field").hidden = false;
    $("connection").textContent = error.message;
    return;
  }
  $("key-field").hidden = !key;
  listen();
}

$("make").addEventListener("submit", make);
$("more").addEventListener("click", () => page().catch(complain));
$("key").addEventListener("change", () => { key = $("key").value.trim(); begin(); });
begin();
