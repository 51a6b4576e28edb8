// Drawing in step with the screen.

/** A function that calls `draw` before the next frame, once however often it is called. */
export function perFrame(draw) {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      draw();
    });
  };
}
