-- Draws ?1 fences at a time that is ?2 or later. Comes first in a step, so that the transaction has the write lock
-- from there on, even one that was begun as a reader.
UPDATE hapax_meta SET last_fence = max(last_fence, ?3) + ?1, last_now = max(last_now, ?2)
WHERE one = 1
RETURNING last_fence, last_now
