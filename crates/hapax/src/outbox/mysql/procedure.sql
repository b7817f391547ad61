-- Enqueues an effect in the caller's transaction: it is delivered if that commits. The key is the effect's identity:
-- enqueued twice, it is delivered once. If it fails, it has rolled the transaction back. Whoever may execute it needs no
-- rights on the table.
CREATE PROCEDURE hapax_enqueue(
    IN p_effect LONGTEXT CHARACTER SET utf8mb4,
    IN p_key LONGTEXT CHARACTER SET utf8mb4,
    IN p_payload LONGBLOB,
    IN p_content_type LONGTEXT CHARACTER SET utf8mb4,
    IN p_aggregate LONGTEXT CHARACTER SET utf8mb4
)
MODIFIES SQL DATA
SQL SECURITY DEFINER
BEGIN
    DECLARE v_why VARCHAR(128) CHARACTER SET utf8mb4;
    -- The server does not doom a transaction whose statement fails: without this, a caller that goes on would commit.
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    IF p_effect IS NULL OR p_key IS NULL OR p_payload IS NULL THEN
        SET v_why = 'hapax: an effect needs a name, a key and a payload';
    ELSEIF LENGTH(p_effect) NOT BETWEEN 1 AND 255 OR HEX(p_effect) REGEXP '^(..)*([01].|7F)' THEN
        SET v_why = 'hapax: the name of an effect has 1 to 255 bytes and no control character';
    ELSEIF LENGTH(p_key) NOT BETWEEN 1 AND 255 OR HEX(p_key) REGEXP '^(..)*([01].|7F)' THEN
        SET v_why = 'hapax: the key of an effect has 1 to 255 bytes and no control character: give the identity of its row';
    ELSEIF LENGTH(p_aggregate) NOT BETWEEN 1 AND 255 OR HEX(p_aggregate) REGEXP '^(..)*([01].|7F)' THEN
        SET v_why = 'hapax: the aggregate of an effect has 1 to 255 bytes and no control character, or is NULL';
    ELSEIF CHAR_LENGTH(p_content_type) NOT BETWEEN 1 AND 255
        OR HEX(p_content_type) NOT REGEXP '^([2-6][0-9A-F]|7[0-9A-E])*$' THEN
        SET v_why = 'hapax: a content type has 1 to 255 printable ASCII characters, such as application/json';
    ELSEIF LENGTH(p_payload) > 1048576 THEN
        SET v_why = CONCAT('hapax: a payload has 1048576 bytes at most, this one has ', LENGTH(p_payload),
            ': store it elsewhere');
    END IF;
    IF v_why IS NOT NULL THEN
        SIGNAL SQLSTATE 'HX003' SET MESSAGE_TEXT = v_why;
    END IF;
    INSERT INTO hapax_outbox (effect, `key`, payload, content_type, aggregate, at)
    VALUES (p_effect, p_key, p_payload, COALESCE(p_content_type, 'application/json'), p_aggregate, UTC_TIMESTAMP(3));
END
