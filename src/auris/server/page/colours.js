// The colours of the style sheet, for drawing.

/** The colours of the style sheet as they are now: names, and a ramp from quiet to loud. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const css = Object.fromEntries(
    ["card", "accent", "line", "soft", "cold", "warm", "hot"].map((name) => [
      name,
      style.getPropertyValue(`--${name}`).trim(),
    ]),
  );
  const strip = document.createElement("canvas");
  [strip.width, strip.height] = [256, 1];
  const to = strip.getContext("2d");
  const gradient = to.createLinearGradient(0, 0, 256, 0);
  gradient.addColorStop(0, css.cold);
  gradient.addColorStop(0.6, css.warm);
  gradient.addColorStop(1, css.hot);
  to.fillStyle = gradient;
  to.fillRect(0, 0, 256, 1);
  return { css, ramp: new Uint32Array(to.getImageData(0, 0, 256, 1).data.buffer) };
}
