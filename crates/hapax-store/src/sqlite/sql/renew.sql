-- A run that lives to be renewed is no longer alone.
UPDATE hapax_record
SET deadline = ?3, starter = CASE starter WHEN 'alone' THEN 'system' ELSE starter END
WHERE position = ?1 AND fence = ?2 AND state = 'running'
