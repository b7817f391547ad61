-- Reads every record.
SELECT scope, count(*) FROM hapax_record GROUP BY scope ORDER BY scope COLLATE "C"
