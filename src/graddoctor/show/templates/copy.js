"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  const code = document.getElementById(button.dataset.copy);
  const select = () => getSelection().selectAllChildren(code);
  const told = (text) => { button.textContent = text; setTimeout(() => { button.textContent = "Copy"; }, 2000); };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (!navigator.clipboard) { select(); told("Selected"); return; }
    navigator.clipboard.writeText(code.textContent).then(() => told("Copied"), () => { select(); told("Selected"); });
  });
}
