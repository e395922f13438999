"use strict";
// What a model wrote reaches the page as textContent only; `html` is the coloured text of environments, escaped.
(() => {
  const runs = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const OUTCOMES = { "01": "fixed", "10": "broken", "00": "still wrong", "11": "still right" };
  const KINDS = ["fixed", "broken", "still wrong", "still right"];
  const PAGE = 12;
  let run, pairs = [], place = 0, outcome = "", shown = PAGE, timer = 0;

  function make(tag, name = "", text = "") {
    const element = document.createElement(tag);
    element.className = name;
    element.textContent = text;
    return element;
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value, false, value === chosen)));
  }

  /** How many steps a completion has: those that unmasked something or, on a canvas that is redrawn, were made. */
  const steps = (one) => 1 + Math.max(-1, ...(one.path ? one.path.map((path) => path.at(-1)?.[0] ?? -1) : one.reveal));

  function facts(one, title) {
    const line = make("div", "facts");
    const rewards = Object.entries(one.rewards).map(([name, value]) => `${name} ${+value.toFixed(3)}`).join(", ");
    line.append(
      make("b", "", title),
      make("span", `tag ${one.correct ? "right" : "wrong"}`, one.correct ? "right" : one.reason || "wrong"),
      make("span", "", `reward ${+one.reward.toFixed(3)} (${rewards})`),
    );
    return line;
  }

  /** The positions of a completion, and `show(step)`: what was unmasked in the first so many steps. */
  function strip(one) {
    const box = make("div", "tokens");
    const last = steps(one);
    const given = (i) => one.reveal[i] === -2;
    const shown = one.reveal.findLastIndex((step, i) => step >= 0 || (given(i) && one.tokens[i])) + 1;
    const chips = one.tokens.slice(0, shown).map((token, i) => {
      if (i && i % run.block === 0) box.append(make("span", "block"));
      const special = /^<\|.*\|>$/.test(token) ? " special" : "";
      const chip = make("span", `token${special}`, token.replace(/\n/g, "\u21b5"));
      chip.style.setProperty("--sure", one.sure[i] ?? 0);
      if (one.reveal[i] >= 0) chip.dataset.step = one.reveal[i] + 1;
      chip.title = given(i) ? `position ${i + 1}, given` : `position ${i + 1}, step ${one.reveal[i] + 1}, ${one.sure[i]}% sure`;
      box.append(chip);
      if (token.includes("\n")) box.append(make("br"));
      return chip;
    });
    const redrawn = (step) => {
      let accepted = 0, count = 0;
      chips.forEach((chip, i) => {
        const path = one.path[i], end = path.at(-1)?.[0] ?? -1;
        const at = path.findLast(([from]) => from < step), over = step > end;
        const text = over ? one.tokens[i] : at?.[1];
        chip.textContent = (text ?? "").replace(/\n/g, "\u21b5");
        chip.style.setProperty("--sure", (over && one.sure[i]) || 0);
        chip.classList.toggle("masked", !at);
        chip.classList.toggle("redrawn", Boolean(at) && text == null);
        chip.classList.toggle("now", Boolean(at) && !over && text != null);
        if (at && step <= end) { accepted += text != null; count += 1; }
      });
      return count ? `${accepted} accepted, ${count - accepted} drawn anew` : "";
    };
    const show = (step) => {
      if (one.path) return redrawn(step);
      let sum = 0, count = 0;
      chips.forEach((chip, i) => {
        chip.classList.toggle("masked", !given(i) && (one.reveal[i] < 0 || one.reveal[i] >= step));
        const now = step < last && one.reveal[i] === step - 1;
        chip.classList.toggle("now", now);
        if (now) { sum += one.sure[i]; count += 1; }
      });
      return count ? `${count} unmasked, ${Math.round(sum / count)}% sure` : "";
    };
    return { box, show };
  }

  /** All turns of an episode, one after the other, as one strip: a reply is shown once its turn is written. */
  function replay(one) {
    const turns = one.turns ?? [one], box = make("div"), parts = [];
    let before = 0;
    for (const turn of turns) {
      const part = strip(turn), reply = make("pre", "prompt", turn.reply ?? "");
      box.append(part.box, reply);
      parts.push({ part, reply, before, last: before + steps(turn), replied: Boolean(turn.reply) });
      before += steps(turn);
    }
    const show = (step) => {
      let said = "";
      for (const { part, reply, before, last, replied } of parts) {
        const text = part.show(step - before);
        part.box.hidden = before > 0 && step <= before;
        reply.hidden = !replied || step < last;
        if (step > before && step <= last) said = text;
      }
      return said;
    };
    return { box, show, steps: before };
  }

  /** A completion step by step, and at the last step what its environment makes of it; `show` as of `strip`. */
  function side(one, title) {
    const box = make("div", "card side"), tokens = replay(one), said = make("small"), finished = make("div", "env");
    finished.innerHTML = one.html || "";
    box.append(facts(one, title), tokens.box, said, finished);
    const show = (step) => {
      said.textContent = tokens.show(step);
      finished.classList.toggle("unfinished", step < tokens.steps);
    };
    return { box, show, steps: tokens.steps };
  }

  const titled = (set) => set.name === "before" || set.name === "after" ? `${set.name} training` : `${set.name.replace(/step-0*(\d)/, "step $1")}, ${set.split}`;
  const named = (name) => run.sets.find((set) => set.name === name);
  let sides = [];

  function choosePairs() {
    const left = named(at("left").value), right = named(at("right").value), chips = at("outcomes");
    pairs = [];
    chips.replaceChildren();
    if (!left) return showPair();
    const key = (row) => `${row.index} ${row.generation}`;
    const others = new Map((right?.rows ?? []).map((row) => [key(row), row]));
    const counts = {};
    for (const row of left.rows) {
      const other = others.get(key(row));
      if (right && !other) continue;
      const kind = right ? OUTCOMES[`${+row.correct}${+other.correct}`] : row.correct ? "right" : "wrong";
      counts[kind] = (counts[kind] || 0) + 1;
      pairs.push({ kind, ones: [row, other].filter(Boolean) });
    }
    const kinds = right ? KINDS : ["right", "wrong"];
    if (outcome && !counts[outcome]) outcome = "";
    for (const kind of kinds) {
      const chip = make("button", "", `${kind} ${counts[kind] || 0}`);
      chip.type = "button";
      chip.disabled = !counts[kind];
      chip.setAttribute("aria-pressed", kind === outcome);
      chip.addEventListener("click", () => { outcome = outcome === kind ? "" : kind; choosePairs(); });
      chips.append(chip);
    }
    if (outcome) pairs = pairs.filter((pair) => pair.kind === outcome);
    place = Math.max(0, pairs.findIndex((pair) => pair.kind === "fixed"));  // what was learned
    showPair();
  }

  function showPair() {
    stop();
    const stage = at("stage"), pair = pairs[place];
    at("previous").disabled = at("next").disabled = pairs.length < 2;
    stage.replaceChildren();
    sides = [];
    at("prompt").hidden = !pair;
    if (!pair) {
      at("where").textContent = run.sets.length ? "no problem in both" : "no completions are recorded";
      return;
    }
    const sets = [named(at("left").value), named(at("right").value)];
    at("where").textContent = `problem ${pair.ones[0].index} (${place + 1} of ${pairs.length})`;
    at("prompt").textContent = pair.ones[0].prompt;
    sides = pair.ones.map((one, i) => side(one, titled(sets[i])));
    stage.append(...sides.map((one) => one.box));
    const slider = at("slider");
    slider.max = Math.max(1, ...sides.map((one) => one.steps));
    slider.value = slider.max;
    move();
  }

  function move() {
    const step = +at("slider").value;
    for (const one of sides) one.show(step);
    at("moment").textContent = `step ${step} of ${at("slider").max}`;
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    at("play").textContent = "\u25b6";
    at("play").setAttribute("aria-label", "play");
  }

  function play() {
    if (timer) return stop();
    const slider = at("slider");
    if (slider.value === slider.max) slider.value = 0;
    at("play").textContent = "\u275a\u275a";
    at("play").setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      move();
      if (slider.value === slider.max) stop();
    }, Math.max(40, Math.min(350, 8000 / slider.max)));
    move();
  }

  function turn(by) {
    place = (place + by + pairs.length) % pairs.length;
    showPair();
  }

  function chooseSet() {
    const set = named(at("set").value);
    const reasons = set ? [...new Set(set.rows.map((row) => row.reason))].sort() : [];
    fill(at("reason"), [["", "any"], ...reasons.map((reason) => [reason, reason || "none given"])], "");
    list();
  }

  function list() {
    const set = named(at("set").value), box = at("list");
    box.replaceChildren();
    at("more").hidden = true;
    at("found").textContent = "";
    if (!set) return;
    const verdict = at("verdict").value, reason = at("reason").value, text = at("search").value.toLowerCase();
    const rows = set.rows.filter((row) =>
      (!verdict || +row.correct === +verdict) &&
      (!reason || row.reason === reason) &&
      (!text || `${row.prompt}\n${row.completion}`.toLowerCase().includes(text)));
    const order = at("order").value;
    if (order !== "index") rows.sort((a, b) => b[order] - a[order]);
    const cut = set.rows.length < set.total ? `; the first ${set.rows.length} of ${set.total} are on this page, all are in the run folder` : "";
    at("found").textContent = `${rows.length} of ${set.rows.length} completions${cut}`;
    at("more").hidden = rows.length <= shown;
    box.append(...rows.slice(0, shown).map(item));
  }

  function item(one) {
    const box = make("details", "card item"), line = make("summary");
    line.append(
      make("span", one.correct ? "right" : "wrong", one.correct ? "\u25cf" : "\u25cb"),
      make("span", "", `#${one.index}`),
      make("code", "", one.completion.replace(/\s+/g, " ").slice(0, 300)),
      make("span", "", one.reason),
      make("span", "", `reward ${+one.reward.toFixed(3)}`),
      make("span", "", `${one.length} tokens`),
    );
    box.append(line);
    box.addEventListener("toggle", () => {
      if (!box.open || box.children.length > 1) return;
      const inside = make("div", "inside"), tokens = replay(one), slider = make("input");
      slider.type = "range";
      slider.max = slider.value = tokens.steps;
      slider.setAttribute("aria-label", "denoising step");
      slider.addEventListener("input", () => tokens.show(+slider.value));
      const bar = make("div", "bar slider");
      bar.append(slider);
      inside.append(make("pre", "prompt", one.prompt), bar, tokens.box, facts(one, ""));
      tokens.show(tokens.steps);
      box.append(inside);
    });
    return box;
  }

  function chooseRun() {
    const number = at("run") ? +at("run").value : 0;
    run = runs[number];
    for (const box of document.querySelectorAll(".of-run")) box.hidden = +box.dataset.run !== number;
    const names = run.sets.map((set) => [set.name, titled(set)]), has = (name) => Boolean(named(name));
    fill(at("left"), names, has("before") ? "before" : undefined);
    fill(at("right"), [["", "nothing"], ...names], has("before") && has("after") ? "after" : "");
    fill(at("set"), names, has("after") ? "after" : undefined);
    outcome = "";
    choosePairs();
    chooseSet();
  }

  for (const id of ["left", "right"]) at(id).addEventListener("change", choosePairs);
  for (const id of ["verdict", "reason", "order", "search"]) at(id).addEventListener("input", () => { shown = PAGE; list(); });
  at("set").addEventListener("change", () => { shown = PAGE; chooseSet(); });
  at("more").addEventListener("click", () => { shown += 100; list(); });
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  at("slider").addEventListener("input", () => { stop(); move(); });
  at("play").addEventListener("click", play);
  if (at("run")) at("run").addEventListener("change", chooseRun);
  chooseRun();
})();
