// Before the first paint: the tone that was chosen last, if any. No module, so that nothing flashes.
(() => {
  const tones = ["auto", "light", "dark"];
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("interlace.theme"); } catch { return null; } };
  const set = tone => {
    root.dataset.theme = tone;
    const word = document.getElementById("theme-word");
    if (word) word.textContent = tone[0].toUpperCase() + tone.slice(1);
  };
  set(tones.includes(stored()) ? stored() : "auto");
  addEventListener("DOMContentLoaded", () => {
    set(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const tone = tones[(tones.indexOf(root.dataset.theme) + 1) % tones.length];
      set(tone);
      try { localStorage.setItem("interlace.theme", tone); } catch { /* a browser that keeps nothing */ }
    });
  });
})();
