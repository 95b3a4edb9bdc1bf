// Two gradients to turn and stretch, and where each method goes. Directions come from the kernel.
const COLOURS = ["#777777", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"];
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4]];

function render({ model, el }) {
  const root = make("div", el, {}, "mtl-two mtl-live");
  const controls = make("div", root, {}, "controls");
  const sliders = {};
  for (const [key, name, low, high, step, shown] of [
    ["angle", "angle", 0, 180, 1, (v) => `${v}°`],
    ["ratio", "length of B / A", -1, 1, 0.02, (v) => `${(10 ** v).toPrecision(2)} ×`],
  ]) {
    const label = make("label", controls, { textContent: `${name} ` });
    const input = make("input", label, { type: "range", min: low, max: high, step, ariaLabel: name });
    const output = make("output", label);
    input.addEventListener("input", () => {
      output.textContent = shown(Number(input.value));
      model.set(key, key === "ratio" ? 10 ** Number(input.value) : Number(input.value));
      model.save_changes();
      draw();
    });
    sliders[key] = (value) => { input.value = key === "ratio" ? Math.log10(value) : value; output.textContent = shown(Number(input.value)); };
  }
  const canvas = make("canvas", root, { role: "img" });
  const table = make("table", root);

  function draw() {
    const colours = findColours(root);
    const width = canvas.clientWidth || 500, height = Math.min(300, width * 0.6);
    canvas.style.height = `${height}px`;
    const pen = pencil(canvas, width, height);
    const angle = (model.get("angle") * Math.PI) / 180, ratio = model.get("ratio");
    sliders.angle(model.get("angle"));
    sliders.ratio(ratio);
    const gradients = [[1, 0], [ratio * Math.cos(angle), ratio * Math.sin(angle)]];
    const names = model.get("names"), directions = model.get("directions");
    const all = [...gradients, ...directions], scale = 0.42 * width / Math.max(...all.map((v) => Math.hypot(...v)), 1e-9);
    const size = Math.min(scale, (height - 40) / Math.max(...all.map((v) => v[1]), 0.3));
    const origin = [width / 2, height - 22];
    const at = ([x, y]) => [x * size, -y * size];
    gradients.forEach((g, k) => { // left of this line a step hurts the task
      const normal = Math.atan2(g[1], g[0]) + Math.PI / 2, far = width;
      line(pen, [origin[0] - far * Math.cos(normal), origin[1] + far * Math.sin(normal)], [origin[0] + far * Math.cos(normal), origin[1] - far * Math.sin(normal)], colours.tasks[k], 0.6, [2, 4]);
    });
    directions.forEach((d, k) => arrow(pen, origin, at(d), COLOURS[k], k ? 2 : 5, "", DASHES[k]));
    gradients.forEach((g, k) => arrow(pen, origin, at(g), colours.tasks[k], 3.5, "AB"[k]));
    table.replaceChildren();
    const head = make("tr", table);
    for (const text of ["direction", "line", "A", "B"]) make("th", head, { textContent: text });
    names.forEach((name, k) => {
      const row = make("tr", table);
      make("td", row, { textContent: name });
      const key = make("canvas", make("td", row), { width: 34, height: 8 }).getContext("2d");
      line(key, [0, 4], [34, 4], COLOURS[k], 3, DASHES[k]);
      gradients.forEach((g) => {
        const gain = g[0] * directions[k][0] + g[1] * directions[k][1];
        make("td", row, { textContent: `${gain > 1e-6 ? "helped" : gain < -1e-6 ? "hurt" : "unaffected"} ${gain.toFixed(2)}` }, gain < -1e-6 ? "hurt" : "");
      });
    });
    canvas.ariaLabel = `two gradients at ${model.get("angle")} degrees, and the directions ${names.join(", ")}`;
  }

  model.on("change:directions", draw);
  const end = onChange(canvas, draw);
  draw();
  return () => {
    end();
    model.off("change:directions", draw);
  };
}

export default { render };
