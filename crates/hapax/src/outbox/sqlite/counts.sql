SELECT effect,
    count(*) FILTER (WHERE error IS NULL) AS waiting,
    count(*) FILTER (WHERE error IS NOT NULL) AS failed,
    coalesce(
        CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - min(at) FILTER (WHERE error IS NULL), 0
    ) AS oldest_ms
FROM hapax_outbox
GROUP BY effect
ORDER BY effect
