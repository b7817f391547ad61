SELECT
    c.now, c.wall, i.n,
    r.scope, r.name, r.key,
    r.recipe, r.fingerprint, r.fence, r.attempt, r.tries, r.created, r.since, r.replay_for, r.remember_for,
    r.state, r.deadline, r.run_until, r.after_failure, r.due, r.reason, r.status, r.headers, r.body, r.starter,
    r.crashes, r.last_error, r.redriven, r.wake_at, r.input, r.group_id
FROM clock c
LEFT JOIN unnest($5::bytea[]) WITH ORDINALITY AS i(id, n) ON true
LEFT JOIN hapax_record r ON r.id = ANY (ARRAY[i.id])
