// Sliders, the knobs of the data, and messages to the kernel: one that sets something is under way at a time.
const LEAST = -2, MOST = 1; // powers of ten on a weight's slider; one notch below the least is 0
const NOTCH = 0.05;
const UNHEARD = 3000; // ms after which a message counts as lost

const toWeight = (value) => (value < LEAST - NOTCH / 2 ? 0 : 10 ** value);
const toSlider = (weight) => (weight > 0 ? Math.max(Math.log10(weight), LEAST) : LEAST - NOTCH);
const short = (value) => (value === 0 ? "0" : value >= 10 ? value.toFixed(0) : value.toPrecision(2));
const percent = (value) => `${Math.round(100 * value)} %`;

function makeSlider(parent, name, { low, high, notch, words, task = "" }, moved, live = true) {
  const label = make("label", parent, {}, task ? "task" : "");
  if (task) label.dataset.task = task;
  make("b", label, { textContent: name });
  const input = make("input", label, { type: "range", min: low, max: high, step: notch, ariaLabel: name });
  const output = make("output", label);
  const tell = () => {
    output.textContent = words(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  let heldUntil = 0; // what comes from the kernel must not move it under the hand
  const hold = (ms) => () => { heldUntil = performance.now() + ms; };
  input.addEventListener("pointerdown", hold(Infinity));
  for (const end of ["pointerup", "pointercancel", "change"]) input.addEventListener(end, hold(700));
  input.addEventListener("input", () => { if (heldUntil < Infinity) hold(live ? 700 : 5000)(); tell(); });
  input.addEventListener(live ? "input" : "change", () => moved(Number(input.value)));
  function show(value, said = null) { // what is set may lie beyond the ends of the slider
    if (performance.now() <= heldUntil) return;
    input.value = value;
    tell();
    if (said !== null) output.textContent = said;
    if (said !== null) input.setAttribute("aria-valuetext", said);
  }
  return { input, show };
}

function makeChoice(parent, words, names, chosen, title = "") {
  const choice = make("select", make("label", parent, { textContent: `${words} ` }), { title });
  let filled = "";
  const fill = (values) => {
    if (filled === String(values)) return;
    filled = String(values);
    choice.replaceChildren();
    for (const value of values) make("option", choice, { value, textContent: value === "StaticWeights" ? "static weights" : value });
  };
  fill(names);
  let heldUntil = 0;
  choice.addEventListener("change", () => { heldUntil = performance.now() + 700; chosen(choice.value); });
  return { choice, fill, show: (value) => { if (choice.value !== value && performance.now() > heldUntil) choice.value = value; } };
}

function makeKnob(parent, knob, tasks, set) { // returns what shows the value that is set
  const words = knob.name.replaceAll("_", " "), put = (value) => set({ data: { [knob.name]: value } });
  if (knob.choices.length) return makeChoice(parent, words, knob.choices, put, knob.about).show;
  if (knob.range) {
    const [low, high] = knob.range, whole = knob.kind === "int", notch = whole ? Math.max(1, Math.round((high - low) / 20)) : (high - low) / 20;
    const form = { low, high, notch, words: whole ? String : high === 1 ? percent : short };
    const each = knob.perTask ? tasks : [""];
    const all = () => Object.fromEntries(each.map((task, k) => [task, Number(parts[k].input.value)]));
    const parts = each.map((task) => makeSlider(
      parent, task ? `${words}: ${task}` : words, { ...form, task }, () => put(knob.perTask ? all() : all()[""]), false));
    return (value) => each.forEach((task, k) => parts[k].show(typeof value === "object" ? value[task] || 0 : value));
  }
  const type = { bool: "checkbox", str: "text" }[knob.kind] || "number", property = type === "checkbox" ? "checked" : "value";
  const field = make("input", make("label", parent, { textContent: `${words} ` }), { type, title: knob.about });
  if (type === "number") field.step = knob.kind === "int" ? 1 : "any";
  field.addEventListener("change", () => put(type === "number" ? Number(field.value) : field[property]));
  return (value) => { if (document.activeElement !== field || type === "checkbox") field[property] = value ?? ""; };
}

function makeSender(send, gap) { // what is set while a message is under way waits in one message: the newest value wins
  const view = Math.random().toString(36).slice(2), asked = new Map(); // stamp of a change → when it was made
  let stamp = 0, waiting = null, underWay = 0, sentAt = -UNHEARD;
  function flush(at = "") { // "once": what follows must find it set
    const now = performance.now();
    if (!waiting || (at !== "once" && underWay && now - sentAt < UNHEARD)) return;
    const early = gap() - (now - sentAt); // no step takes up two of them
    if (at !== "once" && early > 0) { setTimeout(flush, early); return; }
    underWay = stamp;
    sentAt = now;
    send({ t: "set", changes: waiting, stamp: [view, stamp] });
    waiting = null;
  }
  return {
    flush,
    stamp: () => stamp,
    set(changes) {
      asked.set((stamp += 1), performance.timeOrigin + performance.now());
      const before = waiting || {};
      waiting = { ...before, ...changes };
      for (const kind of ["weights", "data"]) if (before[kind] && changes[kind]) waiting[kind] = { ...before[kind], ...changes[kind] };
      flush();
    },
    heard([by, number]) { // the kernel has the message
      if (by !== view || number < underWay) return;
      underWay = 0;
      flush();
    },
    answered([by, number]) { // a step has used it: returns stamp → when it was asked for
      const done = by === view ? [...asked].filter(([k]) => k <= number) : [];
      for (const [k] of done) asked.delete(k);
      return done;
    },
  };
}
