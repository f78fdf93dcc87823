"use strict";
(() => {
  document.getElementById("unscripted").remove();

  // Tables come by columns, each text once: { columns: { step: { is: [0, 1] }, name: { of: ["a"], at: [0, 0] } } }
  const unpack = (key, value) => {
    if (!value || !value.columns || typeof value.columns !== "object" || Array.isArray(value.columns)) return value;
    const columns = Object.entries(value.columns).map(([name, c]) => [name, c.is || c.at.map((place) => c.of[place])]);
    return columns[0][1].map((_, row) => Object.fromEntries(columns.map(([name, cells]) => [name, cells[row]])));
  };
  const specs = JSON.parse(document.getElementById("specs").textContent, unpack);
  const options = { actions: false, renderer: "svg", ast: true, mode: "vega-lite", tooltip: { theme: "page" } };
  const drawings = [...document.querySelectorAll("[data-chart]")].map((place) => {
    place.drawing = vegaEmbed(place, specs[place.dataset.chart], options);
    return place.drawing.catch((problem) => {
      place.textContent = "This chart could not be drawn.";
      console.error(problem);
    });
  });
  Promise.all(drawings).then(() => { document.documentElement.dataset.drawn = drawings.length; });

  // Paper cannot be clicked: open everything for it, and close again what was closed.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
    dispatchEvent(new Event("resize"));
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
