// What the checks are written with. A check that hangs fails after LIMIT_MS.

const LIMIT_MS = 20_000;

/** Checks in the order they are to run, and what came of them. */
export class Checks {
  results = [];

  async run(name, body) {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not over after ${LIMIT_MS} ms`)), LIMIT_MS);
    });
    const error = await Promise.race([Promise.resolve().then(body), limit]).then(() => null, (error) => error);
    clearTimeout(timer);
    this.results.push({ name, error: error === null ? null : String(error.stack ?? error) });
  }
}

export function equal(found, expected, what = '') {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what} found ${a}, expected ${b}`);
}

export function ok(value, what) {
  if (!value) throw new Error(`not so: ${what}`);
}

/** Asks until there is something. */
export async function until(what, find) {
  const end = performance.now() + LIMIT_MS;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (performance.now() > end) throw new Error(`never came: ${what}`);
    await new Promise((next) => setTimeout(next, 5));
  }
}

export async function rejects(promise, name) {
  const error = await promise.then(() => null, (error) => error);
  equal(error?.name, name, 'the error');
  return error;
}
