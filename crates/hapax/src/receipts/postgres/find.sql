SELECT operation, fence, status, content_type, sealed,
       CASE WHEN octet_length(body) <= $2 THEN body END AS body,
       octet_length(body)::bigint AS bytes,
       (extract(epoch FROM at) * 1000)::bigint AS at_ms,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM hapax_receipt
WHERE operation = ANY ($1)
