// The value of the point nearest to a pointer, and a legend whose entries hide and show their series.
const REACH = 24; // pixels
const tip = document.getElementById("tip");

for (const svg of document.querySelectorAll("svg.chart")) {
  const points = [...svg.querySelectorAll(".series .point")].map((mark) => {
    const title = mark.querySelector("title");
    title.remove(); // or the browser shows it too
    const { e: x, f: y } = mark.transform.baseVal.getItem(0).matrix;
    return { mark, x, y, text: title.textContent };
  });
  const show = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const far = (point) => Math.hypot(point.x - at.x, point.y - at.y);
    const shown = points.filter((point) => !point.mark.closest(".off"));
    const found = shown.reduce((best, point) => (!best || far(point) < far(best) ? point : best), null);
    hide();
    if (!found || far(found) > REACH) return;
    found.mark.classList.add("near");
    tip.textContent = found.text;
    tip.hidden = false;
    const { left, right, bottom } = found.mark.getBoundingClientRect();
    const middle = (left + right - tip.offsetWidth) / 2;
    tip.style.left = `${scrollX + Math.max(4, Math.min(middle, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${scrollY + bottom + 6}px`;
  };
  const hide = () => {
    tip.hidden = true;
    document.querySelectorAll(".near").forEach((mark) => mark.classList.remove("near"));
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide()); // a finger's stays

  for (const entry of svg.querySelectorAll(".entry")) {
    const parts = svg.querySelectorAll(`[data-series="${entry.dataset.series}"]`); // points, names, the entry itself
    const toggle = () => {
      const off = !entry.classList.contains("off");
      parts.forEach((part) => part.classList.toggle("off", off));
      entry.setAttribute("aria-pressed", !off);
    };
    entry.setAttribute("role", "button");
    entry.setAttribute("tabindex", 0);
    entry.setAttribute("aria-pressed", true);
    entry.addEventListener("click", toggle);
    entry.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
  }
}
