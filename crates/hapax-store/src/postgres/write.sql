-- Decisions made on records as they were read: those that changed since are left alone. `new_fence` shuts earlier
-- attempts out. An amendment leaves its line in the audit.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::bytea[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
        $8::bytea[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::bigint[],
        $15::text[], $16::text[], $17::bigint[], $18::text[], $19::integer[], $20::bytea[], $21::bytea[],
        $22::text[], $23::bigint[], $24::bigint[], $25::bigint[], $26::boolean[], $27::bytea[],
        $28::bigint[], $29::text[], $30::text[], $31::text[], $32::text[]
    ) WITH ORDINALITY AS i(
        id, was_fence, was_state, was_since, was_deadline, was_wake_at, new_fence,
        attempt, tries, crashes, since, state, deadline, run_until,
        after_failure, starter, due, reason, status, headers, body,
        last_error, redriven, wake_at, look_at, keeps_input, input,
        at, action, actor, why, shown, n
    )
), written AS (
    UPDATE hapax_record r
    SET fence = CASE WHEN i.new_fence THEN nextval('hapax_fence') ELSE r.fence END,
        attempt = i.attempt, tries = i.tries, crashes = i.crashes, since = i.since, state = i.state,
        deadline = i.deadline, run_until = i.run_until, after_failure = i.after_failure, starter = i.starter,
        due = i.due, reason = i.reason, status = i.status, headers = i.headers, body = i.body,
        last_error = i.last_error, redriven = i.redriven, wake_at = i.wake_at,
        look_at = coalesce(i.look_at, r.look_at),
        input = CASE WHEN i.keeps_input THEN r.input ELSE i.input END
    FROM given i
    WHERE r.id = ANY (ARRAY[i.id]) AND r.fence = i.was_fence AND r.state = i.was_state AND r.since = i.was_since
        AND r.deadline IS NOT DISTINCT FROM i.was_deadline AND r.wake_at IS NOT DISTINCT FROM i.was_wake_at
    RETURNING i.n, r.fence, r.scope, r.name, r.key
), audited AS (
    INSERT INTO hapax_audit (at, id, scope, name, key, action, actor, reason, before, after)
    SELECT i.at, i.id, w.scope, w.name, w.key, i.action, i.actor, i.why, i.shown, i.state
    FROM given i
    JOIN written w ON w.n = i.n
    WHERE i.action IS NOT NULL
)
SELECT n, fence FROM written
