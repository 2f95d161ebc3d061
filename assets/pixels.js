// The map's pixels: one byte each, as /frame sends them, colored by a palette and painted into a canvas that slides and
// scales with the view, so that it moves at once and is right again when the next frame is laid down.
// `voorwerp.pixels(layer)` is called by map.js.
(() => {
  window.voorwerp ??= {};
  if (window.voorwerp.pixels) return;

  const is_little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

  class Pixels {
    constructor(layer) {
      this.canvas = document.createElement("canvas");
      this.canvas.className = "pixels";
      layer.prepend(this.canvas);
      this.pen = this.canvas.getContext("2d");
      this.frame = null;  // what is painted: bytes (row 0 at the bottom), w, h, view, color, palette
      this.colors = new Uint32Array(256);
    }

    /** Paint a frame; it lies where `slide` puts it. */
    lay(frame) {
      const {w, h, palette} = frame;
      this.frame = frame;
      if (this.canvas.width !== w || this.canvas.height !== h) {
        [this.canvas.width, this.canvas.height] = [w, h];
        this.picture = this.pen.createImageData(w, h);
        this.out = new Uint32Array(this.picture.data.buffer);
      }
      this.dye(palette);
      this.canvas.classList.remove("left");
    }

    /** Paint the frame in other colors: six hexadecimal digits for each byte from 1 on; 0 is the ground. */
    dye(palette) {
      const {frame, out, colors} = this;
      if (!frame) return;
      if (palette !== this.palette) {
        this.palette = palette;
        colors.fill(0);
        for (let i = 1; i <= palette.length / 6; i++) {
          const rgb = parseInt(palette.slice(6 * i - 6, 6 * i), 16);
          colors[i] = is_little ? (0xff << 24 | (rgb & 255) << 16 | rgb & 0xff00 | rgb >> 16) >>> 0 : (rgb << 8 | 0xff) >>> 0;
        }
      }
      const {bytes, w, h} = frame;
      for (let y = 0, at = 0; y < h; y++) for (let to = (h - 1 - y) * w, end = to + w; to < end;) out[to++] = colors[bytes[at++]];
      this.pen.putImageData(this.picture, 0, 0);
    }

    /** Put the frame where it belongs in a view of so many pixels. */
    slide([x0, x1, y0, y1], wide, high) {
      const {frame, canvas} = this;
      if (!frame || !(wide > 0) || canvas.classList.contains("left")) return;
      const [a0, a1, b0, b1] = frame.view, sx = wide / (x1 - x0), sy = high / (y1 - y0), dpr = window.devicePixelRatio || 1;
      let [fx, fy] = [(a1 - a0) * sx / frame.w, (b1 - b0) * sy / frame.h], [left, top] = [(a0 - x0) * sx, (y1 - b1) * sy];
      if (Math.abs(fx * dpr - 1) < 1e-6 && Math.abs(fy * dpr - 1) < 1e-6) {  // pixel on pixel: none is blurred
        [fx, fy] = [1 / dpr, 1 / dpr];
        [left, top] = [Math.round(left * dpr) / dpr, Math.round(top * dpr) / dpr];
      }
      canvas.style.transform = `translate(${left}px, ${top}px) scale(${fx}, ${fy})`;
    }

    /** The view is of something else now: the frame stays where it is, and goes if the next does not come soon. */
    leave() {
      this.canvas.classList.add("left");
    }
  }

  window.voorwerp.pixels = layer => new Pixels(layer);
})();
