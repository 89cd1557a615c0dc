
const RATE = 48000;           // of everything that is played
const LIMIT = 48;             // decoded sounds that are kept
const clips = new Map(data.sounds.clips.map(clip => [clip.item, clip]));   // item -> its rate in Hz, the systems that have a sound
const decoded = new Map();
let output = null, silence = () => {};

const parsed = document.readyState === "loading"
  ? new Promise(resolve => addEventListener("DOMContentLoaded", resolve, { once: true })) : Promise.resolve();

function packed(item, system) {
  const text = document.getElementById(`sounds-${item}`)?.textContent.split(" ")[system] || "-";
  return text === "-" ? null : text;
}

function bytes(base64) { return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0)); }

// The decoded sound, null where there is none.
function sound(item, system) {
  const key = `${item} ${system}`, known = decoded.get(key);
  decoded.delete(key);
  decoded.set(key, known || parsed.then(() => {
    const text = packed(item, system);
    return text === null ? null : new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes(text).buffer);
  }));
  if (decoded.size > LIMIT) decoded.delete(decoded.keys().next().value);
  return decoded.get(key);
}

// Plays a sound from a moment on. Begins and ends within five milliseconds, so that switching does not click.
function sing(buffer, offset, ended) {
  output ??= new AudioContext({ sampleRate: RATE });
  output.resume();
  const source = output.createBufferSource(), gain = output.createGain(), begun = output.currentTime;
  source.buffer = buffer;
  source.connect(gain).connect(output.destination);
  gain.gain.setValueAtTime(0, begun);
  gain.gain.linearRampToValueAtTime(1, begun + .005);
  source.onended = ended;
  source.start(0, offset);
  return {
    now: () => offset + output.currentTime - begun,
    stop() {
      source.onended = null;
      gain.gain.setTargetAtTime(0, output.currentTime, .0015);
      source.stop(output.currentTime + .01);
    },
  };
}

// One position for several sounds: whichever plays goes on where another one was.
function transport(item, total, moved) {
  const deck = { time: 0, active: null, broken: new Set(), voice: null, heard: new Set() };
  let asked = 0;
  const stop = () => {
    if (deck.voice) deck.time = clamp(deck.voice.now(), 0, total);
    deck.voice?.stop();
    deck.voice = deck.active = null;
    asked++;
    moved(deck);
  };
  const follow = () => {
    if (!deck.voice) return;
    deck.time = Math.min(deck.voice.now(), total);
    moved(deck);
    requestAnimationFrame(follow);
  };
  const begin = (buffer, system) => {
    if (deck.voice) deck.time = clamp(deck.voice.now(), 0, total);
    deck.voice?.stop();
    if (deck.time > buffer.duration - .03) deck.time = 0;
    deck.voice = sing(buffer, deck.time, () => { deck.voice = deck.active = null; deck.time = 0; moved(deck); });
    deck.heard.add(system);
    follow();
  };
  deck.stop = stop;
  deck.play = async system => {
    if (silence !== stop) { silence(); silence = stop; }
    const ticket = ++asked;
    deck.active = system;
    moved(deck);
    try {
      const buffer = await sound(item, system);
      if (ticket === asked) begin(buffer, system);
    } catch {
      deck.broken.add(system);
      if (ticket === asked) stop(); else moved(deck);
    }
  };
  deck.toggle = system => deck.active === system ? stop() : deck.play(system);
  deck.seek = time => {
    const { active } = deck;
    if (deck.voice) { deck.voice.stop(); deck.voice = null; }
    deck.time = clamp(time, 0, total);
    if (active === null) moved(deck); else deck.play(active);
  };
  return deck;
}
