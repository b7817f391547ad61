-- The store's time: the rule of StoreClock, applied where the wall clock is. Begins every statement, so that all
-- that a statement decides is decided at one time. `room` is how much can be added to it before the far future.
--   $1 last time given out, null before the first   $2 time expected if the wall clock kept step
--   $3 largest step that is followed                $4 a test's time, used as it is
WITH clock AS MATERIALIZED (
    SELECT wall, now, 9223372036854775807 - greatest(now, 0) AS room
    FROM (
        SELECT
            wall,
            CASE
                WHEN $4::bigint IS NOT NULL THEN $4::bigint
                WHEN $1::bigint IS NULL THEN wall
                WHEN abs(wall - $2::bigint) > $3::bigint THEN $2::bigint
                ELSE greatest(wall, $1::bigint)
            END AS now
        FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS wall) AS reading
    ) AS checked
)
