-- What an attempt to take had taken and still holds, in no order: with one, the planner would rather walk all records.
SELECT
    c.now, c.wall, r.id, r.wake_at AS was_due, r.position, r.scope, r.name, r.key,
    r.recipe, r.fingerprint, r.fence, r.attempt, r.tries, r.created, r.since, r.replay_for, r.remember_for,
    r.state, r.deadline, r.run_until, r.after_failure, r.due, r.reason, r.status, r.headers, r.body, r.starter,
    r.crashes, r.last_error, r.redriven, r.wake_at, r.input, r.group_id
FROM clock c
LEFT JOIN hapax_record r
    ON r.wake_at IS NOT NULL AND r.state = 'running' AND r.attempt = $5::bytea AND r.deadline > c.now
