// The camera dial, a top view. Gradio calls this with the component's `element`, `props` and `trigger`.
const dial = element.querySelector(".dial");
const ARROWS = { ArrowRight: 5, ArrowUp: 5, ArrowLeft: -5, ArrowDown: -5, PageUp: 45, PageDown: -45 };

function show(azimuth) {
  const words = azimuth ? `${Math.abs(azimuth)}° to the ${azimuth > 0 ? "right" : "left"}` : "where it was";
  const [x, y] = [Math.sin, Math.cos].map((f) => 100 + 74 * f((azimuth * Math.PI) / 180));
  dial.querySelector(".camera").setAttribute("transform", `rotate(${-azimuth} 100 100)`);
  dial.querySelector(".way").setAttribute("d", `M100 174A74 74 0 0 ${azimuth > 0 ? 0 : 1} ${x} ${y}`);
  dial.setAttribute("aria-valuenow", azimuth);
  dial.setAttribute("aria-valuetext", words);
  element.querySelector(".dial-value").textContent = words;
}

function turnTo(degrees) {
  const azimuth = ((((Math.round(degrees) + 180) % 360) + 360) % 360) - 180; // counter-clockwise, in [-180, 180)
  if (azimuth === props.value) return;
  props.value = azimuth;
  show(azimuth);
  trigger("input");
}

function turnToPointer(event) {
  const box = dial.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  turnTo((Math.atan2(x, y) * 180) / Math.PI); // 0 is at the bottom, where the picture was taken
}

dial.addEventListener("pointerdown", (event) => {
  dial.setPointerCapture(event.pointerId);
  turnToPointer(event);
});
dial.addEventListener("pointermove", (event) => dial.hasPointerCapture(event.pointerId) && turnToPointer(event));
dial.addEventListener("keydown", (event) => {
  if (event.key === "Home") turnTo(0);
  else if (event.key in ARROWS) turnTo(props.value + ARROWS[event.key]);
  else return;
  event.preventDefault();
});
show(props.value);
