// Draws the landscape. Level lines, arrows and the table are made here; paths of the methods come from the kernel.
const COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4], [1, 2]];
const LEVELS = 14;

function render({ model, el }) {
  const about = model.get("about");
  const [left, right, bottom, top] = about.extent;
  const [columns, rows] = about.grid;
  const fields = floatsOf(model.get("fields"));
  const hidden = new Set();
  let asked = 0; // when the learner last moved something

  const root = make("div", el, { className: "mtl-land mtl-live" });
  const sliders = make("div", root, { className: "controls" });
  const weightInputs = ["A (steep)", "B (shallow)"].map((name, k) => {
    const label = make("label", sliders, { textContent: `weight of ${name} ` });
    const input = make("input", label, { type: "range", min: -1.5, max: 1.5, step: 0.02, ariaLabel: `weight of task ${name}, logarithmic` });
    const output = make("output", label);
    input.addEventListener("input", () => {
      const weights = [...model.get("weights")];
      weights[k] = 10 ** Number(input.value);
      change("weights", weights);
    });
    return { input, output };
  });
  const canvas = make("canvas", root, { role: "img" });
  const places = make("div", root, { className: "controls" });
  const startInputs = ["x", "y"].map((name, k) => {
    const label = make("label", places, { textContent: `start ${name} ` });
    const input = make("input", label, { type: "number", step: 0.1 });
    input.addEventListener("change", () => {
      const start = [...model.get("start")];
      start[k] = Number(input.value);
      change("start", start);
    });
    return input;
  });
  const say = make("div", root, { className: "say" });
  const table = make("table", root);

  function change(name, value) {
    asked = performance.now();
    model.set(name, value);
    model.save_changes();
    draw();
  }

  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = left + ((event.clientX - box.left) / box.width) * (right - left);
    const y = top - ((event.clientY - box.top) / box.height) * (top - bottom);
    change("start", [Math.round(x * 100) / 100, Math.round(y * 100) / 100]);
  });

  function lossAt(task, x, y) { // bilinear
    const u = Math.min(Math.max(((x - left) / (right - left)) * (columns - 1), 0), columns - 1.001);
    const v = Math.min(Math.max(((top - y) / (top - bottom)) * (rows - 1), 0), rows - 1.001);
    const i = Math.floor(u), j = Math.floor(v), a = u - i, b = v - j;
    const at = (r, c) => fields[(task * rows + r) * columns + c];
    return (1 - b) * ((1 - a) * at(j, i) + a * at(j, i + 1)) + b * ((1 - a) * at(j + 1, i) + a * at(j + 1, i + 1));
  }

  function levelLines(pen, weights, toX, toY) { // marching squares: where an edge crosses a level, a line passes
    const size = rows * columns;
    const total = new Float32Array(size);
    let low = Infinity, high = 0;
    for (let n = 0; n < size; n++) {
      total[n] = weights[0] * fields[n] + weights[1] * fields[size + n];
      low = Math.min(low, total[n]);
      high = Math.max(high, total[n]);
    }
    pen.beginPath();
    for (let n = 1; n <= LEVELS; n++) {
      const level = low + (high - low) * (n / LEVELS) ** 2.5;
      for (let j = 0; j + 1 < rows; j++) {
        for (let i = 0; i + 1 < columns; i++) {
          const corner = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
          const value = corner.map(([c, r]) => total[r * columns + c] - level);
          const cut = [];
          for (let e = 0; e < 4; e++) {
            const p = value[e], q = value[(e + 1) % 4];
            if (p < 0 !== q < 0) {
              const t = p / (p - q), [c, r] = corner[e], [d, s] = corner[(e + 1) % 4];
              cut.push([toX(left + ((c + t * (d - c)) / (columns - 1)) * (right - left)), toY(top - ((r + t * (s - r)) / (rows - 1)) * (top - bottom))]);
            }
          }
          for (let k = 0; k + 1 < cut.length; k += 2) {
            pen.moveTo(...cut[k]);
            pen.lineTo(...cut[k + 1]);
          }
        }
      }
    }
    pen.stroke();
  }

  function draw() {
    const width = canvas.clientWidth || 600, height = (width * (top - bottom)) / (right - left);
    canvas.style.height = `${height}px`;
    const pen = pencil(canvas, width, height);
    const toX = (x) => ((x - left) / (right - left)) * width, toY = (y) => ((top - y) / (top - bottom)) * height;
    const weights = model.get("weights"), start = model.get("start"), gradients = model.get("gradients");

    Object.assign(pen, { strokeStyle: "#b5b5b5", lineWidth: 1 });
    levelLines(pen, weights, toX, toY);

    Object.assign(pen, { strokeStyle: "#888", lineWidth: 5, globalAlpha: 0.45 });
    pen.beginPath();
    about.pareto.forEach(([x, y], k) => (k ? pen.lineTo(toX(x), toY(y)) : pen.moveTo(toX(x), toY(y))));
    pen.stroke();
    pen.globalAlpha = 1;

    const paths = floatsOf(model.get("paths")), points = paths.length / 2 / about.methods.length;
    const ends = about.methods.map((name, k) => {
      const at = (p) => [paths[2 * (k * points + p)], paths[2 * (k * points + p) + 1]];
      if (!hidden.has(name)) {
        Object.assign(pen, { strokeStyle: COLOURS[k], lineWidth: k ? 2 : 3 });
        pen.setLineDash(DASHES[k]);
        pen.beginPath();
        for (let p = 0; p < points; p++) pen[p ? "lineTo" : "moveTo"](toX(at(p)[0]), toY(at(p)[1]));
        pen.stroke();
        pen.setLineDash([]);
        pen.fillStyle = COLOURS[k];
        pen.beginPath();
        pen.arc(toX(at(points - 1)[0]), toY(at(points - 1)[1]), 4, 0, 7);
        pen.fill();
      }
      return at(points - 1);
    });

    pen.fillStyle = "#000";
    about.centres.forEach(([x, y], k) => pen.fillText(`★ best for ${"AB"[k]}`, toX(x) - 6, toY(y) + 18));
    const sum = [0, 1].map((c) => weights[0] * gradients[0][c] + weights[1] * gradients[1][c]);
    const longest = Math.max(...[...gradients, sum].map((g) => Math.hypot(...g)));
    const scale = (0.2 * width) / Math.max(longest, 1e-9);
    const [x, y] = [toX(start[0]), toY(start[1])];
    arrow(pen, [x, y], [-sum[0] * scale, sum[1] * scale], "#000", 4, "sum");
    gradients.forEach((g, k) => arrow(pen, [x, y], [-g[0] * scale, g[1] * scale], ["#0072B2", "#D55E00"][k], 2.5, `-g${"AB"[k]}`));
    pen.beginPath();
    pen.arc(x, y, 6, 0, 7);
    Object.assign(pen, { fillStyle: "#fff", strokeStyle: "#000", lineWidth: 2 });
    pen.fill();
    pen.stroke();

    weightInputs.forEach(({ input, output }, k) => {
      input.value = Math.log10(Math.max(weights[k], 1e-3));
      output.textContent = weights[k].toPrecision(2);
    });
    startInputs.forEach((input, k) => { if (document.activeElement !== input) input.value = start[k].toFixed(2); });
    const norms = gradients.map((g) => Math.hypot(...g));
    const cosine = (gradients[0][0] * gradients[1][0] + gradients[0][1] * gradients[1][1]) / (norms[0] * norms[1] || 1);
    say.textContent = `at the start: cosine ${cosine.toFixed(2)}${cosine < 0 ? " (they conflict)" : ""}, the gradient of A is ${(norms[0] / (norms[1] || 1)).toFixed(1)} times as long as that of B`;
    fillTable(ends);
    canvas.ariaLabel = `Level lines of the weighted loss and paths of ${about.methods.join(", ")}`;
  }

  function fillTable(ends) {
    table.replaceChildren();
    const head = make("tr", table);
    ["method (click to hide)", "loss A at the end", "loss B"].forEach((text) => make("th", head, { textContent: text }));
    about.methods.forEach((name, k) => {
      const row = make("tr", table);
      const cell = make("td", row);
      const label = make("label", cell);
      const box = make("input", label, { type: "checkbox", checked: !hidden.has(name) });
      box.addEventListener("change", () => { hidden[box.checked ? "delete" : "add"](name); draw(); });
      const key = make("canvas", label, { width: 34, height: 8 });
      Object.assign(key.style, { width: "34px", border: "none", cursor: "default" });
      const pen = key.getContext("2d");
      Object.assign(pen, { strokeStyle: COLOURS[k], lineWidth: k ? 2 : 3 });
      pen.setLineDash(DASHES[k]);
      pen.beginPath();
      pen.moveTo(0, 4);
      pen.lineTo(34, 4);
      pen.stroke();
      label.appendChild(document.createTextNode(name));
      [0, 1].forEach((task) => make("td", row, { textContent: lossAt(task, ...ends[k]).toFixed(2) }));
    });
  }

  function answered() {
    draw();
    if (asked) root.dataset.redrawMs = (performance.now() - asked).toFixed(1);
    asked = 0;
  }
  model.on("change:paths", answered);
  model.on("change:weights", draw);
  model.on("change:start", draw);
  const watcher = new ResizeObserver(() => draw());
  watcher.observe(root);
  draw();
  return () => watcher.disconnect();
}

export default { render };
