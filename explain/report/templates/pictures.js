// Outlines that can be switched, and pictures that can be enlarged. Without this script both outlines are shown.
"use strict";
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function hideOutlines(letters) { // "u": the units', "f": the formulas', both or none
  document.documentElement.dataset.hide = letters;
  for (const box of document.querySelectorAll("[data-outline]")) box.checked = !letters.includes(box.dataset.outline);
}

function outlineBox(letter, ...label) {
  const changed = (event) => {
    const others = (document.documentElement.dataset.hide || "").replace(letter, "");
    hideOutlines(event.target.checked ? others : others + letter);
    document.dispatchEvent(new Event("view"));
  };
  const checked = !(document.documentElement.dataset.hide || "").includes(letter);
  const box = make("input", { type: "checkbox", "data-outline": letter, onchange: changed });
  box.checked = checked;
  return make("label", { class: "key" }, box, ...label);
}

for (const legend of document.querySelectorAll(".outlines"))
  [...legend.children].forEach((key, i) => key.replaceWith(outlineBox("uf"[i], ...key.childNodes)));

const zoom = (() => {
  const stage = make("div", { class: "stage" });
  const caption = make("p", { class: "line", "aria-live": "polite" });
  let shots = [];
  let at = 0;
  const show = (place) => {
    at = (place + shots.length) % shots.length;
    const copy = shots[at].cloneNode(true);
    copy.style.width = `min(100%, calc(72vh * ${getComputedStyle(shots[at]).aspectRatio}))`; // all of it in the window
    stage.replaceChildren(copy);
    const told = [...shots[at].parentNode.querySelector("figcaption").childNodes].map((node) => node.textContent || ", ");
    caption.textContent = `${at + 1} of ${shots.length}: ${copy.getAttribute("aria-label")}; ${told.join("")}`;
  };
  const step = (by) => make("button", { type: "button", onclick: () => show(at + by) }, by < 0 ? "previous" : "next");
  const close = make("button", { type: "button", onclick: () => dialog.close() }, "close");
  const dialog = make("dialog", { class: "zoom", "aria-label": "enlarged image" }, stage, caption,
    make("p", { class: "tools" }, step(-1), step(1), close, outlineBox("u", "unit"), outlineBox("f", "formula")));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") show(at + (event.key === "ArrowLeft" ? -1 : 1));
  });
  document.body.append(dialog);
  return (article, first) => {
    shots = [...article.querySelectorAll(".shots svg.shot")];
    show(Math.max(0, shots.indexOf(first)));
    dialog.showModal();
  };
})();

document.addEventListener("click", (event) => {
  const shot = event.target.closest(".views svg.shot");
  const button = event.target.closest("button.enlarge");
  if (shot || button) zoom((shot || button).closest(".unit"), shot);
});
for (const group of document.querySelectorAll(".views .shots.first .group"))
  if (group.parentNode.querySelector("svg.shot")) group.append(" ", make("button", { type: "button", class: "enlarge" }, "enlarge"));

for (const code of document.querySelectorAll(".facts code, .command code")) {
  const button = make("button", { type: "button", class: "copy" }, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch { // no right to: the text is marked for the reader's own copy
      getSelection().selectAllChildren(code);
      button.textContent = "marked: press Ctrl+C";
    }
  });
  code.after(" ", button);
}
