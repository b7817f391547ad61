// An intent and where its key lives.

import { HapaxError } from './states.js';

const PREFIX = 'hapax:intent:';

/**
 * One thing that a user wants to happen once, with its key. It lives in the storage; objects of the same name are one.
 *
 * new → sent (it may have happened) → answered. Where nothing can have happened, sent → new.
 */
export class Intent {
  #storage;
  #now;

  /** @param {string} name @param {Pick<Storage, 'getItem'|'setItem'|'removeItem'>} storage @param {() => number} now */
  constructor(name, storage, now) {
    if (!name) throw new HapaxError('An intent needs a name, such as "checkout:cart-42".');
    this.name = name;
    this.#storage = storage;
    this.#now = now;
  }

  /** The idempotency key; made when first asked for. */
  get key() {
    const known = this.#read();
    if (known) return known.key;
    const made = { key: newKey(), made: this.#now(), phase: 'new' };
    this.#write(made);
    return made.key;
  }

  /** `new`, `sent` or `answered`. */
  get phase() {
    return this.#read()?.phase ?? 'new';
  }

  /** Whether it is known what became of it. */
  get settled() {
    return this.phase !== 'sent';
  }

  /** When it was first sent. @returns {Date | null} */
  get sentAt() {
    const at = this.#read()?.sent;
    return at ? new Date(at) : null;
  }

  /** The request that was kept. @returns {{url: string, method: string, body?: string, type?: string} | null} */
  get kept() {
    return this.#read()?.kept ?? null;
  }

  /**
   * The answer was seen; the next use of this name is a new intent. Refused (`false`) while it is not known what became
   * of it, unless forced.
   */
  finish({ force = false } = {}) {
    if (!force && !this.settled) return false;
    this.#storage.removeItem(PREFIX + this.name);
    return true;
  }

  /**
   * The user wants something else: a new key. Refused (`false`) while it is not known what became of the old one, since
   * both could happen, unless forced.
   */
  renew({ force = false } = {}) {
    if (!this.finish({ force })) return false;
    void this.key;
    return true;
  }

  /** @internal */
  mark(phase, kept) {
    const known = { ...this.#read(), key: this.key, phase };
    if (phase === 'sent') known.sent ??= this.#now();
    if (phase === 'new') {
      delete known.sent;
      delete known.kept;
    }
    if (kept) known.kept = kept;
    this.#write(known);
  }

  #read() {
    const text = this.#storage.getItem(PREFIX + this.name);
    try {
      const value = text === null ? null : JSON.parse(text);
      return typeof value?.key === 'string' ? value : null;
    } catch {
      return null;
    }
  }

  #write(value) {
    this.#storage.setItem(PREFIX + this.name, JSON.stringify(value));
  }
}

/** `sessionStorage`, and memory where that is forbidden or full: then a key does not survive a reload. */
export class Keys {
  #memory = new Map();
  #storage;

  /** @param {() => Storage | null} open */
  constructor(open) {
    try {
      this.#storage = open();
    } catch {
      this.#storage = null;
    }
  }

  getItem(name) {
    return this.#memory.get(name) ?? this.#storage?.getItem(name) ?? null;
  }

  setItem(name, value) {
    try {
      if (this.#storage) return this.#storage.setItem(name, value);
    } catch {
      // Full. Memory is better than two keys for one intent.
    }
    this.#memory.set(name, value);
  }

  removeItem(name) {
    this.#memory.delete(name);
    this.#storage?.removeItem(name);
  }
}

/** 122 random bits. `randomUUID` is there in secure contexts only. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
