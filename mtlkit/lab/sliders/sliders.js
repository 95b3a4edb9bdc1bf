// Sliders over a sentence and a picture; both come from the kernel when a slider is let go.
function drawn(tag, parent, props) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  return parent.appendChild(node);
}

// Points in a plane; a click on one is its number on the first slider. Keys have the slider.
function plane(model, root) {
  const points = model.get("points"), [across, up] = model.get("axes"), [W, H, M] = [420, 260, 30];
  const ends = (k) => { const all = points.map((point) => point[k]); return [Math.min(0, ...all), Math.max(...all)]; };
  const at = ([a, b], low, high) => (value) => low + ((value - a) / (b - a || 1)) * (high - low);
  const [ex, ey] = [ends(1), ends(2)], x = at(ex, M + 10, W - 14), y = at(ey, H - M - 8, 14);
  const svg = drawn("svg", root, { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${points.length} points over ${across} and ${up}` });
  drawn("path", svg, { d: `M${M} 6V${H - M}H${W - 6}`, class: "axis" });
  const say = (text, props) => { drawn("text", svg, props).textContent = text; };
  say(across, { x: (W + M) / 2, y: H - 8, "text-anchor": "middle" });
  say(ex[1].toPrecision(2), { x: W - 14, y: H - M + 14, "text-anchor": "middle" });
  say(up, { transform: `translate(14 ${(H - M) / 2}) rotate(-90)`, "text-anchor": "middle" });
  say(ey[1].toPrecision(2), { x: M + 6, y: 18 });
  const circles = points.map(([number, a, b]) => {
    const circle = drawn("circle", svg, { cx: x(a), cy: y(b), r: 6 });
    drawn("title", circle, {}).textContent = `${number}: ${a.toPrecision(2)}, ${b.toPrecision(2)}`;
    circle.addEventListener("click", () => {
      model.set("values", [number, ...model.get("values").slice(1)]);
      model.save_changes();
    });
    return circle;
  });
  return () => circles.forEach((circle, k) => circle.classList.toggle("now", points[k][0] === model.get("values")[0]));
}

function render({ model, el }) {
  const root = make("div", el, {}, "mtl-sliders mtl-live");
  const mark = model.get("points").length ? plane(model, root) : () => {};
  const row = make("div", root, {}, "row");
  const says = make("p", root, { ariaLive: "polite" }), image = make("img", root);
  let address = "";
  const inputs = model.get("sliders").map(({ name, low, high, step, power }, k) => {
    const label = make("label", row, { textContent: `${name} ` });
    const input = make("input", label, { type: "range", min: low, max: high, step, ariaLabel: name }), output = make("output", label);
    const value = () => (power ? 10 ** Number(input.value) : Number(input.value));
    const tell = () => {
      output.textContent = String(Number(value().toPrecision(3)));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", tell);
    input.addEventListener("change", () => {
      model.set("values", model.get("values").map((old, n) => (n === k ? value() : old)));
      model.save_changes();
    });
    return { show(now) { input.value = power ? Math.log10(now) : now; tell(); } };
  });
  const showValues = () => { model.get("values").forEach((value, k) => inputs[k].show(value)); mark(); };
  const showSentence = () => { says.textContent = model.get("says"); };
  function showImage() {
    const old = address;
    address = URL.createObjectURL(new Blob([model.get("image")], { type: "image/png" }));
    Object.assign(image, { src: address, alt: model.get("alt") });
    if (old) URL.revokeObjectURL(old);
  }
  const follow = { "change:values": showValues, "change:says": showSentence, "change:image": showImage };
  for (const [name, act] of Object.entries(follow)) { model.on(name, act); act(); }
  return () => {
    for (const [name, act] of Object.entries(follow)) model.off(name, act);
    URL.revokeObjectURL(address);
  };
}

export default { render };
