// Replays how texts came to be: a forward of every model per tick. Without it the page shows the finished texts.
document.documentElement.classList.add("js");
for (const player of document.querySelectorAll(".player")) {
  const button = player.querySelector("button"), slider = player.querySelector("input"), out = player.querySelector("output");
  const texts = [...document.getElementById(player.dataset.for).querySelectorAll("pre")].map(pre =>
    [...pre.querySelectorAll(".t")].map(t => ({ node: t, forward: +t.dataset.f, block: +t.dataset.b })));
  const last = +slider.max;
  let timer = 0;
  const show = now => {
    slider.value = now;
    for (const tokens of texts) {
      const live = Math.max(-1, ...tokens.filter(t => t.forward <= now).map(t => t.block));
      for (const t of tokens) {
        const open = t.forward > now;
        t.node.classList.toggle("masked", open && t.block <= live);
        t.node.classList.toggle("later", open && t.block > live);
      }
    }
    out.textContent = now >= last ? "finished" : `forward ${now}`;
  };
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; };
  button.onclick = () => {
    if (timer) return stop();
    let now = +slider.value >= last ? 0 : +slider.value;
    button.textContent = "Pause";
    timer = setInterval(() => { show(now); if (++now > last) stop(); }, 140);
  };
  slider.oninput = () => { stop(); show(+slider.value); };
}
