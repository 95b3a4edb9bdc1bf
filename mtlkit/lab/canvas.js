// What the widgets share; it stands before each widget's own script.
function make(tag, parent, props = {}, className = "") {
  const node = Object.assign(document.createElement(tag), props);
  if (className) node.className = className;
  if (["input", "button", "select", "summary"].includes(tag)) node.dataset.lmSuppressShortcuts = "true"; // keys are ours, not JupyterLab's
  parent.appendChild(node);
  return node;
}

function floatsOf(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function pencil(canvas, width, height) { // drawn in CSS pixels, sharp on every screen
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  return pen;
}

function line(pen, from, to, colour, width = 1, dash = []) {
  Object.assign(pen, { strokeStyle: colour, lineWidth: width });
  pen.setLineDash(dash);
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
  pen.setLineDash([]);
}

function arrow(pen, [x, y], [dx, dy], colour, width, name = "", dash = []) {
  const length = Math.hypot(dx, dy);
  if (length < 2) return;
  const [ux, uy] = [dx / length, dy / length];
  line(pen, [x, y], [x + dx - 6 * ux, y + dy - 6 * uy], colour, width, dash);
  pen.fillStyle = colour;
  pen.beginPath();
  pen.moveTo(x + dx, y + dy);
  pen.lineTo(x + dx - 11 * ux + 4.5 * uy, y + dy - 11 * uy - 4.5 * ux);
  pen.lineTo(x + dx - 11 * ux - 4.5 * uy, y + dy - 11 * uy + 4.5 * ux);
  pen.fill();
  if (name) pen.fillText(name, x + dx + 6 * ux + 2, y + dy + 6 * uy + 4);
}

function findColours(root) { // and the class "dark" where the page is dark
  const ground = getComputedStyle(document.body).getPropertyValue("--jp-layout-color0") || getComputedStyle(document.body).backgroundColor;
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = ground.trim() || "#fff";
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
  const dark = a > 0 && r + g + b < 380;
  root.classList.toggle("dark", dark);
  const ink = getComputedStyle(root).color;
  const tasks = dark ? ["#56b4e9", "#e69f00", "#2bc79a", "#e3a2c8", "#f0e442", "#c8c8c8"] : ["#0072b2", "#d55e00", "#00805d", "#b3508a", "#7a6400", "#555555"];
  return { tasks, ink, faint: dark ? "#666" : "#bbb" };
}

function onChange(root, draw) { // of the size of anything drawn, or the theme; returns what ends it
  const sizes = new ResizeObserver(draw);
  for (const place of [root, ...[...root.querySelectorAll("canvas")].map((canvas) => canvas.parentElement)]) sizes.observe(place);
  const theme = new MutationObserver(draw);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  return () => {
    sizes.disconnect();
    theme.disconnect();
  };
}

