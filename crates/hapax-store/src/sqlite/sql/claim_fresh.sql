-- The first claim of an operation. No row is written if somebody has claimed it before: then the record decides.
INSERT INTO hapax_record (
    position, fence, id, scope, name, key, recipe, fingerprint, attempt, tries, crashes, created, since,
    replay_for, remember_for, deadline, run_until, after_failure, starter, wake_at, look_at, state, input, group_id
)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, 'running', ?19, ?20)
ON CONFLICT (id) DO NOTHING
