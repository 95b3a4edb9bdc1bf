// The browser's half of the live lab and of the panel: controls that answer at once, and canvases. All else comes from
// the kernel, which `shown` keeps.
const HELD = 3000; // points of a curve; beyond, every second one is dropped
const ASK_AGAIN = 700, SILENCE = 4000; // ms

const BUTTONS = {
  start: ["▶ Start", "train, or stop after this step"],
  step: ["Step", "pause and train for one step"],
  reset: ["Reset", "start again with the same seed"],
  seed: ["New seed", "start again with the next seed"],
  replay: ["Replay", "start again and repeat your changes at the same steps"],
};
const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function render({ model, el }) {
  const root = make("div", el, {}, "mtl-lab mtl-live");
  const shown = { fixed: null, now: {}, points: [], otherPoints: [], trail: [], otherTrail: [], plane: [], look: null, images: null, colours: {} };
  let seen = 0, heard = performance.now(), askedAt = -ASK_AGAIN, closed = false;
  let wasHeard = false; // whether the kernel has ever said that it hears this page
  let refused = ["", -SILENCE], guessed = "";
  let inSight = 0; // until when the page comes back to the lab
  root.answers = []; // [stamp, ms until a step used it, ms until it was seen], of what was set here

  // ---- to the kernel
  function send(content) {
    try {
      model.send({ seen, ...content });
    } catch (error) { // the kernel was restarted
      trouble.textContent = gone();
    }
  }
  const gone = () => (shown.fixed && !wasHeard && shown.fixed.waits) || "No answer from the kernel: it is busy, or it was stopped. Run the cell again if this message stays.";
  const sender = makeSender(send, () => Math.min(Math.max(1000 / (shown.now.speed || 60), 16), 50)); // ms: about a step
  function act(what, more = {}) {
    sender.flush("once");
    send({ t: "do", what, ...more });
  }
  function set(changes) {
    sender.set(changes);
    root.dataset.asked = sender.stamp();
  }
  function askForAll() {
    if (performance.now() - askedAt < ASK_AGAIN) return;
    askedAt = performance.now();
    send({ t: "hello" });
  }

  // ---- what is on the page
  const ask = make("div", root, {}, "ask");
  const bar = make("div", root, {}, "row");
  const trouble = make("div", root, { role: "alert" }, "trouble");
  const sliderRow = make("div", root, {}, "row sliders");
  const dataPart = make("details", root);
  make("summary", dataPart, { textContent: "the data" });
  const dataRow = make("div", dataPart, {}, "row");
  const pictures = make("div", root, {}, "pictures");
  const loss = make("canvas", make("div", pictures, {}, "loss"), { role: "img", ariaLabel: "loss of each task over the steps" });
  const samples = make("canvas", make("div", pictures, {}, "samples"), { role: "img", ariaLabel: "test samples with the right answers and the network's answers" });
  const small = make("div", pictures, {}, "small");
  const dial = make("canvas", make("div", small), { role: "img", ariaLabel: "pull of the tasks, not measured yet" });
  const plane = make("canvas", make("div", small, {}, "plane"), { role: "img", ariaLabel: "trail of the scores" });
  const why = makeWhy(root, shown, { act, redraw: () => { drawPlane(); drawGains(); } });
  const painted = painter({ loss, samples }, shown), { drawLoss, drawSamples } = painted;
  const { drawDial, drawPlane, drawGains, forget, readPlane } = pullPainter({ dial, plane, gains: why.gains }, shown, painted);
  plane.addEventListener("click", (event) => {
    const { left, top } = plane.getBoundingClientRect(), at = readPlane(event.clientX - left, event.clientY - top);
    if (at) why.clicked(at);
  });
  let go, method, state;
  const shows = []; // functions that show what is set now

  function setUp() { // once, when it is known what there is
    const { fixed } = shown;
    for (const what of fixed.buttons) {
      const [textContent, usual] = BUTTONS[what], title = (fixed.titles || {})[what] || usual;
      const button = make("button", bar, { textContent, title, type: "button" });
      if (what === "start") { go = button; go.className = "go"; }
      button.addEventListener("click", () => act(what === "start" && shown.now.running ? "pause" : what));
    }
    method = makeChoice(bar, "method", [], (name) => set({ method: name }));
    shows.push(() => method.show(shown.now.method));
    state = make("div", bar, {}, "state");
    const weight = { low: LEAST - NOTCH, high: MOST, notch: NOTCH };
    for (const task of fixed.tasks) {
      const slider = makeSlider(sliderRow, task, { ...weight, task, words: (value) => short(toWeight(value)) }, (value) => set({ weights: { [task]: toWeight(value) } }));
      shows.push(() => slider.show(toSlider(shown.now.weights[task]), short(shown.now.weights[task])));
    }
    if (shown.now.rate !== undefined) {
      const slider = makeSlider(sliderRow, "rate", { ...weight, words: (value) => `× ${short(toWeight(value))}` }, (value) => set({ rate: toWeight(value) }));
      shows.push(() => slider.show(toSlider(shown.now.rate), `× ${short(shown.now.rate)}`));
    }
    for (const knob of fixed.knobs) {
      const show = makeKnob(dataRow, knob, fixed.tasks, set);
      shows.push(() => show(shown.now.data[knob.name]));
    }
    dataPart.hidden = !fixed.knobs.length;
    sliderRow.classList.toggle("many", fixed.tasks.length > 2);
    pictures.classList.toggle("bare", !fixed.samples.length);
    why.setUp();
    paint();
  }

  function paint() { // the tasks' colours, in this theme
    for (const label of root.querySelectorAll(".task")) label.style.setProperty("--task", shown.colours.tasks[shown.fixed.tasks.indexOf(label.dataset.task) % shown.colours.tasks.length]);
  }

  // ---- from the kernel
  function addPoints(points, view) {
    const rows = floatsOf(view), K = shown.fixed.tasks.length, wide = 1 + K;
    for (let k = 0; k + wide <= rows.length; k += wide) {
      const step = rows[k], losses = [...rows.subarray(k + 1, k + wide)];
      const last = points[points.length - 1];
      if (last && step <= last.step) continue;
      const after = (before, value) => {
        if (Number.isNaN(value)) return before;
        return Number.isNaN(before) ? value : before + Math.max(0.06, 1 / (points.length + 1)) * (value - before);
      };
      const smooth = losses.map((loss, t) => after(last ? last.smooth[t] : NaN, Math.log(loss))), mean = losses.map((loss, t) => after(last ? last.mean[t] : NaN, loss));
      if (losses.some((loss) => loss <= 0)) shown.linear = true; // what has no logarithm
      points.push({ step, losses, smooth, mean });
    }
    return points.length > HELD ? points.filter((_, k) => k % 2 === 0) : points;
  }

  function unpacked(raw, sizes) {
    let place = 0;
    return sizes.map(({ size }) => {
      if (!size) return null; // no image
      const [high, wide] = size, canvas = Object.assign(document.createElement("canvas"), { width: wide, height: high });
      const data = new ImageData(wide, high);
      for (let p = 0; p < wide * high; p++, place += 3) data.data.set([raw[place], raw[place + 1], raw[place + 2], 255], 4 * p);
      canvas.getContext("2d").putImageData(data, 0, 0);
      return canvas;
    });
  }

  function heardFrom(content, buffers) {
    heard = performance.now();
    if (content.t === "got") { sender.heard(content.stamp); return; }
    if (content.t === "answer") { why.told(content); return; }
    if (content.t === "refused") {
      refused = [content.why, performance.now()];
      trouble.textContent = content.why;
      if (content.stamp.length) sender.heard(content.stamp);
      return;
    }
    if (content.t === "all") {
      if (content.inSight) inSight = performance.now() + 20000;
      const first = !shown.fixed;
      Object.assign(shown, { fixed: content, now: { ...content }, points: [], otherPoints: [], trail: content.trail, otherTrail: content.otherTrail, linear: false });
      shown.images = unpacked(bytesOf(buffers[2]), content.samples);
      ask.textContent = content.ask;
      if (first) setUp();
      method.fill(content.methods);
    } else if (!shown.fixed || content.n !== seen + 1) { // it has missed a frame
      askForAll();
      return;
    } else Object.assign(shown.now, content, { changes: [...(shown.now.changes || []), ...(content.changes || [])] });
    seen = content.n;
    wasHeard ||= content.heard;
    shown.points = addPoints(shown.points, buffers[0]);
    shown.otherPoints = addPoints(shown.otherPoints, buffers[1]);
    if (content.look) { shown.look = content.look; drawSamples(); }
    const last = shown.trail[shown.trail.length - 1], { scores, scoredAt } = content;
    if (content.t === "frame" && scores && Object.keys(scores).length && (!last || last[0] < scoredAt)) {
      shown.trail.push([scoredAt, scores]);
      if (shown.trail.length > HELD) shown.trail = shown.trail.filter((_, k) => k % 2 === 0);
    }
    const there = shown.otherTrail[shown.otherTrail.length - 1];
    if (content.otherScores && (!there || JSON.stringify(there[1]) !== JSON.stringify(content.otherScores[1]))) shown.otherTrail.push(content.otherScores);
    why.follow();
    showState();
    if (performance.now() < inSight) root.scrollIntoView({ block: "nearest" }); // after "Run All" JupyterLab has gone to the end
    drawLoss();
    drawDial();
    if (content.t === "all" || scores || guessed !== String(content.guesses)) drawPlane();
    guessed = String(content.guesses);
    if (content.t === "all" || content.gains) drawGains();
    noteAnswers(content);
    root.dataset.frames = Number(root.dataset.frames || 0) + 1;
    if (content.look) root.dataset.looks = Number(root.dataset.looks || 0) + 1;
  }

  function noteAnswers({ stamp, used, running }) {
    if (!used && running) return;
    const done = sender.answered(stamp);
    if (!done.length) return;
    requestAnimationFrame(() => { // what was drawn is about to be seen
      const at = performance.timeOrigin + performance.now();
      for (const [k, asked] of done) root.answers.push([k, used - asked, at - asked]);
      if (root.answers.length > HELD) root.answers.splice(0, HELD / 2);
      const [k, toWeightMs, toPixelsMs] = root.answers[root.answers.length - 1];
      Object.assign(root.dataset, { answered: k, toWeight: toWeightMs.toFixed(1), toPixels: toPixelsMs.toFixed(1) });
    });
  }

  function showState() {
    const { now } = shown;
    if (go) go.textContent = now.running ? "❚❚ Pause" : shown.fixed.goOn || "▶ Start";
    for (const show of shows) show();
    const off = shown.fixed.tasks.every((task) => now.weights[task] === 0);
    trouble.textContent = now.error ? `${now.error}. ${shown.fixed.mend}` : off ? "Every weight is 0: nothing is learned." : performance.now() - refused[1] < SILENCE ? refused[0] : now.note || "";
    const samplesASecond = now.batch ? `${Math.round(now.speed * now.batch)} samples/s, ` : "";
    const speed = now.running && now.speed ? `, ${samplesASecond}${(1000 / now.speed).toFixed(0)} ms per step` : "";
    state.textContent = `${now.seed === undefined ? "" : `seed ${now.seed}, `}step ${now.step}${speed}`;
    Object.assign(root.dataset, { step: now.step, running: now.running, error: now.error });
  }

  const acts = ["wheel", "keydown", "pointerdown", "touchmove"], leave = () => { inSight = 0; };
  for (const one of acts) document.addEventListener(one, leave, { capture: true, passive: true });

  function drawAll(changes) {
    painted.resized(changes);
    forget();
    if (!shown.fixed || closed) return;
    shown.colours = findColours(root);
    drawLoss();
    drawDial();
    drawPlane();
    drawSamples();
    drawGains();
    paint();
  }

  // ---- life
  model.on("msg:custom", heardFrom);
  shown.colours = findColours(root);
  const heart = setInterval(() => {
    send({ t: "beat" });
    sender.flush();
    if (performance.now() - heard > SILENCE) trouble.textContent = gone();
  }, 1000);
  const end = onChange(root, drawAll);
  askForAll();
  return () => {
    closed = true;
    clearInterval(heart);
    end();
    for (const one of acts) document.removeEventListener(one, leave, { capture: true });
    model.off("msg:custom", heardFrom);
  };
}

export default { render };
