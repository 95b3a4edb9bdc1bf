// Sliders over a sentence and a picture; both come from the kernel when a slider is let go.
function render({ model, el }) {
  const root = make("div", el, {}, "mtl-sliders mtl-live"), row = make("div", root, {}, "row");
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
  const showValues = () => model.get("values").forEach((value, k) => inputs[k].show(value));
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
