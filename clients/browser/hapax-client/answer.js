// Answers of the server: bodies, problems, advice.

const URN = 'urn:hapax:problem:';
/** Where the status of operations is. */
export const STATUS_PATH = '/.hapax/operations/';

/** The wait that `Retry-After` asks for, in ms: seconds or a date. `null` if there is none. */
export function retryAfterMs(headers, now) {
  const text = headers.get('Retry-After')?.trim();
  if (!text) return null;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

/** @returns {Promise<Problem | undefined>} the problem, if hapax itself answered with one */
export async function problemOf(answer) {
  if (answer.status < 400 || !answer.headers.get('Content-Type')?.includes('json')) return undefined;
  const value = await answer.clone().json().catch(() => null);
  const type = value?.type;
  return typeof type === 'string' && type.startsWith(URN) ? { ...value, name: type.slice(URN.length) } : undefined;
}

/** Where the status of an accepted operation is; a backend's own 202 has none, and is an answer like others. */
export function statusUrl(answer, asked) {
  const location = answer.headers.get('Location');
  if (!location) return null;
  const base = new URL(asked, globalThis.location?.href);
  const url = new URL(location, base);
  // Credentials go nowhere else.
  return url.origin === base.origin && url.pathname.includes(STATUS_PATH) ? url.href : null;
}

/** An answer whose body is here: it can be read again and again. */
export function whole({ status, statusText, headers }, bytes) {
  const bodiless = [204, 205, 304].includes(status);
  return new Response(bodiless ? null : bytes, { status, statusText, headers });
}

/** A state of the reader's own: a body can be read once. */
export function withBody(state) {
  return state.response ? { ...state, response: state.response.clone() } : { ...state };
}

export function timeOf(text) {
  const at = Date.parse(text ?? '');
  return Number.isNaN(at) ? undefined : new Date(at);
}
