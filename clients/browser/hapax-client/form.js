// A form that is sent once.

import { report } from './states.js';

/**
 * @typedef {import('./states.js').State} State
 * @typedef {import('./states.js').SendOptions} SendOptions
 */

/**
 * Sends a form once, however often it is submitted.
 *
 * While it is under way the form is disabled, and another submit joins. While it is not known what became of it, a
 * submit asks again for what was sent, and the fields stay disabled: what is seen is what is sent. An edit after the
 * answer begins a new intent.
 *
 * @param {{send: Function, resume: Function}} client
 * @param {HTMLFormElement} form
 * @param {import('./intent.js').Intent} intent
 * @param {SendOptions & {url?: string, request?: (form: HTMLFormElement) => Partial<SendOptions>,
 *   onOutcome?: (state: State) => void, onError?: (error: unknown) => void}} [options] `url`: the form's action by
 *   default; `request`: body and headers of the form, by default JSON of its fields
 */
export function guardForm({ send, resume }, form, intent, options = {}) {
  const { url = form.action, request = jsonOf, onOutcome = () => {}, onError = report, ...rest } = options;
  const lock = new Lock(form);
  /** @type {Promise<State> | null} */
  let flight = null;
  /** @type {SendOptions | null} */
  let sent = null;
  let stopped = new AbortController();
  const signal = () => AbortSignal.any([stopped.signal, ...(rest.signal ? [rest.signal] : [])]);
  const again = () => (sent ? send(intent, url, { ...sent, signal: signal() })
    : resume(intent, { ...rest, signal: signal() }));
  const first = () => {
    sent = { ...rest, ...request(form) };
    return send(intent, url, { ...sent, signal: signal() });
  };
  const begin = (start) => {
    if (flight) return flight;
    // The form is read before it is disabled.
    const begun = start();
    lock.all();
    const own = begun.finally(() => {
      if (flight !== own) return;
      flight = null;
      lock.free({ fields: intent.settled });
    });
    flight = own;
    const { signal: stop } = stopped;
    own.then(onOutcome, (error) => stop.aborted || onError(error));
    return own;
  };
  const submit = () => begin(async () => (intent.phase === 'new' ? null : again()) ?? first());
  if (!intent.settled && intent.kept) lock.all().free({ fields: false });
  const onSubmit = (event) => {
    event.preventDefault();
    submit();
  };
  const onEdit = () => {
    if (!flight && intent.phase === 'answered') intent.renew();
  };
  form.addEventListener('submit', onSubmit);
  form.addEventListener('input', onEdit);
  return {
    /** As the user's submit. @returns {Promise<State>} */
    submit,
    /** Goes on with what a reload cut off, or asks for its answer again; `null` if nothing was kept. */
    resume: () => flight ?? (intent.kept ? begin(async () => again()) : null),
    /** For a user who knows that it may have happened, and wants another one: a new key, and a free form. */
    startOver() {
      stopped.abort();
      stopped = new AbortController();
      flight = null;
      sent = null;
      intent.renew({ force: true });
      lock.free({ fields: true });
    },
    /** Lets go of the form. */
    stop() {
      form.removeEventListener('submit', onSubmit);
      form.removeEventListener('input', onEdit);
    },
  };
}

/** A form's controls, disabled and freed again. */
class Lock {
  #form;
  /** @type {Set<any>} */
  #held = new Set();

  constructor(form) {
    this.#form = form;
  }

  all() {
    for (const control of this.#form.elements) {
      if (control.disabled) continue;
      control.disabled = true;
      this.#held.add(control);
    }
    this.#form.setAttribute('aria-busy', 'true');
    return this;
  }

  /** Submit buttons, and the fields too if asked for. */
  free({ fields }) {
    for (const control of this.#held) {
      if (!fields && !['submit', 'image'].includes(control.type)) continue;
      control.disabled = false;
      this.#held.delete(control);
    }
    this.#form.removeAttribute('aria-busy');
  }
}

/** The fields of a form as JSON. */
function jsonOf(form) {
  const body = JSON.stringify(Object.fromEntries(new FormData(form)));
  return { body, headers: { 'Content-Type': 'application/json' } };
}
