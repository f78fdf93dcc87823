"use strict";
(() => {
  // { profile: { controls: { depth: [5, 10] }, units: { depth: ["5 layers", "10 layers"] }, said: { "0|1": "…" } } }
  const lively = JSON.parse(document.getElementById("lively").textContent);
  const reveal = () => {  // some browsers open what a link leads into, some do not
    const inside = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("details");
    if (inside) inside.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
  for (const figure of document.querySelectorAll("[data-lively]")) {
    const { controls, units, said } = lively[figure.dataset.lively];
    const chart = figure.querySelector("[data-chart]");
    const places = Object.keys(controls).map((name) => figure.querySelector(`[data-control="${name}"]`));
    const set = (input) => {
      const name = input.dataset.control;
      const place = Number(input.value);
      if (input.type === "range") {
        input.setAttribute("aria-valuetext", units[name][place]);
        input.nextElementSibling.textContent = units[name][place];
      }
      figure.querySelector(".said").textContent = said[places.map((one) => one.value).join("|")];
      chart.drawing.then(({ view }) => view.signal(name, controls[name][place]).runAsync());
    };
    for (const input of places) input.addEventListener("input", () => set(input));
  }
})();
