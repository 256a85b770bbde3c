// What the studio's pages do by themselves: send what a person typed or clicked as JSON to this server, and show the answer.
"use strict";

const WAIT = 400; // milliseconds without a key before an edit is checked

async function send(address, body, signal) {
  const response = await fetch(address, {
    method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const text = await response.text();
  let answer;
  try { answer = JSON.parse(text); } catch { answer = { error: text || `the server answered ${response.status}` }; }
  if (!response.ok) throw new Error(answer.error || `the server answered ${response.status}`);
  return answer;
}

function tell(place, line, bad = false) {
  place.textContent = line;
  place.classList.toggle("bad", bad);
}

function link(place, line, address, words) {
  tell(place, `${line} `);
  const a = document.createElement("a");
  a.href = address;
  a.textContent = words;
  place.append(a);
}

function list(place, lines) {
  place.replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

function fields(form, pressed) { // what a form says: boxes as true or false, those of one list as their values
  const body = {};
  for (const one of form.elements) {
    if (!one.name || one.type === "submit") continue;
    if (one.type !== "checkbox") body[one.name] = one.value;
    else if ("list" in one.dataset) body[one.name] = [...body[one.name] ?? [], ...one.checked ? [one.value] : []];
    else body[one.name] = one.checked;
  }
  if (pressed?.name) body[pressed.name] = pressed.value;
  return body;
}

async function post(form, pressed) {
  const said = form.querySelector(".said"), buttons = [...form.querySelectorAll("button")], body = fields(form, pressed);
  for (const one of buttons) one.disabled = true;
  tell(said, form.dataset.wait ?? "…");
  try {
    const answer = await send(form.dataset.post, body);
    if (answer.again) { location.assign(answer.again); return; }
    if (answer.again === "") { location.reload(); return; }
    if (answer.address) link(said, answer.said, answer.address, answer.words);
    else tell(said, answer.said);
  } catch (error) { tell(said, error.message, true); }
  for (const one of buttons) one.disabled = false;
}

async function run(place, version, scale) {
  tell(place, "Handing the run to Dagster …");
  try {
    const started = await send(`/studio/versions/${version}/run`, { scale });
    link(place, "Started.", started.address, "Watch the run");
  } catch (error) { tell(place, error.message, true); }
}

function editor(form) {
  const $ = (id) => document.getElementById(id);
  const texts = [...form.querySelectorAll("[data-field]")], file = $("file"), said = $("said");
  const address = `/studio/constitutions/${form.dataset.name}`;
  let base = file.defaultValue, seen = form.dataset.seen, timer, asking, saving = false;
  for (const text of texts) text.dataset.was = text.defaultValue; // not its value: a person may type before this script runs

  const edits = () => texts.filter((t) => t.value !== t.dataset.was)
    .map((t) => [t.dataset.principle, t.dataset.field, t.value]);
  const scale = () => $("scale")?.value ?? null;
  const body = () => ({ file: base, edits: edits(), scale: scale() });
  const unsaved = () => edits().length > 0 || base !== form.dataset.saved;
  const saved = () => !unsaved() && !$("registered").hidden;
  form.dataset.saved = base;

  function show(answer) {
    list($("problems"), answer.problems);
    list($("findings"), answer.findings.map((f) => `${f.level}: ${f.principle ?? "constitution"}: ${f.message}`));
    $("version").textContent = answer.version ?? "–";
    $("registered").hidden = !answer.registered;
    if ($("save")) {
      $("save").disabled = answer.problems.length > 0 || saved();
      $("run").disabled = unsaved() || !answer.registered;
    }
  }

  async function look() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    try {
      const answer = await send(`${address}/check`, body(), signal);
      if (document.activeElement !== file) file.value = answer.file;
      show(answer);
      if (answer.problems.length) { tell($("summary"), "The plan comes when the text is a constitution again."); return; }
      tell($("summary"), "Planning …");
      const planned = await send(`${address}/plan`, body(), signal);
      tell($("summary"), `Plan: ${planned.summary}`);
      $("plan").innerHTML = planned.html; // made by this server's templates, which escape every text
    } catch (error) {
      if (error.name !== "AbortError") tell($("summary"), error.message, true);
    }
  }

  function soon() {
    for (const t of texts) t.classList.toggle("changed", t.value !== t.dataset.was);
    if ($("save")) {
      $("save").disabled = saved();
      $("run").disabled = true;
    }
    asking?.abort();
    tell($("summary"), "Checking …");
    clearTimeout(timer);
    timer = setTimeout(look, WAIT);
  }

  function typed() { // the whole file was edited: the cards show its texts
    base = file.value;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      try {
        const answer = await send(`${address}/check`, { file: base, edits: [], scale: scale() });
        for (const t of texts) {
          const text = answer.texts[t.dataset.principle]?.[t.dataset.field];
          if (text !== undefined) { t.value = text; t.dataset.was = text; }
        }
      } catch (error) { tell(said, error.message, true); }
      look();
    }, WAIT);
  }

  async function save() {
    if (saving) return;
    if (saved()) { tell(said, "Nothing to save: this is the version that is registered."); return; }
    saving = true;
    const sent = texts.map((t) => t.value), whole = file.value; // a person may type on while it is saved
    try {
      const kept = await send(`${address}/save`, { ...body(), seen });
      seen = kept.seen;
      form.dataset.saved = kept.file;
      if (file.value === whole) base = file.value = kept.file;
      texts.forEach((t, place) => { t.dataset.was = sent[place]; });
      link(said, "Saved as", `/studio/versions/${kept.version}`, kept.version);
      $("registered").hidden = false;
      soon();
    } catch (error) { tell(said, error.message, true); }
    saving = false;
  }

  for (const t of texts) t.addEventListener("input", soon);
  file.addEventListener("input", typed);
  form.addEventListener("submit", (event) => event.preventDefault());
  $("scale")?.addEventListener("change", soon);
  $("save")?.addEventListener("click", save);
  $("run")?.addEventListener("click", () => run(said, $("version").textContent, scale()));
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "s" && $("save")) { event.preventDefault(); save(); }
  });
  addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
  if (file.value === base) soon();
  else typed();
}

const form = document.getElementById("editor");
if (form) editor(form);
for (const one of document.querySelectorAll("form[data-post]")) {
  one.addEventListener("submit", (event) => { event.preventDefault(); post(one, event.submitter); });
}

function arena(form) {
  const said = document.getElementById("said");
  async function vote(button) {
    const buttons = [...form.querySelectorAll(".better")];
    for (const one of buttons) one.disabled = true;
    try {
      const kept = await send("/studio/arena/vote", {
        versions: form.dataset.versions.split(" "), prompt: form.dataset.prompt, text: form.dataset.text, blind: form.dataset.blind,
        better: Number(button.dataset.place),
      });
      form.querySelectorAll(".who").forEach((who, place) => {
        who.textContent = form.dataset.blind ? `${who.dataset.letter}: ${kept.names[place]}` : kept.names[place];
      });
      document.getElementById("votes").textContent = kept.count;
      tell(said, kept.new ? `Kept: ${kept.new} new comparison${kept.new === 1 ? "" : "s"}.` : "Nothing new: this was said before, or the texts are the same.");
      document.getElementById("next").focus();
    } catch (error) {
      tell(said, error.message, true);
      for (const one of buttons) one.disabled = false;
    }
  }
  for (const button of form.querySelectorAll(".better")) button.addEventListener("click", () => vote(button));
}

const contest = document.getElementById("arena");
if (contest) arena(contest);

for (const place of document.querySelectorAll("[data-load]")) {
  fetch(place.dataset.load).then(async (response) => {
    const text = await response.text();
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    place.innerHTML = text; // made by this server's templates, which escape every text
    for (const one of document.querySelectorAll("form[data-planned]")) one.hidden = false;
  }).catch((error) => tell(place, error.message, true));
}
