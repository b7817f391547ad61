// Crashes on demand, so that tests can show what survives them. Off unless CRASH_POINTS=1.
//
// X-Kill-At: POINT kills the process there, X-Stop-At: POINT stops it until somebody sends SIGCONT.

import fs from "node:fs";

const ON = process.env.CRASH_POINTS === "1";

// What is to be called at each point of this request.
export function pointsOf(request) {
  const { "x-kill-at": kill, "x-stop-at": stop } = request.headers;
  return (point) => {
    if (ON && point === kill) send("killed", point, "SIGKILL");
    if (ON && point === stop) send("stopped", point, "SIGSTOP");
  };
}

function send(said, point, signal) {
  // Written before the signal, not when the event loop gets to it.
  fs.writeSync(2, `${said} at ${point}: process ${process.pid}\n`);
  process.kill(process.pid, signal);
}
