-- Dead letters lie together at the end of the index, in the order of their position.
, listed AS NOT MATERIALIZED (
    SELECT * FROM hapax_record WHERE wake_at = 9223372036854775807 AND state = 'dead' AND position > $5::bigint
)
