// The guard of a form.

import { equal, ok, until } from './check.js';
import { answer, lost, world } from './units.js';

function form() {
  const made = document.createElement('form');
  made.action = '/o';
  made.innerHTML = '<input name="a" value="1"><button>Send</button>';
  document.body.append(made);
  return { form: made, field: made.elements.a, button: made.querySelector('button') };
}

export async function formUnits(run) {
  await run('a form is locked while it is under way', async () => {
    const { form: made, field, button } = form();
    const { hapax, intent, asked } = world([answer(201)]);
    const outcomes = [];
    const guarded = hapax.guard(made, intent, { onOutcome: ({ kind }) => outcomes.push(kind) });
    made.requestSubmit();
    equal([field.disabled, button.disabled, made.getAttribute('aria-busy')], [true, true, 'true']);
    made.requestSubmit();
    await guarded.submit();
    await until('the outcome', () => outcomes.length);
    equal([asked.length, asked[0].body, outcomes], [1, '{"a":"1"}', ['done']]);
    equal([field.disabled, button.disabled, made.getAttribute('aria-busy')], [false, false, null]);
    const { key } = intent;
    await guarded.submit();
    equal([asked.length, asked[1].key, intent.key], [2, key, key], 'pressed again, it asks for the same answer');
    field.value = '2';
    field.dispatchEvent(new Event('input', { bubbles: true }));
    ok(intent.key !== key, 'an edit after the answer is a new intent');
    await guarded.submit();
    equal(asked[2].body, '{"a":"2"}');
  });
  await run('the fields stay locked until the outcome is known', async () => {
    const { form: made, field, button } = form();
    const { hapax, intent, asked } = world([lost(), lost(), answer(201)], { random: 1 });
    const guarded = hapax.guard(made, intent, { deadlineMs: 600 });
    const { key } = intent;
    equal((await guarded.submit()).kind, 'failed');
    equal([field.disabled, button.disabled], [true, false]);
    field.value = '2';
    equal((await guarded.submit()).kind, 'done');
    equal([asked.length, asked[2].body, asked[2].key], [3, '{"a":"1"}', key], 'it asks for what was sent');
    equal([field.disabled, button.disabled], [false, false]);
  });
  await run('starting over stops what is under way', async () => {
    const { form: made, field } = form();
    const hang = ({ signal }) => new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
    const { hapax, intent, asked } = world([hang, answer(201)]);
    const errors = [];
    const guarded = hapax.guard(made, intent, { onError: (error) => errors.push(error.name) });
    const first = guarded.submit().catch((error) => error.name);
    await until('the request', () => asked.length);
    const { key } = intent;
    guarded.startOver();
    equal([await first, field.disabled, intent.key !== key, errors], ['AbortError', false, true, []]);
    equal([(await guarded.submit()).kind, asked.length, asked[1].key], ['done', 2, intent.key]);
  });
}
