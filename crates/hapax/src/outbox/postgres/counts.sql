SELECT effect,
    count(*) FILTER (WHERE error IS NULL) AS waiting,
    count(*) FILTER (WHERE error IS NOT NULL) AS failed,
    coalesce((extract(epoch FROM now() - min(at) FILTER (WHERE error IS NULL)) * 1000)::bigint, 0) AS oldest_ms
FROM hapax_outbox
GROUP BY effect
ORDER BY effect
