// One key per user intent, kept over reloads; retries by the server's advice; a double-submit guard.
// For backends behind hapax. An ES module without dependencies: copy it and the folder beside it, or serve them.
//
// It does not make a backend idempotent: a retry is only safe where the server honours `Idempotency-Key`.

import { STATUS_PATH } from './hapax-client/answer.js';
import { Flight, pause } from './hapax-client/flight.js';
import { guardForm } from './hapax-client/form.js';
import { Intent, Keys } from './hapax-client/intent.js';
import { HapaxError } from './hapax-client/states.js';

export { retryAfterMs } from './hapax-client/answer.js';
export { HapaxError };

/**
 * @typedef {import('./hapax-client/states.js').State} State
 * @typedef {import('./hapax-client/states.js').SendOptions} SendOptions
 */

const DEFAULTS = { method: 'POST', deadlineMs: 120_000, attemptMs: 60_000, baseMs: 500, capMs: 20_000 };

/**
 * A client. Pages use {@link hapax}; tests give it a world of their own.
 *
 * @param {object} [world]
 * @param {Storage | null} [world.storage] where keys live: `sessionStorage`, or `localStorage` to share intents among tabs
 * @param {typeof fetch} [world.fetch]
 * @param {() => number} [world.now] milliseconds since 1970
 * @param {(ms: number, signal: AbortSignal) => Promise<void>} [world.sleep]
 * @param {() => number} [world.random] from 0 to 1
 */
export function createHapax(world = {}) {
  const { fetch = (...all) => globalThis.fetch(...all), now = Date.now, sleep = pause, random = Math.random } = world;
  const storage = new Keys(() => (world.storage === undefined ? globalThis.sessionStorage : world.storage));
  /** @type {Map<string, Flight>} */
  const flights = new Map();

  /** The user's wish to do one thing. The same name in the same tab is the same intent. @param {string} name */
  const intent = (name) => new Intent(name, storage, now);

  /**
   * Asks for an operation until it is known what became of it, or until the deadline. A second call for the same
   * intent, while the first is under way, joins it.
   *
   * @param {Intent} intent @param {string | URL} url @param {SendOptions} [options]
   * @returns {Promise<State>} the last state; see `kind`
   * @throws {HapaxError} where the page is wrong: the key was used for another request
   * @throws {DOMException} `AbortError`, where the caller's signal says so
   */
  function send(intent, url, options = {}) {
    const known = flights.get(intent.key);
    if (known) return known.join(options);
    if (options.signal?.aborted) return Promise.reject(options.signal.reason);
    const all = { ...DEFAULTS, ...options, url: String(url) };
    if (all.body instanceof ReadableStream) throw new HapaxError('A stream cannot be sent again: give the whole body.');
    const flight = new Flight(intent, all, { fetch, now, sleep, random });
    const { key } = intent;
    flights.set(key, flight);
    flight.run(() => {
      if (flights.get(key) === flight) flights.delete(key);
    });
    return flight.join(options);
  }

  /**
   * Sends what was kept (`keep`) before a reload again, byte for byte: the way to learn what became of it. `null` if
   * there is nothing kept.
   *
   * @param {Intent} intent @param {SendOptions} [options] as of `send`; url, method and body are the kept ones
   * @returns {Promise<State> | null}
   */
  function resume(intent, options = {}) {
    const known = flights.get(intent.key);
    if (known) return known.join(options);
    const kept = intent.kept;
    if (!kept) return null;
    const headers = (attempt) => {
      const given = new Headers(typeof options.headers === 'function' ? options.headers(attempt) : options.headers);
      if (kept.type) given.set('Content-Type', kept.type);
      return given;
    };
    return send(intent, kept.url, { ...options, headers, method: kept.method, body: kept.body, keep: true });
  }

  /**
   * What the server knows of the intent; runs nothing. `null` if it knows nothing.
   *
   * @param {Intent} intent
   * @param {{name?: string, headers?: HeadersInit, signal?: AbortSignal, base?: string | URL}} [options] `name`: the
   *   route's, where routes are named; `headers`: those that say who asks
   * @returns {Promise<{key: string, name: string, state: string, tries: number, created: string, since: string,
   *   until?: string} | null>}
   */
  async function status(intent, { name, headers, signal, base = globalThis.location?.href } = {}) {
    const url = new URL(STATUS_PATH + encodeURIComponent(intent.key), base);
    if (name) url.searchParams.set('name', name);
    const answer = await fetch(url, { headers, signal, cache: 'no-store' });
    if (answer.status === 404) return null;
    if (!answer.ok) throw new HapaxError(`The status of the operation was refused: ${answer.status}`);
    return answer.json();
  }

  /** Sends a form once: see {@link guardForm}. @param {HTMLFormElement} form @param {Intent} intent */
  const guard = (form, intent, options) => guardForm({ send, resume }, form, intent, options);

  return { intent, send, resume, status, guard };
}

/** The client of this page. */
export const hapax = createHapax();
