
const MAGMA = ("000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 cf4070 e55064 f4695c fb8761 fea571 " +
  "fec287 fde0a1 fcfdbf").split(" ").map(hex => [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16)));
const SIZE = 2048, WINDOW = 1536, BANDS = 96, DEPTH = 70;   // samples at 48 kHz, of which 32 ms; dB that colours span
const hopOf = total => Math.max(300, Math.ceil(total * RATE / 1200));   // every 6 ms, or as fine as a screen is
const mel = hertz => Math.log10(1 + hertz / 700), hertzOf = mel => 700 * (10 ** mel - 1);

// Powers of the spectrum of a real frame, in place: radix-2, decimation in time.
const turns = Float64Array.from({ length: SIZE }, (_, i) => (i < SIZE / 2 ? Math.cos : Math.sin)(2 * Math.PI * (i % (SIZE / 2)) / SIZE));
const mirrored = Uint16Array.from({ length: SIZE }, (_, i) => {
  let mirror = 0;
  for (let bit = 1; bit < SIZE; bit *= 2) mirror = mirror * 2 + (i & bit ? 1 : 0);
  return mirror;
});
function powers(real, imaginary) {
  for (let half = 1; half < SIZE; half *= 2) {
    for (let start = 0; start < SIZE; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const turn = k * SIZE / (2 * half), cos = turns[turn], sin = -turns[turn + SIZE / 2], a = start + k, b = a + half;
        const re = real[b] * cos - imaginary[b] * sin, im = real[b] * sin + imaginary[b] * cos;
        real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
        real[a] += re; imaginary[a] += im;
      }
    }
  }
  for (let k = 0; k <= SIZE / 2; k++) real[k] = real[k] ** 2 + imaginary[k] ** 2;
}

// Levels in dB [frames x BANDS] over a mel axis up to `top` Hz, and the loudest.
function levels(wave, top, hop) {
  const frames = Math.ceil(wave.length / hop), real = new Float64Array(SIZE), imaginary = new Float64Array(SIZE);
  const edges = Array.from({ length: BANDS + 1 }, (_, i) => hertzOf(mel(top) * i / BANDS) / RATE * SIZE);
  const found = new Float32Array(frames * BANDS);
  let peak = -60;
  for (let frame = 0; frame < frames; frame++) {
    real.fill(0);
    imaginary.fill(0);
    for (let i = 0; i < WINDOW; i++) {
      const sample = wave[frame * hop + i - WINDOW / 2] || 0;
      real[mirrored[i]] = sample * (.5 - .5 * Math.cos(2 * Math.PI * i / WINDOW));
    }
    powers(real, imaginary);
    for (let band = 0; band < BANDS; band++) {
      const from = Math.floor(edges[band]), to = Math.min(SIZE / 2, Math.max(from + 1, Math.floor(edges[band + 1])));
      let sum = 0;
      for (let k = from; k < to; k++) sum += real[k];
      const level = 10 * Math.log10(sum / (to - from) / (WINDOW / 4) ** 2 + 1e-14);
      found[frame * BANDS + band] = level;
      if (level > peak) peak = level;
    }
  }
  return { found, frames, peak };
}

function paint(canvas, { found, frames }, peak, total) {
  const shownFrames = Math.max(1, Math.round(total * RATE / hopOf(total))), image = new ImageData(shownFrames, BANDS);
  for (let frame = 0; frame < Math.min(frames, shownFrames); frame++) {
    for (let band = 0; band < BANDS; band++) {
      const place = clamp((found[frame * BANDS + band] - peak + DEPTH) / DEPTH, 0, 1) * (MAGMA.length - 1);
      const low = Math.min(Math.floor(place), MAGMA.length - 2), at = ((BANDS - 1 - band) * shownFrames + frame) * 4;
      for (let c = 0; c < 3; c++) image.data[at + c] = MAGMA[low][c] + (MAGMA[low + 1][c] - MAGMA[low][c]) * (place - low);
      image.data[at + 3] = 255;
    }
  }
  canvas.width = shownFrames;
  canvas.height = BANDS;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function fitted(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return [context, width, height];
}

function drawAxis(canvas, total) {
  const [context, width] = fitted(canvas);
  const step = [.01, .02, .05, .1, .2, .5, 1, 2, 5, 10].find(step => step / total * width > 52) || 30;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = getComputedStyle(canvas).color;
  for (let i = 0; i * step <= total; i++) {
    const x = i * step / total * width, name = +(i * step).toFixed(2) + (i ? "" : " s"), wide = context.measureText(name).width;
    context.fillRect(Math.round(x), 0, 1, 4);
    if (x + wide < width) context.fillText(name, i ? x - wide / 2 : x, 16);
  }
}

// Units of a system over an item: a row of codes for each codebook that the page holds, null where it holds none.
const ribbons = new Map(data.ribbons.map(ribbon => [ribbon.system, { ...ribbon, codes: new Map(ribbon.codes) }]));
function unitsOf(item, system) {
  const ribbon = ribbons.get(system), text = ribbon?.codes.get(item);
  if (!text) return null;
  const raw = bytes(text), codes = ribbon.bytes === 2 ? new Uint16Array(raw.buffer) : new Uint32Array(raw.buffer);
  const frames = codes.length / ribbon.labels.length;
  return { ...ribbon, frames, rows: ribbon.labels.map((label, k) => ({ label, codes: codes.subarray(k * frames, (k + 1) * frames) })) };
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const shade = code => `oklch(${(dark.matches ? .62 : .74) + ((code * 7) % 3) * .05} .105 ${(code * 137.508) % 360})`;

function drawRibbon(canvas, units, codes, total) {
  const [context, width, height] = fitted(canvas), scale = width / total;
  context.font = "10.5px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let from = 0, to; from < codes.length; from = to) {
    for (to = from + 1; codes[to] === codes[from];) to++;
    const left = (units.start + from * units.step) * scale, space = (to - from) * units.step * scale;
    context.fillStyle = shade(codes[from]);
    context.fillRect(left, 0, Math.max(space - Math.min(1, space * .2), .5), height);
    if (context.measureText(codes[from]).width + 4 > space) continue;
    context.fillStyle = dark.matches ? "#0c0e10" : "#1b1e21";
    context.fillText(codes[from], left + space / 2, height / 2 + .5);
  }
}
