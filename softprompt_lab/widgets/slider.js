// A slider over a list of labels: the browser's own, which has a name and can be moved by keyboard.
function render({ model, el }) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", min: 0, step: 1 });
  const shown = document.createElement("output");
  input.dataset.lmSuppressShortcuts = true; // JupyterLab's: the arrow keys move the slider, not the notebook
  const follow = () => {
    const labels = model.get("labels"), index = model.get("index");
    input.max = labels.length - 1;
    input.value = index;
    input.disabled = labels.length < 2;
    input.setAttribute("aria-valuetext", labels[index]);
    shown.textContent = labels[index];
  };
  input.addEventListener("input", () => {
    model.set("index", Number(input.value));
    model.save_changes();
  });
  model.on("change:index", follow);
  label.className = "softprompt-slider";
  label.append(model.get("description"), input, shown);
  el.append(label);
  follow();
}
export default { render };
