, seen AS MATERIALIZED (
    -- What the snapshot shows. Records that cannot be claimed stay out of the INSERT below: a conflict locks and
    -- dirties a row even where it changes nothing.
    SELECT
        i.*,
        c.now,
        c.now + least(i.lease, i.max_run, c.room) AS lease_until,
        c.now + least(i.max_run, c.room) AS run_until,
        r.id IS NOT NULL AS present,
        r.recipe = i.recipe AND r.fingerprint = i.fingerprint AND (
            (r.state = 'running' AND r.after_failure = 'retry' AND r.deadline <= c.now)
            OR (r.state = 'waiting' AND r.due <= c.now AND r.attempt <> i.attempt)
        ) AS claimable,
        r.recipe AS r_recipe, r.fingerprint AS r_fingerprint, r.fence AS r_fence, r.attempt AS r_attempt,
        r.tries AS r_tries, r.created AS r_created, r.since AS r_since, r.replay_for AS r_replay_for,
        r.remember_for AS r_remember_for, r.state AS r_state, r.deadline AS r_deadline, r.run_until AS r_run_until,
        r.after_failure AS r_after_failure, r.due AS r_due, r.reason AS r_reason, r.status AS r_status,
        r.headers AS r_headers, r.body AS r_body, r.starter AS r_starter
    FROM clock c
    CROSS JOIN unnest(
        $5::bytea[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[],
        $13::bigint[], $14::bigint[], $15::text[], $16::bigint[], $17::bigint[], $18::text[], $19::boolean[],
        $20::bytea[], $21::bytea[]
    ) AS i(id, scope, name, key, recipe, fingerprint, attempt, counted,
           lease, max_run, after_failure, replay_for, remember_for, starter, attended, input, group_id)
    LEFT JOIN hapax_record r ON r.id = ANY (ARRAY[i.id])
), won AS (
    INSERT INTO hapax_record AS r
        (id, scope, name, key, recipe, fingerprint, fence, attempt, tries, created, since,
         replay_for, remember_for, state, deadline, run_until, after_failure, starter, wake_at, look_at, input,
         group_id)
    -- Sums of times stop at the far future instead of overflowing.
    SELECT
        s.id, s.scope, s.name, s.key, s.recipe, s.fingerprint, nextval('hapax_fence'), s.attempt, s.counted,
        s.now, s.now, s.replay_for, s.remember_for, 'running',
        s.lease_until, s.run_until, s.after_failure, s.starter,
        CASE
            WHEN s.attended OR s.input IS NOT NULL THEN s.lease_until
            WHEN s.group_id IS NOT NULL THEN 9223372036854775807
        END,
        s.run_until + least(s.replay_for, 9223372036854775807 - greatest(s.run_until, 0)),
        s.input, s.group_id
    FROM seen s
    WHERE NOT s.present OR s.claimable
    ON CONFLICT (id) DO UPDATE SET
        -- Drawn again: this runs once the row is locked, so that a claim that waited for another's has a higher
        -- fence than that. `excluded.fence` was drawn before the wait.
        fence = nextval('hapax_fence'),
        attempt = excluded.attempt,
        tries = least(r.tries + excluded.tries, 4294967295),
        since = excluded.since,
        replay_for = excluded.replay_for,
        remember_for = excluded.remember_for,
        state = 'running',
        deadline = excluded.deadline,
        run_until = excluded.run_until,
        after_failure = excluded.after_failure,
        starter = excluded.starter,
        -- The group is the one that the record was made with.
        wake_at = CASE
            WHEN r.input IS NOT NULL OR excluded.wake_at = excluded.deadline THEN excluded.deadline
            WHEN r.group_id IS NOT NULL THEN 9223372036854775807
        END,
        input = coalesce(r.input, excluded.input),
        look_at = excluded.look_at,
        due = NULL
    WHERE r.recipe = excluded.recipe AND r.fingerprint = excluded.fingerprint AND (
        (r.state = 'running' AND r.after_failure = 'retry' AND r.deadline <= excluded.since)
        OR (r.state = 'waiting' AND r.due <= excluded.since AND r.attempt <> excluded.attempt)
    )
    RETURNING r.id, r.fence, r.deadline, r.run_until, r.tries
)
-- A claim that won has one row here (two if it took a record over), a refused one what it was refused by, and one
-- that lost a race to something the snapshot does not show has none.
SELECT
    w.id, true AS won, c.now, c.wall,
    NULL::bigint AS recipe, NULL::bytea AS fingerprint, w.fence, NULL::bytea AS attempt, w.tries,
    NULL::bigint AS created, NULL::bigint AS since, NULL::bigint AS replay_for, NULL::bigint AS remember_for,
    NULL::text AS state, w.deadline, w.run_until,
    NULL::text AS after_failure, NULL::bigint AS due, NULL::text AS reason, NULL::integer AS status,
    NULL::bytea AS headers, NULL::bytea AS body, NULL::text AS starter
FROM won w, clock c
UNION ALL
SELECT
    s.id, false, c.now, c.wall,
    s.r_recipe, s.r_fingerprint, s.r_fence, s.r_attempt, s.r_tries,
    s.r_created, s.r_since, s.r_replay_for, s.r_remember_for,
    s.r_state, s.r_deadline, s.r_run_until,
    s.r_after_failure, s.r_due, s.r_reason, s.r_status,
    s.r_headers, s.r_body, s.r_starter
FROM seen s, clock c
WHERE s.present
