-- The first that is heard of an operation, from somebody who leaves it to the runners. No row is written if it is known:
-- then the record decides.
INSERT INTO hapax_record (
    position, fence, id, scope, name, key, recipe, fingerprint, attempt, tries, crashes, created, since,
    replay_for, remember_for, due, wake_at, look_at, input, state, group_id
)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?9, ?9, ?10, ?11, ?12, ?12, ?13, ?14, 'waiting', ?15)
ON CONFLICT (id) DO NOTHING
