-- Record::tend for the records whose time has come, oldest first. One statement: no row stays locked while a
-- client thinks. Rows that somebody holds are left for the next sweep.
, due AS MATERIALIZED (
    SELECT r.id, r.look_at, r.state, r.after_failure, r.deadline, r.due, r.since, r.replay_for, r.remember_for,
        r.status IS NOT NULL AS answered, r.input IS NOT NULL AS runs_by_itself
    FROM hapax_record r
    WHERE r.look_at <= (SELECT now FROM clock)
    ORDER BY r.look_at, r.id
    LIMIT $5::bigint
    FOR UPDATE SKIP LOCKED
), span AS MATERIALIZED (
    SELECT d.*, c.now,
        d.since + least(d.replay_for, 9223372036854775807 - greatest(d.since, 0)) AS answer_until,
        CASE
            WHEN d.runs_by_itself AND d.state IN ('running', 'waiting') THEN NULL
            -- From its deadline on, a claim in retry mode is no more than an operation that waits for an arrival.
            WHEN d.state = 'running' AND d.after_failure = 'retry' THEN
                d.deadline + least(d.replay_for, 9223372036854775807 - greatest(d.deadline, 0))
            WHEN d.state = 'waiting' THEN
                greatest(d.due, d.since)
                + least(d.replay_for, 9223372036854775807 - greatest(d.due, d.since, 0))
            WHEN d.state IN ('done', 'dead') THEN
                d.since + least(d.remember_for, 9223372036854775807 - greatest(d.since, 0))
        END AS forget_at,
        -- While nothing is to be forgotten, a look each `replay_for` is enough.
        c.now + least(d.replay_for, c.room) AS later,
        -- The shortest time between two looks.
        c.now + least(1000, c.room) AS soonest
    FROM due d, clock c
), verdict AS MATERIALIZED (
    SELECT s.*,
        CASE
            WHEN s.state = 'running' AND s.after_failure = 'hold' AND s.deadline <= s.now THEN 'lapse'
            WHEN s.forget_at <= s.now THEN 'forget'
            WHEN s.state = 'done' AND s.answered AND s.answer_until <= s.now THEN 'strip'
            ELSE 'keep'
        END AS what
    FROM span s
), kept AS (
    UPDATE hapax_record r
    SET look_at = greatest(v.soonest, CASE
            WHEN v.state = 'running' AND v.after_failure = 'hold' THEN v.deadline
            WHEN v.state = 'done' AND v.answered THEN v.answer_until
            ELSE coalesce(v.forget_at, v.later)
        END)
    FROM verdict v
    WHERE r.id = ANY (ARRAY[v.id]) AND v.what = 'keep'
), lapsed AS (
    UPDATE hapax_record r
    SET state = 'unknown', reason = 'lapsed', since = r.deadline, deadline = NULL, run_until = NULL, after_failure = NULL,
        starter = NULL, wake_at = CASE WHEN r.wake_at < 9223372036854775807 THEN r.deadline ELSE 9223372036854775807 END,
        look_at = greatest(v.soonest, v.later)
    FROM verdict v
    WHERE r.id = ANY (ARRAY[v.id]) AND v.what = 'lapse'
), stripped AS (
    UPDATE hapax_record r
    SET reason = 'expired', status = NULL, headers = NULL, body = NULL,
        look_at = greatest(v.soonest, v.forget_at)
    FROM verdict v
    WHERE r.id = ANY (ARRAY[v.id]) AND v.what = 'strip'
), forgotten AS (
    DELETE FROM hapax_record r
    USING verdict v
    WHERE r.id = ANY (ARRAY[v.id]) AND v.what = 'forget'
)
SELECT c.now, c.wall,
    (SELECT count(*) FROM verdict WHERE what = 'lapse') AS lapsed,
    (SELECT count(*) FROM verdict WHERE what = 'strip') AS stripped,
    (SELECT count(*) FROM verdict WHERE what = 'forget') AS forgotten,
    (SELECT count(*) FROM verdict) AS looked_at
FROM clock c
