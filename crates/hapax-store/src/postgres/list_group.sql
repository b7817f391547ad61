-- Few records of a table belong to one group, and their own index has them in the order of their position.
, listed AS NOT MATERIALIZED (
    SELECT * FROM hapax_record WHERE group_id = $15::bytea AND position > $5::bigint
)
