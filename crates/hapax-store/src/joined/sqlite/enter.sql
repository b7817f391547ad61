-- An operation that the caller's transaction does: entered as done, and seen by others once that has committed. No row
-- is written if it is known: then its record decides.
INSERT INTO hapax_record (
    position, fence, id, scope, name, key, recipe, fingerprint, attempt, tries, crashes, created, since,
    replay_for, remember_for, look_at, state, status, headers, body
)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, 0, ?9, ?9, ?10, ?11, ?12, 'done', ?13, ?14, ?15)
ON CONFLICT (id) DO NOTHING
RETURNING position
