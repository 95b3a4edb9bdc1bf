// The browser's half of the live lab: controls that answer at once, and four canvases. All else comes from the kernel.
const LEAST = -2, MOST = 1; // powers of ten on a weight's slider; one notch below the least is 0
const NOTCH = 0.05;
const HELD = 3000; // points of a curve; beyond, every second one is dropped

const toWeight = (value) => (value < LEAST - NOTCH / 2 ? 0 : 10 ** value);
const toSlider = (weight) => (weight > 0 ? Math.max(Math.log10(weight), LEAST) : LEAST - NOTCH);
const short = (value) => (value === 0 ? "0" : value >= 10 ? value.toFixed(0) : value.toPrecision(2));
const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function render({ model, el }) {
  const root = make("div", el, {}, "mtl-lab");
  let seen = 0, stamp = 0, heard = performance.now();
  const shown = { fixed: null, now: {}, points: [], trail: [], look: null, images: null, colours: {} }; // what is drawn
  let painted = new Map(), closed = false; // painted: stamp of a change → when it was made
  let inSight = 0; // until when the page comes back to the lab

  // ---- controls
  const ask = make("div", root, {}, "ask");
  const bar = make("div", root, {}, "row");
  const button = (text, what, title) => {
    const made = make("button", bar, { textContent: text, title, type: "button" });
    made.addEventListener("click", () => send({ t: "do", what: typeof what === "string" ? what : what() }));
    return made;
  };
  const go = button("Start", () => (shown.now.running ? "pause" : "start"), "train, or stop after this step");
  go.className = "go";
  button("Step", "step", "pause and train for one step");
  button("Reset", "reset", "start again with the same seed");
  button("New seed", "seed", "start again with the next seed");
  button("Replay", "replay", "start again, and change what you changed, at the same steps");
  const methodLabel = make("label", bar, { textContent: "method " });
  const method = make("select", methodLabel);
  method.addEventListener("change", () => set({ method: method.value }));
  const state = make("div", bar, {}, "state");
  const trouble = make("div", root, { role: "alert" }, "trouble");
  const sliderRow = make("div", root, {}, "row sliders");
  const sliders = {};

  function slider(key, name, low, high, notch, words, task = -1, live = true, parent = sliderRow) {
    const label = make("label", parent, {}, task < 0 ? "" : "task");
    if (task >= 0) label.dataset.task = shown.fixed.tasks[task];
    make("b", label, { textContent: name });
    const input = make("input", label, { type: "range", min: low, max: high, step: notch, ariaLabel: name });
    const output = make("output", label);
    const tell = () => {
      output.textContent = words(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", tell);
    input.addEventListener(live ? "input" : "change", () => key(Number(input.value)));
    let heldUntil = 0;
    input.addEventListener("input", () => { heldUntil = performance.now() + 700; });
    return { input, show: (value) => { if (performance.now() > heldUntil) { input.value = value; tell(); } } };
  }

  const more = make("details", root);
  make("summary", more, { textContent: "the data" });
  const dataRow = make("div", more, {}, "row");
  const percent = (value) => `${Math.round(100 * value)} %`;
  const knobs = []; // functions that show what is set now

  function addKnob(knob) {
    const words = knob.name.replaceAll("_", " ");
    const put = (value) => set({ data: { [knob.name]: value } });
    if (knob.choices.length) {
      const choice = make("select", make("label", dataRow, { textContent: `${words} ` }), { title: knob.about });
      for (const name of knob.choices) make("option", choice, { value: name, textContent: name });
      choice.addEventListener("change", () => put(choice.value));
      knobs.push(() => { if (document.activeElement !== choice) choice.value = shown.now.data[knob.name]; });
    } else if (knob.range) {
      const [low, high] = knob.range, notch = (high - low) / 20;
      const each = knob.perTask ? shown.fixed.tasks : [""];
      const parts = each.map((task, k) => slider(
        () => put(knob.perTask ? Object.fromEntries(each.map((name, n) => [name, Number(parts[n].input.value)])) : Number(parts[0].input.value)),
        task ? `${words}: ${task}` : words, low, high, notch, high === 1 ? percent : short, task ? k : -1, false, dataRow));
      knobs.push(() => {
        const value = shown.now.data[knob.name];
        each.forEach((task, k) => parts[k].show(typeof value === "object" ? value[task] || 0 : value));
      });
    } else {
      const number = make("input", make("label", dataRow, { textContent: `${words} ` }), { type: "number", step: "any", title: knob.about });
      number.addEventListener("change", () => put(Number(number.value)));
      knobs.push(() => { if (document.activeElement !== number) number.value = shown.now.data[knob.name]; });
    }
  }

  const pictures = make("div", root, {}, "pictures");
  const loss = make("canvas", make("div", pictures, {}, "loss"), { role: "img", ariaLabel: "loss of each task over the steps" });
  const samples = make("canvas", make("div", pictures, {}, "samples"), { role: "img", ariaLabel: "test samples with what is true and what the network says" });
  const small = make("div", pictures, {}, "small");
  const dial = make("canvas", make("div", small), { role: "img" });
  const plane = make("canvas", make("div", small), { role: "img", ariaLabel: "trail of the scores" });
  const { drawLoss, drawDial, drawPlane, drawSamples, resized } = painter({ loss, samples, dial, plane }, shown);

  // ---- to the kernel
  const gone = "No answer from the kernel: it is busy, or it was stopped. Run the cell again if this stays.";
  function send(content) {
    try {
      model.send({ seen, ...content });
    } catch (error) { // the kernel was restarted
      trouble.textContent = gone;
    }
  }
  let waiting = null, lastSent = 0;
  function set(changes) {
    stamp += 1;
    painted.set(stamp, performance.timeOrigin + performance.now());
    root.dataset.asked = stamp;
    waiting = { changes: { ...(waiting ? waiting.changes : {}), ...changes }, stamp };
    const flush = () => {
      if (!waiting) return;
      send({ t: "set", ...waiting });
      waiting = null;
      lastSent = performance.now();
    };
    const early = 15 - (performance.now() - lastSent); // the newest wins: a drag gives more events than are useful
    if (early <= 0) flush();
    else setTimeout(flush, early);
  }

  // ---- from the kernel
  function addPoints(view) {
    const rows = floatsOf(view), K = shown.fixed.tasks.length, wide = 1 + 2 * K;
    for (let k = 0; k + wide <= rows.length; k += wide) {
      const step = rows[k], losses = [...rows.subarray(k + 1, k + 1 + K)], weights = [...rows.subarray(k + 1 + K, k + wide)];
      const last = shown.points[shown.points.length - 1];
      if (last && step <= last.step) continue;
      const smooth = losses.map((loss, t) => {
        const before = last ? last.smooth[t] : NaN, value = Math.log(Math.max(loss, 1e-6));
        if (Number.isNaN(loss)) return before;
        return Number.isNaN(before) ? value : before + Math.max(0.06, 1 / (shown.points.length + 1)) * (value - before);
      });
      const changed = last && (weights.some((weight, t) => weight !== last.weights[t]) || last.method !== shown.now.method);
      shown.points.push({ step, losses, weights, smooth, changed, method: shown.now.method });
    }
    if (shown.points.length > HELD) shown.points = shown.points.filter((point, k) => point.changed || k % 2 === 0);
  }

  function heardFrom(content, buffers) {
    heard = performance.now();
    if (content.t === "refused") { trouble.textContent = content.why; return; }
    shown.now = content;
    seen = content.n;
    if (content.t === "all") {
      if (content.inSight) inSight = performance.now() + 20000;
      shown.fixed = content;
      shown.points = [];
      shown.trail = content.trail;
      const raw = bytesOf(buffers[1]);
      let place = 0;
      shown.images = shown.fixed.samples.map(({ size }) => {
        if (!size) return null; // text
        const [high, wide] = size, canvas = Object.assign(document.createElement("canvas"), { width: wide, height: high });
        const data = new ImageData(wide, high);
        for (let p = 0; p < wide * high; p++, place += 3) data.data.set([raw[place], raw[place + 1], raw[place + 2], 255], 4 * p);
        canvas.getContext("2d").putImageData(data, 0, 0);
        return canvas;
      });
      setUp();
    } else if (!shown.fixed) return; // a view that just came waits for everything
    addPoints(buffers[0]);
    if (content.look) { shown.look = content.look; drawSamples(); }
    const scores = shown.fixed.plane.map((name) => content.scores[name]);
    const last = shown.trail[shown.trail.length - 1];
    const moved = !last || scores.some((score, k) => Math.abs(score - last[k]) > 5e-4);
    if (scores.every(Number.isFinite) && content.t === "frame" && moved) shown.trail.push(scores);
    if (shown.trail.length > HELD) shown.trail = shown.trail.filter((_, k) => k % 2 === 0);
    showState();
    comeBack();
    drawLoss();
    drawDial();
    if (content.t === "all" || shown.trail[shown.trail.length - 1] !== last) drawPlane();
    if (content.stamp && painted.has(content.stamp) && (content.used || !content.running)) {
      const asked = painted.get(content.stamp);
      painted = new Map([...painted].filter(([k]) => k > content.stamp));
      requestAnimationFrame(() => { // what was drawn is about to be seen
        const at = performance.timeOrigin + performance.now();
        Object.assign(root.dataset, { answered: content.stamp, toWeight: (content.used - asked).toFixed(1), toPixels: (at - asked).toFixed(1) });
      });
    }
    root.dataset.frames = Number(root.dataset.frames || 0) + 1;
    if (content.look) root.dataset.looks = Number(root.dataset.looks || 0) + 1;
  }

  function setUp() {
    ask.textContent = shown.fixed.ask;
    if (!sliders.rate) {
      shown.fixed.tasks.forEach((task, k) => {
        sliders[task] = slider((value) => set({ [task]: toWeight(value) }), task, LEAST - NOTCH, MOST, NOTCH, (value) => short(toWeight(value)), k);
      });
      sliders.rate = slider((value) => set({ rate: toWeight(value) }), "rate", LEAST - NOTCH, MOST, NOTCH, (value) => `× ${short(toWeight(value))}`);
      for (const name of shown.fixed.methods) make("option", method, { value: name, textContent: name === "StaticWeights" ? "static weights" : name });
      shown.fixed.knobs.forEach(addKnob);
      more.hidden = !shown.fixed.knobs.length;
      sliderRow.classList.toggle("many", shown.fixed.tasks.length > 2);
      paint();
    }
    drawSamples();
  }

  function paint() { // the tasks' colours, in this theme
    for (const label of root.querySelectorAll(".task")) label.style.setProperty("--task", shown.colours.tasks[shown.fixed.tasks.indexOf(label.dataset.task) % shown.colours.tasks.length]);
  }

  function showState() {
    go.textContent = shown.now.running ? "❚❚ Pause" : "▶ Start";
    for (const task of shown.fixed.tasks) sliders[task].show(toSlider(shown.now.weights[task]));
    sliders.rate.show(toSlider(shown.now.rate));
    if (document.activeElement !== method) method.value = shown.now.method;
    for (const show of knobs) show();
    const off = shown.fixed.tasks.every((task) => shown.now.weights[task] === 0);
    trouble.textContent = shown.now.error ? `${shown.now.error}. Press Reset to start again.` : off ? "Every weight is 0: nothing is learned." : "";
    const speed = shown.now.running && shown.now.speed ? `${Math.round(shown.now.speed * shown.now.batch)} samples/s, ${(1000 / shown.now.speed).toFixed(0)} ms a step` : "";
    state.textContent = `seed ${shown.now.seed}, step ${shown.now.step}${speed && ", "}${speed}`;
    Object.assign(root.dataset, { step: shown.now.step, running: shown.now.running, error: shown.now.error });
  }

  function comeBack() { // after "Run All" JupyterLab has gone to the end of the page
    if (performance.now() < inSight) root.scrollIntoView({ block: "nearest" });
  }
  const acts = ["wheel", "keydown", "pointerdown", "touchmove"], leave = () => { inSight = 0; };
  for (const act of acts) document.addEventListener(act, leave, { capture: true, passive: true });

  function drawAll(changes) {
    resized(changes);
    if (!shown.fixed || closed) return;
    shown.colours = findColours(root);
    drawLoss();
    drawDial();
    drawPlane();
    drawSamples();
    paint();
  }

  // ---- life
  model.on("msg:custom", heardFrom);
  shown.colours = findColours(root);
  const heart = setInterval(() => {
    send({ t: "beat" });
    if (performance.now() - heard > 4000) trouble.textContent = gone;
  }, 1000);
  const end = onChange(root, drawAll);
  send({ t: "hello" });
  return () => {
    closed = true;
    clearInterval(heart);
    end();
    for (const act of acts) document.removeEventListener(act, leave, { capture: true });
    model.off("msg:custom", heardFrom);
  };
}

export default { render };
