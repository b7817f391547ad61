, listed AS NOT MATERIALIZED (
    SELECT * FROM hapax_record WHERE position > $5::bigint
)
