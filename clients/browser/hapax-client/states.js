// The words of the module: states, options, errors.

/**
 * What a user interface shows. The last one is also what `send` gives.
 *
 * `sending`: on its way. `in-progress`: the server works on it, since `since`. `retry-at`: nothing to do but wait, until
 * `until`. `done`: it has an answer (look at `response.ok`). `needs-help`: it may have happened, or was given up; a
 * person has to look. `failed`: refused, or no answer in time.
 *
 * @typedef {object} State
 * @property {'sending'|'in-progress'|'retry-at'|'done'|'needs-help'|'failed'} kind
 * @property {Date} since when this began, by the server's clock where it says so
 * @property {Date} [at] done: when
 * @property {Date} [until] when it will be asked again by itself; in a last state, when asking again makes sense
 * @property {boolean} settled whether it is known what became of it, so that a new key can do no harm
 * @property {boolean} over whether this is the last state of this `send`
 * @property {number} tries requests sent for it by this `send`
 * @property {boolean} [replayed] done: the answer is a stored one
 * @property {Response} [response] the answer behind this state; its body is there already
 * @property {Problem} [problem] the same, where it is a problem of hapax
 * @property {Error} [error] why there is no answer
 */

/**
 * @typedef {object} Problem an RFC 9457 problem of hapax, and what came with it
 * @property {string} name the end of its `type`, such as `in-progress`
 * @property {string} [detail] what to do next, for developers
 * @property {string} [since]
 * @property {string} [done_at]
 * @property {string} [reason]
 */

/**
 * @typedef {object} SendOptions
 * @property {string} [method] `POST` by default
 * @property {HeadersInit | ((attempt: {tries: number}) => HeadersInit)} [headers] a function is asked before each
 *   request, so that a token can be a fresh one
 * @property {BodyInit} [body] sent again unchanged; no stream
 * @property {AbortSignal} [signal] stops asking; what the server has begun runs on
 * @property {(state: State) => void} [onState]
 * @property {boolean} [keep] keep a text body in the storage until there is an answer, so that `resume` can send it
 *   after a reload; not for secrets
 * @property {boolean} [respondAsync] ask for 202 and a status to poll (`Prefer: respond-async`)
 * @property {number} [deadlineMs] when to stop asking: 120,000 by default
 * @property {number} [attemptMs] how long one request may take: 60,000 by default
 * @property {number} [baseMs] first back-off where the server gives no advice: 500 by default
 * @property {number} [capMs] longest back-off: 20,000 by default
 * @property {RequestCredentials} [credentials] as of `fetch`
 */

/** A mistake in the page: retrying does not help. */
export class HapaxError extends Error {
  /** @param {string} message @param {State} [state] */
  constructor(message, state) {
    super(message);
    this.name = 'HapaxError';
    /** The last state, if something was sent. */
    this.state = state;
  }
}

export function report(error) {
  (globalThis.reportError ?? console.error)(error);
}
