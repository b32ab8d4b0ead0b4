// The canvas: plays films, and hands dropped pictures to the upload field. Gradio calls this with `element` and `watch`.
const PERIOD_MS = 125; // as in the GIF and the MP4
const frames = () => [...element.querySelectorAll(".strip button")];
let timer = null;

function showFrame(button) {
  const [big, small] = [element.querySelector(".stage img"), button.querySelector("img")];
  [big.src, big.alt] = [small.src, small.alt];
  frames().forEach((other) => other.setAttribute("aria-current", other === button));
}

function play(on) {
  clearInterval(timer);
  const button = element.querySelector(".play");
  if (!button) return;
  button.textContent = on ? "Pause" : "Play";
  if (!on) return;
  timer = setInterval(() => {
    const all = frames();
    if (!all.length) return play(false);
    showFrame(all[(all.findIndex((frame) => frame.ariaCurrent === "true") + 1) % all.length]);
  }, PERIOD_MS);
}

watch("value", () => play(!matchMedia("(prefers-reduced-motion: reduce)").matches));
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".play")) return play(button.textContent === "Play");
  play(false);
  showFrame(button);
});

for (const name of ["dragenter", "dragover", "dragleave", "drop"])
  element.addEventListener(name, (event) => {
    event.preventDefault();
    element.classList.toggle("dropping", name === "dragenter" || name === "dragover");
  });
element.addEventListener("drop", (event) => {
  const given = new DataTransfer();
  if (!event.dataTransfer.files.length) return;
  given.items.add(event.dataTransfer.files[0]);
  const field = document.querySelector(".condition input[type=file]");
  field.files = given.files;
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
