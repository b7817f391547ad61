SELECT operation, fence, status, content_type, sealed,
       NULL::bytea AS body,
       octet_length(body)::bigint AS bytes,
       (extract(epoch FROM at) * 1000)::bigint AS at_ms,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM hapax_receipt
WHERE operation > $1
ORDER BY operation
LIMIT $2
