-- Guards INSERT INTO hapax_outbox, done in the transaction of the business writes. If it fails, that transaction is
-- rolled back.
CREATE TRIGGER hapax_outbox_guard BEFORE INSERT ON hapax_outbox
BEGIN
    SELECT RAISE(ROLLBACK, 'hapax: an effect needs a name, a key and a payload')
    WHERE NEW.effect IS NULL OR NEW.key IS NULL OR NEW.payload IS NULL;
    SELECT RAISE(ROLLBACK, 'hapax: the name of an effect is a text of 1 to 255 bytes without a control character')
    WHERE typeof(NEW.effect) <> 'text' OR length(CAST(NEW.effect AS BLOB)) NOT BETWEEN 1 AND 255
        OR NEW.effect GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*';
    SELECT RAISE(ROLLBACK, 'hapax: the key of an effect is a text of 1 to 255 bytes without a control character: give the identity of the row that it is about')
    WHERE typeof(NEW.key) <> 'text' OR length(CAST(NEW.key AS BLOB)) NOT BETWEEN 1 AND 255
        OR NEW.key GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*';
    SELECT RAISE(ROLLBACK, 'hapax: the aggregate of an effect is a text of 1 to 255 bytes without a control character, or NULL')
    WHERE NEW.aggregate IS NOT NULL
        AND (typeof(NEW.aggregate) <> 'text' OR length(CAST(NEW.aggregate AS BLOB)) NOT BETWEEN 1 AND 255
            OR NEW.aggregate GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*');
    SELECT RAISE(ROLLBACK, 'hapax: a content type has 1 to 255 printable ASCII characters, such as application/json')
    WHERE length(CAST(NEW.content_type AS BLOB)) NOT BETWEEN 1 AND 255 OR NEW.content_type GLOB '*[^ -~]*';
    SELECT RAISE(ROLLBACK, 'hapax: a payload is a text or a blob of 1048576 bytes at most: store a larger one elsewhere and send its address')
    WHERE typeof(NEW.payload) NOT IN ('text', 'blob') OR length(CAST(NEW.payload AS BLOB)) > 1048576;
END
