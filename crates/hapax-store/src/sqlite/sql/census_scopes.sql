SELECT scope, count(*) FROM hapax_record WHERE position > ?1 AND position <= ?2 GROUP BY scope
