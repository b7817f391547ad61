-- Sums hide the position from the planner: few records of a table wait, and their own index has all of them.
, listed AS NOT MATERIALIZED (
    SELECT position + 0 AS position, id, scope, name, key, state, after_failure, deadline, due, since, created, fence,
        tries, status, reason, last_error, input, redriven, group_id
    FROM hapax_record
    WHERE wake_at IS NOT NULL AND state = 'waiting' AND position + 0 > $5::bigint
)
