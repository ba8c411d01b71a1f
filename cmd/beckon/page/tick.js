// A worker that keeps time: pages in the background get one timer a second, their workers all of them.
const rate = Number(new URL(self.location.href).searchParams.get("rate")) || 15;
setInterval(() => self.postMessage(null), 1000 / rate);
