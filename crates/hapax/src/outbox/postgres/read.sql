SELECT id, effect, key, payload, content_type, aggregate
FROM hapax_outbox
WHERE error IS NULL AND effect = ANY ($1)
ORDER BY id
LIMIT $2
